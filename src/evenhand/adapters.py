"""Adapters: LoRA attached to a pipeline, saved so that any diffusers loads it, and loaded again.

Files hold keys that old and new stacks read (`text_encoder.text_model.*`), alpha equal to the rank and no adapter
metadata: without metadata readers take alpha = rank, with it older ones fail.
"""

import json
import os
import pathlib
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.config import Lora
from evenhand.diffusion import DENOISERS, digest
from evenhand.errors import UserError, unknown
from evenhand.files import whole, write_json
from evenhand.resources import ROOT

WEIGHTS = "pytorch_lora_weights.safetensors"
MODULES = {"text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
           "denoiser": ["to_q", "to_k", "to_v", "to_out.0"]}


def component(pipe: Any, part: str) -> str:
    """Name of the pipeline's component that `part` (`text_encoder` or `denoiser`) means."""
    names = DENOISERS if part == "denoiser" else (part,)
    for name in names:
        if isinstance(getattr(pipe, name, None), nn.Module):
            return name
    raise UserError(f"{type(pipe).__name__} has no {part}: lora.part cannot be {part!r} for this model")


def attach_lora(pipe: Any, lora: Lora, *, seed: int) -> list[nn.Parameter]:
    """Adds LoRA to one part of the pipeline.

    Args:
        pipe: a diffusers pipeline.
        lora: part, rank and modules.
        seed: of the initial values; the global generator is left as it was.

    Returns:
        the trainable parameters, float32; B is zero, so the model is unchanged until the first step.
    """
    from peft import LoraConfig

    module = getattr(pipe, component(pipe, lora.part))
    config = LoraConfig(r=lora.rank, lora_alpha=lora.rank, target_modules=lora.modules or MODULES[lora.part],
                        init_lora_weights="gaussian")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module.add_adapter(config)
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters


def lora_state(pipe: Any, lora: Lora) -> dict[str, Tensor]:
    """The LoRA's tensors under the keys of the file."""
    from peft import get_peft_model_state_dict

    name = component(pipe, lora.part)
    state = {}
    for key, value in get_peft_model_state_dict(getattr(pipe, name)).items():
        if name.startswith("text_encoder") and not key.startswith("text_model."):
            key = f"text_model.{key}"  # transformers 5.6 dropped this level from CLIPTextModel; readers expect it
        state[f"{name}.{key}"] = value.detach().cpu().contiguous()
    return state


def save_adapter(folder: str | os.PathLike, state: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Writes the weights and `adapter.json`.

    Args:
        folder: of the adapter.
        state: as `lora_state` returns it.
        description: how it was made: base model, recipe, classifier, target, numbers.
    """
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    with whole(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt", "evenhand": "1"})
    write_json(folder / "adapter.json", {**description, "digest": digest(folder / WEIGHTS)})


def find_adapter(name: str) -> pathlib.Path:
    """The folder of an adapter: a path the user gives, or one that ships.

    Raises:
        UserError: there is none, or it holds no weights.
    """
    shipped = ROOT / "adapters" / name
    folder = pathlib.Path(name) if pathlib.Path(name).is_dir() else shipped
    if not folder.is_dir():
        raise unknown("adapter", name, [p.parent.name for p in (ROOT / "adapters").glob(f"*/{WEIGHTS}")])
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"adapter {name!r}: {folder} holds no {WEIGHTS}")
    return folder


def describe_adapter(name: str) -> dict[str, Any]:
    """What `adapter.json` says; {} where an adapter made elsewhere has none."""
    path = find_adapter(name) / "adapter.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def load_adapter(pipe: Any, name: str, *, scale: float = 1.0) -> str:
    """Loads an adapter into a stock pipeline with its own loader.

    Returns:
        `name@digest`, for the source of records.

    Raises:
        UserError: not there, damaged, or not of this model.
    """
    folder = find_adapter(name)
    try:
        pipe.load_lora_weights(str(folder), weight_name=WEIGHTS, adapter_name="evenhand")
        pipe.set_adapters("evenhand", scale)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"adapter {name!r}: {folder / WEIGHTS} cannot be loaded into {type(pipe).__name__}: {reason}") from error
    return f"{folder.name}@{digest(folder / WEIGHTS)}" + (f"*{scale:g}" if scale != 1 else "")
