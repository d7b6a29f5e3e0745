"""Training a pipeline's own weights, with the model as it was at hand."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from evenhand.core.errors import UserError
from evenhand.diffusion.lora import components
from evenhand.recipes.lora import Weights


def attach_weights(pipe: Any, what: Weights) -> dict[str, nn.Parameter]:
    """Lets gradients reach weights of the pipeline.

    Returns:
        these by name, `component.layer...`.

    Raises:
        UserError: the pipeline lacks the part, no layer is so called, or the weights are in fewer
            bits than float32, in which small steps are lost.
    """
    found = {}
    for component in components(pipe, what.part, loadable=False):
        for name, parameter in getattr(pipe, component).named_parameters():
            layer = f".{name.rpartition('.')[0]}"
            if what.modules is None or any(layer.endswith(f".{m}") for m in what.modules):
                found[f"{component}.{name}"] = parameter
    if not found:
        raise UserError(
            f"weights.modules: {type(pipe).__name__} has no layer {', '.join(what.modules or [])}"
        )
    if other := {str(p.dtype) for p in found.values() if p.dtype != torch.float32}:
        raise UserError(
            f"weights: are {', '.join(other).replace('torch.', '')}, in which small steps are "
            "lost; train them with dtype=float32"
        )
    for parameter in found.values():
        parameter.requires_grad_(True)
    return found


class Before:
    """A copy of weights as they are now, which may stand in their place for a while.

    Args:
        parameters: the weights.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._pairs = [(p, p.detach().clone()) for p in parameters]

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Context in which the weights are as they were; for calls without gradients."""
        trained = [p.data for p, _ in self._pairs]
        for parameter, before in self._pairs:
            parameter.data = before
        try:
            yield
        finally:
            for (parameter, _), value in zip(self._pairs, trained, strict=True):
                parameter.data = value
