"""Classifiers of photographs: zero-shot CLIP or image classifiers of transformers, with or without face detection."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.attributes import Attribute
from evenhand.classifiers import Predictions
from evenhand.config import Classifier, Network, load_classifier_config
from evenhand.errors import UserError, unknown
from evenhand.faces import FaceCrops
from evenhand.features import Clip, resized

Judge = Callable[[Tensor], Tensor]


class PhotoClassifier:
    """One judge an attribute, on face crops or on whole images.

    Args:
        name: of the YAML in `eval/classifiers`, or its path.
        device: of the networks.

    Raises:
        UserError: weights that cannot be had, labels that do not fit.
    """

    concept: str | None = None

    def __init__(self, name: str, *, device: str | torch.device = "cpu") -> None:
        config = load_classifier_config(name)
        self.name, self.attributes = name, config.known
        self._faces = FaceCrops(config.faces, device=device) if config.faces else None
        if config.kind == "clip":
            self._features, self._judges = zero_shot(config, device)
        else:
            self._features = None
            self._judges = {a: hub_network(config.networks[a], attribute, device) for a, attribute in self.attributes.items()}
        self.digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]

    def classes(self, name: str) -> list[str]:
        """Class names of an attribute."""
        return self.attributes[name].classes

    def __call__(self, images: Tensor) -> Predictions:
        """Judges images `[N, 3, H, W]` in [0, 1]; seen where a face was found, everywhere without face detection."""
        boxes, seen = None, torch.ones(len(images), dtype=torch.bool, device=images.device)
        if self._faces:
            images, seen, boxes = self._faces(images)
        if self._features:
            images = self._features(images)
        return Predictions({a: judge(images) for a, judge in self._judges.items()}, seen, boxes)

    def features(self, images: Tensor) -> Tensor:
        """CLIP embedding `[N, D]` of whole images."""
        if self._features is None:
            raise UserError(f"classifier {self.name!r} has no features; use preservation.features of kind clip or dino")
        return self._features(images)


def zero_shot(config: Classifier, device: str | torch.device) -> tuple[Judge, dict[str, Judge]]:
    """CLIP as a classifier (Radford et al., ICML 2021, section 3.1): cosine to the classes' descriptions, prompt-ensembled.

    Returns:
        the image embedding, and for each attribute a function from it to logits `[N, K]`.
    """
    clip = Clip(config.model, config.weights, device=device)

    def direction(texts: list[str]) -> Tensor:
        return F.normalize(clip.texts([template.format(x) for x in texts for template in config.templates]).mean(0), dim=0)

    def judge(directions: Tensor) -> Judge:
        return lambda embedding: clip.scale * F.normalize(embedding, dim=-1) @ directions.T

    return clip, {a: judge(torch.stack([direction(config.descriptions[a][c]) for c in attribute.classes]))
                  for a, attribute in config.known.items()}


def hub_network(network: Network, attribute: Attribute, device: str | torch.device) -> Judge:
    """An image classifier of transformers, its labels mapped onto the attribute's classes.

    Several labels of one class are summed in probability (logsumexp of the logits).
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    try:
        model = AutoModelForImageClassification.from_pretrained(network.path, revision=network.revision,
                                                                dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(network.path, revision=network.revision)
    except Exception as error:
        raise UserError(f"classifier {network.path!r} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    model.eval().requires_grad_(False).to(device)
    ids = {str(label): int(i) for i, label in model.config.id2label.items()}
    for label in network.labels:
        if label not in ids:
            raise unknown("label", label, ids, where=f"classifier {network.path!r}")
    groups = [[ids[label] for label, cls in network.labels.items() if cls == name] for name in attribute.classes]
    size = getattr(processor, "size", {})
    side = size.get("height") or size.get("shortest_edge") or 224
    mean, std = getattr(processor, "image_mean", None) or [0.5] * 3, getattr(processor, "image_std", None) or [0.5] * 3

    def judge(images: Tensor) -> Tensor:
        logits = model(resized(images, side, mean, std)).logits
        return torch.stack([logits[:, group].logsumexp(-1) for group in groups], -1)

    return judge
