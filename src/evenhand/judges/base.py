"""Attribute classifiers: images in, perceived classes out.

Each is chosen in YAML (`eval/judges/*.yaml`).
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from evenhand.core.attributes import Attribute


@dataclass(frozen=True)
class Predictions:
    """What was perceived in N images.

    Attributes:
        logits: `{attribute: [N, K]}`, differentiable in the images.
        seen: `[N]` bool: whether there was something to judge. Rows not seen hold logits of no
            meaning.
        boxes: `[N, 4]` pixels (left, top, right, bottom) of what was judged; None where it was the
            whole image.
    """

    logits: dict[str, Tensor]
    seen: Tensor
    boxes: Tensor | None = None

    @property
    def probs(self) -> dict[str, Tensor]:
        """`{attribute: [N, K]}`, rows sum to 1."""
        return {name: logits.softmax(-1) for name, logits in self.logits.items()}


class Judge(Protocol):
    """What the rest of the toolkit needs of a classifier; the caller decides about gradients."""

    name: str
    digest: str
    attributes: dict[str, Attribute]
    concept: str | None

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1]."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features `[N, D]` of the images, differentiable."""
        ...

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute, the concept's included."""
        ...
