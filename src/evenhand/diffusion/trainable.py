"""What is trained in a pipeline.

LoRA on text encoders and denoiser, soft tokens in front of the prompt, or the weights themselves.

Always the rest of the pipeline stays frozen, and the frozen model can be drawn from at any time.
LoRA and soft tokens go into one file that the pipeline's own loader takes
(`evenhand.diffusion.adapters`); weights into a folder of the whole pipeline.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from evenhand.core.adapters import LORA, SOFT_TOKENS, find_adapter
from evenhand.diffusion.lora import attach_lora, components, lora_state, without_lora
from evenhand.diffusion.own_weights import Before, attach_weights
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.soft_tokens import attach_soft_tokens, soft_tokens_state
from evenhand.recipes.lora import Lora, SoftTokens, Weights


@dataclass(frozen=True)
class Trainable:
    """Parameters in training.

    Attributes:
        named: the parameters by name, float32, on the pipeline's device.
        file: name of the file that they are saved in; none for the model's own weights.
        state: the tensors of that file.
        frozen: context in which the pipeline draws as if nothing had been trained.
    """

    named: dict[str, nn.Parameter]
    file: str
    state: Callable[[], dict[str, Tensor]]
    frozen: Callable[[], AbstractContextManager]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters, in order."""
        return list(self.named.values())


def attach(diffusion: Diffusion, what: Lora | SoftTokens | Weights, *, seed: int) -> Trainable:
    """Adds LoRA or soft tokens to a pipeline, or opens its weights to training.

    Raises:
        UserError: the pipeline's loader could not load the result.
    """
    if isinstance(what, Weights):
        named = attach_weights(diffusion.pipe, what)
        return Trainable(named, "", dict[str, Tensor], Before(list(named.values())).restored)
    if isinstance(what, SoftTokens):
        tokens = attach_soft_tokens(diffusion, what, seed=seed)
        return Trainable(
            {f"soft_tokens.{i}": p for i, p in enumerate(tokens)},
            SOFT_TOKENS,
            functools.partial(soft_tokens_state, tokens, what),
            diffusion.without_prefix,
        )
    parameters = attach_lora(diffusion.pipe, what, seed=seed)
    modules = [getattr(diffusion.pipe, name) for name in components(diffusion.pipe, what.part)]
    return Trainable(
        parameters,
        LORA,
        functools.partial(lora_state, diffusion.pipe, what),
        functools.partial(without_lora, modules),
    )


def started_from(what: Lora | SoftTokens | Weights) -> dict[str, Any]:
    """What the description of a training's result says of the adapter that it began from."""
    if isinstance(what, Lora) and what.start:
        return {"start": find_adapter(what.start).as_start}
    return {}
