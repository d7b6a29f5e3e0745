"""LoRA on text encoders and denoiser of a pipeline."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.core.adapters import Adapter, find_adapter
from evenhand.core.errors import UserError, loading
from evenhand.diffusion.pipeline import DENOISERS
from evenhand.recipes.lora import Lora

MODULES = {
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "denoiser": ["to_q", "to_k", "to_v", "to_out.0"],
}


def components(pipe: Any, part: str, *, loadable: bool = True) -> list[str]:
    """Names of the pipeline's components that `part` (`text_encoder`, `denoiser` or `both`) means.

    Args:
        pipe: a diffusers pipeline.
        part: which.
        loadable: only those are right for which the pipeline's own loader takes LoRA.

    Raises:
        UserError: the pipeline lacks them, or its LoRA loader takes none for them.
    """
    present = [name for name, module in pipe.components.items() if isinstance(module, nn.Module)]
    encoders = [
        n
        for n in present
        if n.startswith("text_encoder") and type(getattr(pipe, n)).__name__.startswith("CLIPText")
    ]
    found = {"denoiser": [n for n in DENOISERS if n in present], "text_encoder": encoders}
    names = [
        name
        for wanted in (("text_encoder", "denoiser") if part == "both" else (part,))
        for name in found[wanted]
    ]
    if names and not loadable:
        return names
    takes = getattr(pipe, "_lora_loadable_modules", [])
    refused = [name for name in names if name not in takes]
    if refused or not names or (part == "both" and not encoders):
        raise UserError(
            f"lora.part={part}: {type(pipe).__name__} loads LoRA for "
            f"{', '.join(takes) or 'nothing'} only"
            + (f", not for {', '.join(refused)}" if refused else " and has no CLIP text encoder")
        )
    return names


def attach_lora(pipe: Any, lora: Lora, *, seed: int) -> dict[str, nn.Parameter]:
    """Adds LoRA to parts of the pipeline.

    Args:
        pipe: a diffusers pipeline.
        lora: part, rank and modules.
        seed: of the initial values; the global generator is left as it was.

    Returns:
        the trainable parameters by name, `component.module...`, float32; B is zero, so the model
        is unchanged until the first step.
    """
    from peft import LoraConfig

    parameters = {}
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for name in components(pipe, lora.part):
            modules = lora.modules or MODULES["denoiser" if name in DENOISERS else "text_encoder"]
            module = getattr(pipe, name)
            with loading(f"lora.modules of the {name}", advice="Name linear layers of it"):
                module.add_adapter(
                    LoraConfig(
                        r=lora.rank,
                        lora_alpha=lora.rank,
                        target_modules=modules,
                        init_lora_weights="gaussian",
                    )
                )
            trained = [(key, p) for key, p in module.named_parameters() if p.requires_grad]
            parameters.update({f"{name}.{key}": p for key, p in trained})
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
    if lora.start:
        _begin(pipe, lora, find_adapter(lora.start))
    return parameters


def _begin(pipe: Any, lora: Lora, adapter: Adapter) -> None:
    """Gives the LoRA that was just added the values of an adapter.

    Raises:
        UserError: it is not LoRA of the same layers and rank.
    """
    from safetensors.torch import load_file

    values = load_file(adapter.weights) if adapter.is_lora else {}
    here = lora_state(pipe, lora, copy=False)
    shapes = [{key: tuple(x.shape) for key, x in state.items()} for state in (values, here)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"lora.start: adapter {adapter.name!r} is no LoRA of rank {lora.rank} on just these "
            f"layers ({lora.part}); train with its part, rank and modules"
        )
    for key, value in values.items():
        if not value.isfinite().all():
            raise UserError(f"lora.start: adapter {adapter.name!r}: {key} is not finite")
        here[key].copy_(value)


def lora_state(pipe: Any, lora: Lora, *, copy: bool = True) -> dict[str, Tensor]:
    """The LoRA's tensors under the keys of the file; with `copy=False` those in training."""
    from peft import get_peft_model_state_dict

    state = {}
    for name in components(pipe, lora.part):
        for key, value in get_peft_model_state_dict(getattr(pipe, name)).items():
            value = value.detach()
            state[file_key(name, key)] = value.cpu().contiguous() if copy else value
    return state


def file_key(component: str, key: str) -> str:
    """The name in a file of a tensor that a component of the pipeline calls `key`."""
    if component.startswith("text_encoder") and not key.startswith("text_model."):
        # transformers 5.6 dropped this level from CLIPTextModel; readers expect it
        key = f"text_model.{key}"
    return f"{component}.{key}"


@contextlib.contextmanager
def without_lora(modules: list[Any]) -> Iterator[None]:
    """Context in which the modules run without their LoRA; what is trained stays as it was."""
    trained = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    for module in modules:
        module.disable_adapters()
    try:
        yield
    finally:
        for module in modules:
            module.enable_adapters()
        for parameter, on in trained:  # enabling lets gradients reach all of the LoRA
            parameter.requires_grad_(on)
