"""Gradients of a network as it is: nothing is stepped."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from evenhand.training.fit import Loss, Passes, batches, forward, read


@dataclass(frozen=True)
class Gradients:
    """Of each parameter: the mean over batches, and the mean square of single batches'."""

    mean: dict[str, Tensor]
    square: dict[str, float]


def mean_gradients(
    model: nn.Module,
    data: Dataset,
    loss: Loss,
    *,
    passes: Passes,
    key: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Gradients:
    """The gradient of the loss, signed, averaged over one pass through the data.

    The network is in training mode, as a training would have it: batch norms use each batch's
    statistics, images are augmented. Weights and buffers are as they were afterwards.

    Args:
        model: called with images.
        data: as `evenhand.training.fit.fit` takes it.
        loss: of what the model returns and the batch.
        passes: how images pass through.
        key: tells the draws of several passes apart.
        progress: called with (batches done, batches in all).
    """
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    named = [(name, p) for name, p in model.to(passes.device).named_parameters() if p.requires_grad]
    sums = {name: torch.zeros_like(p) for name, p in named}
    squares = dict.fromkeys(sums, 0.0)
    total = len(batches(data, passes, key, 0))
    model.train()
    for done, (batch, generator) in enumerate(read(data, passes, key, 0), start=1):
        value = forward(model, loss, batch, passes, generator)
        if value is not None:
            model.zero_grad()
            value.backward()
            for name, p in named:
                if p.grad is not None:
                    sums[name] += p.grad / total
                    squares[name] += float(p.grad.square().mean()) / total
        if progress:
            progress(done, total)
    model.zero_grad()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return Gradients({name: g.cpu() for name, g in sums.items()}, squares)
