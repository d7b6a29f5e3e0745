"""What is trained in a pipeline: LoRA on text encoders and denoiser, or soft tokens in front of the prompt.

Either way the rest of the pipeline stays frozen, the frozen model can be drawn from at any time, and the result goes into
one file that the pipeline's own loader takes (`evenhand.adapters`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenhand.adapters import CLIP_NAMES, LORA, SOFT_TOKENS, clip_encoders
from evenhand.diffusion import DENOISERS, Diffusion
from evenhand.errors import UserError
from evenhand.recipes import Lora, SoftTokens

MODULES = {"text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
           "denoiser": ["to_q", "to_k", "to_v", "to_out.0"]}


@dataclass(frozen=True)
class Trainable:
    """Parameters in training.

    Attributes:
        parameters: float32, on the pipeline's device.
        file: name of the file that they are saved in.
        state: the tensors of that file.
        frozen: context in which the pipeline draws as if nothing had been trained.
    """

    parameters: list[nn.Parameter]
    file: str
    state: Callable[[], dict[str, Tensor]]
    frozen: Callable[[], AbstractContextManager]


def attach(diffusion: Diffusion, what: Lora | SoftTokens, *, seed: int) -> Trainable:
    """Adds LoRA or soft tokens to a pipeline.

    Raises:
        UserError: the pipeline's loader could not load the result.
    """
    if isinstance(what, SoftTokens):
        return attach_soft_tokens(diffusion, what, seed=seed)
    parameters = attach_lora(diffusion.pipe, what, seed=seed)
    modules = [getattr(diffusion.pipe, name) for name in components(diffusion.pipe, what.part)]
    return Trainable(parameters, LORA, functools.partial(lora_state, diffusion.pipe, what),
                     functools.partial(_without_lora, modules))


def components(pipe: Any, part: str) -> list[str]:
    """Names of the pipeline's components that `part` (`text_encoder`, `denoiser` or `both`) means.

    Raises:
        UserError: the pipeline lacks them, or its LoRA loader takes none for them.
    """
    present = [name for name, module in pipe.components.items() if isinstance(module, nn.Module)]
    encoders = [n for n in present if n.startswith("text_encoder") and type(getattr(pipe, n)).__name__.startswith("CLIPText")]
    found = {"denoiser": [n for n in DENOISERS if n in present], "text_encoder": encoders}
    names = [name for wanted in (("text_encoder", "denoiser") if part == "both" else (part,)) for name in found[wanted]]
    loadable = getattr(pipe, "_lora_loadable_modules", [])
    refused = [name for name in names if name not in loadable]
    if refused or not names or (part == "both" and not encoders):
        raise UserError(f"lora.part={part}: {type(pipe).__name__} loads LoRA for {', '.join(loadable) or 'nothing'} only"
                        + (f", not for {', '.join(refused)}" if refused else " and has no CLIP text encoder"))
    return names


def attach_lora(pipe: Any, lora: Lora, *, seed: int) -> list[nn.Parameter]:
    """Adds LoRA to parts of the pipeline.

    Args:
        pipe: a diffusers pipeline.
        lora: part, rank and modules.
        seed: of the initial values; the global generator is left as it was.

    Returns:
        the trainable parameters, float32; B is zero, so the model is unchanged until the first step.
    """
    from peft import LoraConfig

    parameters = []
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for name in components(pipe, lora.part):
            modules = lora.modules or MODULES["denoiser" if name in DENOISERS else "text_encoder"]
            module = getattr(pipe, name)
            module.add_adapter(LoraConfig(r=lora.rank, lora_alpha=lora.rank, target_modules=modules,
                                          init_lora_weights="gaussian"))
            parameters += [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    return parameters


def lora_state(pipe: Any, lora: Lora) -> dict[str, Tensor]:
    """The LoRA's tensors under the keys of the file."""
    from peft import get_peft_model_state_dict

    state = {}
    for name in components(pipe, lora.part):
        for key, value in get_peft_model_state_dict(getattr(pipe, name)).items():
            if name.startswith("text_encoder") and not key.startswith("text_model."):
                key = f"text_model.{key}"  # transformers 5.6 dropped this level from CLIPTextModel; readers expect it
            state[f"{name}.{key}"] = value.detach().cpu().contiguous()
    return state


@contextlib.contextmanager
def _without_lora(modules: list[Any]) -> Iterator[None]:
    for module in modules:
        module.disable_adapters()
    try:
        yield
    finally:
        for module in modules:
            module.enable_adapters()


def attach_soft_tokens(diffusion: Diffusion, soft: SoftTokens, *, seed: int) -> Trainable:
    """Puts learned tokens in front of every prompt (not of the negative one); each starts as a random vocabulary embedding.

    Shen et al., ICLR 2024, section 5 ("prefix tuning"). The pipeline's own textual-inversion loader makes room for them; a hook on
    the embedding layer reads the parameters in training instead of its rows.
    """
    pipe = diffusion.pipe
    parameters = []
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for tokenizer, encoder in clip_encoders(pipe):
            vocabulary = encoder.get_input_embeddings().weight
            start = vocabulary[torch.randint(len(vocabulary), (soft.count,))].detach().clone()
            first = len(tokenizer)
            pipe.load_textual_inversion(start, token=soft.token, tokenizer=tokenizer, text_encoder=encoder)
            encoder.requires_grad_(False)
            parameters.append(nn.Parameter(start.float()))
            encoder.get_input_embeddings().register_forward_hook(functools.partial(_embed, parameters[-1], first))
    diffusion.prefix = f"{soft.token} "

    def state() -> dict[str, Tensor]:
        keys = [soft.token] if len(parameters) == 1 else CLIP_NAMES
        return {key: p.detach().cpu().clone() for key, p in zip(keys, parameters, strict=True)}

    return Trainable(parameters, SOFT_TOKENS, state, diffusion.without_prefix)


def _embed(tokens: Tensor, first: int, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    """Embeddings in which the ids from `first` on are the tokens in training."""
    place = (args[0] - first).clamp(min=0, max=len(tokens) - 1)
    return torch.where((args[0] >= first)[..., None], F.embedding(place, tokens).to(output.dtype), output)
