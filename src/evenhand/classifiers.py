"""Attribute classifiers: images in, perceived classes out. Each is chosen in YAML (`eval/classifiers/*.yaml`)."""

import pathlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.attributes import Attribute
from evenhand.classifier_config import load_classifier_config
from evenhand.files import digest
from evenhand.resources import locate


@dataclass(frozen=True)
class Predictions:
    """What was perceived in N images.

    Attributes:
        logits: `{attribute: [N, K]}`, differentiable in the images.
        seen: `[N]` bool: whether there was something to judge. Rows not seen hold logits of no meaning.
        boxes: `[N, 4]` pixels (left, top, right, bottom) of what was judged; None where it was the whole image.
    """

    logits: dict[str, Tensor]
    seen: Tensor
    boxes: Tensor | None = None

    @property
    def probs(self) -> dict[str, Tensor]:
        """`{attribute: [N, K]}`, rows sum to 1."""
        return {name: logits.softmax(-1) for name, logits in self.logits.items()}


class AttributeClassifier(Protocol):
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


class EmojiNet:
    """The embedded world's classifiers (`evenhand.emoji.classifier`)."""

    def __init__(self, name: str, *, device: str | torch.device = "cpu") -> None:
        from evenhand.emoji.classifier import EmojiClassifier

        config = load_classifier_config(name)
        folder = pathlib.Path(locate(config.path))
        self.name, self.concept, self._least = name, config.concept, config.seen
        self.attributes = config.known
        self.network = EmojiClassifier.load(folder).to(device)
        for attribute in self.attributes.values():
            if self.network.config["classes"].get(attribute.name) != attribute.classes:
                raise ValueError(f"classifier {name!r}: {folder} has classes "
                                 f"{self.network.config['classes'].get(attribute.name)} for {attribute.name!r}, "
                                 f"its YAML says {attribute.classes}")
        self.digest = digest(folder / "model.safetensors")

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute, the concept's included, in the order of the logits."""
        return self.network.config["classes"][name]

    def _fit(self, images: Tensor) -> Tensor:
        size = self.network.config["size"]
        if images.shape[-2:] == (size, size):
            return images
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1]; seen where the best concept's probability reaches the YAML's `seen`."""
        logits = self.network(self._fit(images))
        seen = torch.ones(len(images), dtype=torch.bool, device=images.device)
        if self.concept:
            seen = logits[self.concept].detach().softmax(-1).amax(-1) >= self._least
        return Predictions(logits, seen)

    def features(self, images: Tensor) -> Tensor:
        """Features `[N, D]` before the heads."""
        return self.network.features(self._fit(images))


def load_classifier(name: str, *, device: str | torch.device = "cpu") -> AttributeClassifier:
    """Loads a classifier by the name of its YAML; frozen.

    Raises:
        ValueError: unknown name, weights missing or damaged, or classes that differ from the YAML's.
    """
    kind = load_classifier_config(name).kind
    if kind == "emoji":
        return EmojiNet(name, device=device)
    if kind == "vlm":
        from evenhand.asking import AskedJudge

        return AskedJudge(name, device=device)
    from evenhand.photographs import PhotoClassifier

    return PhotoClassifier(name, device=device)
