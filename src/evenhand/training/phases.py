"""What of a network a training changes: phases, each with its own parameters and optimizer."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from evenhand.core.errors import UserError, unknown
from evenhand.recipes.optimisation import Optimisation

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Phase:
    """A part of a training with its own optimizer.

    Attributes:
        optimisation: how the weights follow the gradient; the schedule spans the phase.
        epochs: at most.
        trained: names of the parameters that are trained; all that require a gradient when None.
            The others stay bit for bit as they are.
        batch_norm: `update`: batch norms use each batch's statistics and keep running averages;
            `freeze`: they use their running averages, which stay as they are.
        patience: the phase ends when the validation score has not risen for so many epochs; None
            never does, nor does a training without validation.
    """

    optimisation: Optimisation
    epochs: int
    trained: Collection[str] | None = None
    batch_norm: Literal["update", "freeze"] = "update"
    patience: int | None = None


def kept_names(model: nn.Module, phases: Sequence[Phase]) -> list[str]:
    """Names of the weights and buffers that some phase changes.

    Raises:
        UserError: a phase names a parameter that there is not, or none.
    """
    every = {name: p.requires_grad for name, p in model.named_parameters()}
    trained: set[str] = set()
    for phase in phases:
        names = {n for n, on in every.items() if on} if phase.trained is None else phase.trained
        if wrong := set(names) - every.keys():
            raise unknown("parameter", sorted(wrong)[0], every, where="phase.trained")
        if not names:
            raise UserError("phase.trained: names no parameter to be trained")
        trained |= set(names)
    return [name for name in model.state_dict() if name not in every.keys() - trained]


@contextlib.contextmanager
def only(model: nn.Module, phase: Phase) -> Iterator[list[tuple[str, nn.Parameter]]]:
    """Context in which the phase's parameters, which it yields, require gradients and no others."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(before[name] if phase.trained is None else name in phase.trained)
        parameter.grad = None
    try:
        yield [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])


def set_modes(model: nn.Module, phase: Phase) -> None:
    """Training mode, but for batch norms that the phase freezes."""
    model.train()
    if phase.batch_norm == "freeze":
        for module in model.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
