"""Classifiers of photographs.

Zero-shot CLIP or image classifiers of transformers, with or without face detection.
"""

import hashlib
import pathlib

import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.core.files import digest
from evenhand.judges.base import Predictions
from evenhand.judges.faces import FaceCrops
from evenhand.judges.hub import hub_networks
from evenhand.judges.zero_shot import zero_shot
from evenhand.recipes.judge import JudgeConfig, load_judge_config


class PhotographJudge:
    """One judge an attribute, on face crops or on whole images.

    Args:
        name: of the YAML in `eval/judges`, or its path.
        device: of the networks.

    Raises:
        UserError: weights that cannot be had, labels that do not fit.
    """

    concept: str | None = None

    def __init__(self, name: str, *, device: str | torch.device = "cpu") -> None:
        config = load_judge_config(name)
        self.name, self.attributes = name, config.known
        self._faces = FaceCrops(config.faces, device=device) if config.faces else None
        self._mirror = config.mirror
        if config.kind == "clip":
            self._features, self._judge = zero_shot(config, device)
        else:
            self._features, self._judge = None, hub_networks(config, device)
        self.digest = _digest(config)

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute."""
        return self.attributes[name].classes

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1].

        Seen where a face was found, everywhere without face detection.
        """
        boxes, seen = None, torch.ones(len(images), dtype=torch.bool, device=images.device)
        if self._faces:
            images, seen, boxes = self._faces(images)
        logits = self._logits(images)
        if self._mirror:
            other = self._logits(images.flip(-1))
            logits = {
                a: torch.logaddexp(x.log_softmax(-1), other[a].log_softmax(-1))
                for a, x in logits.items()
            }
        return Predictions(logits, seen, boxes)

    def _logits(self, images: Tensor) -> dict[str, Tensor]:
        return self._judge(self._features(images) if self._features else images)

    def features(self, images: Tensor) -> Tensor:
        """CLIP embedding `[N, D]` of whole images."""
        if self._features is None:
            raise UserError(
                f"classifier {self.name!r} has no features; use preservation.features of kind "
                "clip or dino"
            )
        return self._features(images)


def _digest(config: JudgeConfig) -> str:
    """Of the YAML and of the weights of networks that lie in folders.

    Those of the Hub are named by path and revision.
    """
    weights = [
        digest(file)
        for folder in sorted({n.path for n in config.networks.values()})
        for file in sorted(pathlib.Path(folder).glob("*.safetensors"))
    ]
    same = {
        n.path: "" for n in config.networks.values() if pathlib.Path(n.path).is_dir()
    }  # the same wherever it lies
    networks = {
        a: n.model_copy(update={"path": same.get(n.path, n.path)})
        for a, n in config.networks.items()
    }
    text = config.model_copy(update={"networks": networks}).model_dump_json()
    return hashlib.sha256("|".join([text, *weights]).encode()).hexdigest()[:12]
