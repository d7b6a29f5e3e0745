"""Classifiers of photographs.

Zero-shot CLIP or image classifiers of transformers, with or without face detection.
"""

import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.judges.base import Predictions
from evenhand.judges.faces import FaceCrops
from evenhand.judges.hub import hub_networks
from evenhand.judges.zero_shot import zero_shot
from evenhand.recipes.judge import JudgeConfig


class PhotographJudge:
    """One judge an attribute, on face crops or on whole images.

    Args:
        config: as `evenhand.recipes.judge.find_judge` found it.
        device: of the networks.

    Raises:
        UserError: weights that cannot be had, labels that do not fit.
    """

    concept: str | None = None

    def __init__(self, config: JudgeConfig, *, device: str | torch.device = "cpu") -> None:
        self.name, self.attributes = config.name, config.known
        self._faces = FaceCrops(config.faces, device=device) if config.faces else None
        self._mirror, self._device = config.mirror, device
        load = zero_shot if config.kind == "clip" else hub_networks
        self._judge, self._features, side, identity = load(config, device)
        self.side = None if self._faces else side  # a face may be small in a large picture
        self.digest = config.digest(identity)

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute."""
        return self.attributes[name].classes

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1].

        Seen where a face was found, everywhere without face detection.
        """
        there, images = images.device, images.to(self._device)
        if not self._faces:
            seen = torch.ones(len(images), dtype=torch.bool)
            return Predictions(self._logits(images), seen).to(there)
        found = self._faces(images)
        logits, seen = self._logits(found.crops), found.faces > 0
        return Predictions(logits, seen, found.boxes, found.faces).to(there)

    def _logits(self, images: Tensor) -> dict[str, Tensor]:
        logits = self._judge(images)
        if self._mirror:
            other = self._judge(images.flip(-1))
            logits = {
                a: torch.logaddexp(x.log_softmax(-1), other[a].log_softmax(-1))
                for a, x in logits.items()
            }
        return logits

    def features(self, images: Tensor) -> Tensor:
        """CLIP embedding `[N, D]` of whole images."""
        if self._features is None:
            raise UserError(
                f"classifier {self.name!r} has no features; use preservation.features of kind "
                "clip or dino"
            )
        return self._features(images.to(self._device)).to(images.device)
