"""The network that is trained: its logits, what its last layer saw, and an objective's state."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evenhand.classify.examples import Examples
from evenhand.classify.judge_network import Normalised, last_layer
from evenhand.devices import autocast
from evenhand.images.tensors import to_float


class Outputs(NamedTuple):
    """Logits `[N, K]`, the last layer's input `[N, D]`, and the biased network's logits (LfF)."""

    logits: Tensor
    features: Tensor
    biased: Tensor | None = None


class Classifier(nn.Module):
    """A classifier of transformers on images in [0, 1].

    Args:
        network: with its last layer.
        processor: says how images are normalised.
        labels: classes of the target.
        where: the network is from, for errors.
        biased: LfF's second network.

    Raises:
        UserError: it has no last layer of so many labels.
    """

    state: Tensor

    def __init__(
        self, network: Any, processor: Any, labels: int, where: str, biased: Any = None
    ) -> None:
        super().__init__()
        mean, std = processor.image_mean, processor.image_std
        self.body = Normalised(network, mean, std)
        self.biased = None if biased is None else Normalised(biased, mean, std)
        self.last = [last_layer(network, labels, where)]  # in a list: it is no module of its own
        self.register_buffer("state", torch.zeros(0))  # an objective's: checkpoints hold it

    def forward(self, images: Tensor) -> Outputs:
        """Images `[N, 3, S, S]` -> what they give."""
        seen: list[Tensor] = []
        hook = self.last[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self.body(images)
        finally:
            hook.remove()
        biased = self.biased(images) if self.biased is not None else None
        return Outputs(logits, seen[-1].float(), biased)

    def names_of_last(self) -> list[str]:
        """Names of the last layer's parameters."""
        own = {id(p) for p in self.last[0].parameters()}
        return [name for name, p in self.named_parameters() if id(p) in own]


@torch.no_grad()
def evaluated(
    model: nn.Module, data: Any, *, batch: int, dtype: str, device: torch.device
) -> Iterator[Any]:
    """What a network gives for images in evaluation mode, batch by batch.

    Args:
        model: called with images.
        data: as `evenhand.training.fit.fit` takes it.
        batch: of the training; four times as many pass at once.
        dtype: as of `evenhand.training.fit.Passes`.
        device: of the network.
    """
    model.to(device).eval()
    for places in torch.arange(len(data)).split(4 * batch):
        images = torch.stack([data[i]["images"] for i in places.tolist()]).to(device)
        with autocast(dtype, device):
            outputs = model(to_float(images))
        yield outputs


def passed(
    model: Classifier, data: Examples, *, batch: int, dtype: str, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and features of images, as of `evaluated`, float32 on the CPU."""
    for outputs in evaluated(model, data, batch=batch, dtype=dtype, device=device):
        yield outputs.logits.float().cpu(), outputs.features.cpu()
