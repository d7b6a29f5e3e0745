"""Attribute classifiers: images in, perceived classes out.

Each is chosen in YAML (`eval/judges/*.yaml`).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from evenhand.core.attributes import Attribute
from evenhand.images.tensors import refuse_not_finite


@dataclass(frozen=True)
class Predictions:
    """What was perceived in N images.

    Attributes:
        logits: `{attribute: [N, K]}`, differentiable in the images.
        seen: `[N]` bool: whether there was something to judge. Rows not seen hold logits of no
            meaning.
        boxes: `[N, 4]` pixels (left, top, right, bottom) of what was judged, which may reach
            beyond the image; None where it was the whole image.
        faces: `[N]` int: how many faces were found, of which the largest was judged; None without
            face detection.
    """

    logits: dict[str, Tensor]
    seen: Tensor
    boxes: Tensor | None = None
    faces: Tensor | None = None

    @property
    def probs(self) -> dict[str, Tensor]:
        """`{attribute: [N, K]}`, rows sum to 1."""
        return {name: logits.softmax(-1) for name, logits in self.logits.items()}

    def to(self, device: torch.device) -> "Predictions":
        """The same on a device."""
        boxes, faces = (None if x is None else x.to(device) for x in (self.boxes, self.faces))
        logits = {name: logits.to(device) for name, logits in self.logits.items()}
        return Predictions(logits, self.seen.to(device), boxes, faces)


class Judge(Protocol):
    """What the rest of the toolkit needs of a classifier; the caller decides about gradients.

    Attributes:
        name: as it was found by.
        digest: of its weights and of the settings that decide its answers, wherever they lie.
        attributes: what it perceives, by name.
        concept: the attribute that names a prompt's concept, if it perceives that.
        side: pixels of an image's shorter side that are enough for it; None where all may count.
    """

    name: str
    digest: str
    attributes: dict[str, Attribute]
    concept: str | None
    side: int | None

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1] on any device; the answers are on that one."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features `[N, D]` of the images, differentiable, on the images' device."""
        ...

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute, the concept's included."""
        ...


@torch.no_grad()
def answers(judge: Judge, images: Tensor) -> Predictions:
    """What a judge perceives in images `[N, 3, H, W]`, without gradients: for everything counted.

    Raises:
        UserError: images or answers that are not finite, of which NaN would count as a class.
    """
    refuse_not_finite(images, "the images", "the model or adapter that drew them is damaged")
    found = judge(images)
    for name, logits in found.logits.items():
        refuse_not_finite(
            logits,
            f"judge {judge.name!r}: its answers about {name!r}",
            "its weights are damaged, or its training diverged",
        )
    return found
