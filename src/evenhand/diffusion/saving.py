"""Drawing with less of an accelerator's memory: offloading, tiles, slices, fewer bits."""

import importlib.util
from typing import Any

import torch

from evenhand.core.errors import UserError
from evenhand.recipes.model import Model, Quantise

PACKAGES = {  # module, and what installs it
    "bitsandbytes_4bit": ("bitsandbytes", "bitsandbytes"),
    "bitsandbytes_8bit": ("bitsandbytes", "bitsandbytes"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "torchao": ("torchao", "torchao"),
}


def quantisation(model: Model) -> dict[str, Any]:
    """The argument of `from_pretrained` for weights in fewer bits; {} for weights as they are.

    Raises:
        UserError: the library that does it is not installed, or refuses its options.
    """
    if model.quantise is None:
        return {}
    refuse_missing(model.quantise)
    from diffusers.quantizers.pipe_quant_config import PipelineQuantizationConfig

    wanted = model.quantise
    try:
        config = PipelineQuantizationConfig(
            quant_backend=wanted.backend,
            quant_kwargs=wanted.options,
            components_to_quantize=wanted.components or None,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"quantise: {wanted.backend}: {' '.join(str(error).split())}") from error
    return {"quantization_config": config}


def refuse_missing(wanted: Quantise) -> None:
    """Raises UserError where the library that a backend needs is not installed."""
    module, package = PACKAGES[wanted.backend]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of the package around it
        found = None
    if found is None:
        raise UserError(f"quantise: {wanted.backend} needs {package}: pip install {package}")


def place(pipe: Any, model: Model, device: torch.device) -> None:
    """Puts a pipeline where it draws, and lets it decode as the model's YAML says.

    Raises:
        UserError: its autoencoder cannot decode so, or it has none.
    """
    decoder = getattr(pipe, "vae", None)
    for wanted, name in ((model.vae_tiling, "tiling"), (model.vae_slicing, "slicing")):
        if not wanted:
            continue
        if not hasattr(decoder, f"enable_{name}"):
            raise UserError(
                f"vae_{name}: {type(pipe).__name__} has no autoencoder that can do so; leave it out"
            )
        getattr(decoder, f"enable_{name}")()
    if model.offload == "none" or device.type == "cpu":
        pipe.to(device)
    elif model.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)
