"""Soft tokens: learned embeddings in front of every prompt."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenhand.core.adapters import CLIP_NAMES
from evenhand.diffusion.adapters import clip_encoders
from evenhand.diffusion.pipeline import Diffusion
from evenhand.recipes.lora import SoftTokens


def attach_soft_tokens(diffusion: Diffusion, soft: SoftTokens, *, seed: int) -> list[nn.Parameter]:
    """Puts learned tokens in front of every prompt (not of the negative one).

    Each starts as a random vocabulary embedding.

    Shen et al., ICLR 2024, section 5 ("prefix tuning"). The pipeline's own textual-inversion loader
    makes room for them; a hook on the embedding layer reads the parameters in training instead of
    its rows.
    """
    pipe = diffusion.pipe
    parameters = []
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for tokenizer, encoder in clip_encoders(pipe):
            vocabulary = encoder.get_input_embeddings().weight
            start = vocabulary[torch.randint(len(vocabulary), (soft.count,))].detach().clone()
            first = len(tokenizer)
            pipe.load_textual_inversion(
                start, token=soft.token, tokenizer=tokenizer, text_encoder=encoder
            )
            encoder.requires_grad_(False)
            parameters.append(nn.Parameter(start.float()))
            encoder.get_input_embeddings().register_forward_hook(
                functools.partial(_embed, parameters[-1], first)
            )
    diffusion.prefix = f"{soft.token} "
    return parameters


def soft_tokens_state(parameters: list[nn.Parameter], soft: SoftTokens) -> dict[str, Tensor]:
    """The tokens under the keys of the file: their name, or one key a text encoder."""
    keys = [soft.token] if len(parameters) == 1 else CLIP_NAMES
    return {key: p.detach().cpu().clone() for key, p in zip(keys, parameters, strict=True)}


def _embed(
    tokens: Tensor, first: int, module: nn.Module, args: tuple[Tensor], output: Tensor
) -> Tensor:
    """Embeddings in which the ids from `first` on are the tokens in training."""
    place = (args[0] - first).clamp(min=0, max=len(tokens) - 1)
    return torch.where(
        (args[0] >= first)[..., None], F.embedding(place, tokens).to(output.dtype), output
    )
