"""LoRA as other software reads it: kohya's layout, or a folder of ours from one made elsewhere.

Either way every layer has one rank, and alpha equals it: readers that know no alpha, or one for all
layers, load each at its strength.
"""

import pathlib
from typing import Any

import torch
from torch import Tensor, nn

from evenhand.core.adapters import LORA, Adapter, Mix
from evenhand.core.errors import UserError, loading
from evenhand.core.files import whole
from evenhand.diffusion.adapters import pipe_name, save_adapter
from evenhand.diffusion.lora import file_key
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.recipes.model import Model

KOHYA = "kohya"
DIFFUSERS = "diffusers"
NAMED_BY_KOHYA = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def export(
    adapter: Adapter, model: Model, out: pathlib.Path, *, layout: str, strength: float = 1.0
) -> None:
    """Writes a LoRA at a strength, which is the file's full strength from then on.

    Args:
        adapter: of any layout.
        model: its base model; loaded on the CPU in float32.
        out: the file (kohya), or the folder (diffusers); it is not there yet.
        layout: `KOHYA` or `DIFFUSERS`.
        strength: of the adapter.

    Raises:
        UserError: soft tokens; an adapter that is not of this model; or a layout that does not
            describe this adapter or this family.
    """
    if not adapter.is_lora:
        raise UserError(
            f"adapter {adapter.name!r}: soft tokens are one file for all software already: put "
            f"{adapter.weights} into the folder `embeddings` of ComfyUI or AUTOMATIC1111"
        )
    exact = model.model_copy(update={"dtype": "float32"})
    diffusion = load_diffusion(exact, adapter=Mix(((adapter, strength),)), device="cpu")
    pipe, state = diffusion.pipe, lora_of_one_rank(diffusion.pipe, pipe_name(adapter))
    if layout == KOHYA:
        _write_kohya(pipe, state, out)
    else:
        made = {"source": adapter.source, "file": adapter.weights.name, "strength": strength}
        base = diffusion.source.partition("+")[0]
        save_adapter(out, LORA, state, {"base_model": base, "made_elsewhere": made})
    _check_written(pipe, state, out / LORA if layout == DIFFUSERS else out)


def lora_of_one_rank(pipe: Any, name: str) -> dict[str, Tensor]:
    """The LoRA of this name that a pipeline holds, with its present strength in its matrices.

    Matrices of a smaller rank than the largest are filled up with zeros, which changes nothing.

    Returns:
        tensors under the keys of our files: A `[r, in, ...]` and B `[out, r, ...]` of each layer,
        and the vector of lengths where it is DoRA.
    """
    layers: dict[str, Any] = {
        file_key(component, path): layer
        for component, network in pipe.components.items()
        if isinstance(network, nn.Module)
        for path, layer in network.named_modules()
        if name in getattr(layer, "lora_A", {})
    }
    rank = max(len(layer.lora_A[name].weight) for layer in layers.values())
    state = {}
    for key, layer in layers.items():
        down = layer.lora_A[name].weight
        up = layer.lora_B[name].weight * layer.scaling[name]
        more = rank - len(down)
        state[f"{key}.lora_A.weight"] = torch.cat([down, down.new_zeros(more, *down.shape[1:])])
        filled = up.new_zeros(len(up), more, *up.shape[2:])
        state[f"{key}.lora_B.weight"] = torch.cat([up, filled], dim=1)
        if layer.lora_B[name].bias is not None:
            state[f"{key}.lora_B.bias"] = layer.lora_B[name].bias * layer.scaling[name]
        if name in getattr(layer, "lora_magnitude_vector", {}):
            state[f"{key}.lora_magnitude_vector"] = layer.lora_magnitude_vector[name].weight
    return {key: value.detach().float().contiguous() for key, value in state.items()}


def _write_kohya(pipe: Any, state: dict[str, Tensor], file: pathlib.Path) -> None:
    """Writes the layout of kohya's trainer, which ComfyUI and AUTOMATIC1111 read.

    Raises:
        UserError: it has no names for this family, or for what is no plain LoRA.
    """
    from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
    from safetensors.torch import save_file

    if type(pipe).__name__ not in NAMED_BY_KOHYA:
        raise UserError(
            f"kohya's layout is of Stable Diffusion 1, 2 and XL, not of {type(pipe).__name__}: "
            f"ComfyUI reads its adapters in diffusers' layout, --format {DIFFUSERS}"
        )
    if other := [key for key in state if not key.endswith(("lora_A.weight", "lora_B.weight"))]:
        raise UserError(
            f"kohya's layout has no name for {other[0]}: export to --format {DIFFUSERS}"
        )
    rank = str(len(next(iter(state.values()))))
    named = convert_state_dict_to_kohya(state)
    if getattr(pipe, "text_encoder_2", None) is None:  # numbered where there are several
        named = {key.replace("lora_te1_", "lora_te_"): value for key, value in named.items()}
    facts = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
    }
    with whole(file) as temporary:
        save_file({k: x.float().contiguous() for k, x in named.items()}, temporary, metadata=facts)


def _check_written(pipe: Any, state: dict[str, Tensor], file: pathlib.Path) -> None:
    """Reads the file by the pipeline's own loader alone, and compares every tensor.

    Raises:
        UserError: it holds something else; names the tensor. The file is removed.
    """
    pipe.unload_lora_weights()
    with loading(str(file)):
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="written")
    found = lora_of_one_rank(pipe, "written")
    differing = [k for k in state if k not in found or not torch.equal(found[k], state[k])]
    if differing or len(found) > len(state):
        file.unlink()
        raise UserError(
            f"{file}: stock diffusers would not read {[*differing, *found][0]} as it was written, "
            "so it was removed; export to another --format"
        )
