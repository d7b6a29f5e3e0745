"""Classifiers of photographs: zero-shot CLIP or image classifiers of transformers, with or without face detection."""

import hashlib
import pathlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.attributes import Attribute
from evenhand.classifier_config import Classifier, Network, load_classifier_config
from evenhand.classifiers import Predictions
from evenhand.errors import UserError, loading, unknown
from evenhand.faces import FaceCrops
from evenhand.features import Clip, resized
from evenhand.files import digest

Embed = Callable[[Tensor], Tensor]
Judge = Callable[[Tensor], dict[str, Tensor]]


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
        """Judges images `[N, 3, H, W]` in [0, 1]; seen where a face was found, everywhere without face detection."""
        boxes, seen = None, torch.ones(len(images), dtype=torch.bool, device=images.device)
        if self._faces:
            images, seen, boxes = self._faces(images)
        logits = self._logits(images)
        if self._mirror:
            other = self._logits(images.flip(-1))
            logits = {a: torch.logaddexp(x.log_softmax(-1), other[a].log_softmax(-1)) for a, x in logits.items()}
        return Predictions(logits, seen, boxes)

    def _logits(self, images: Tensor) -> dict[str, Tensor]:
        return self._judge(self._features(images) if self._features else images)

    def features(self, images: Tensor) -> Tensor:
        """CLIP embedding `[N, D]` of whole images."""
        if self._features is None:
            raise UserError(f"classifier {self.name!r} has no features; use preservation.features of kind clip or dino")
        return self._features(images)


def _digest(config: Classifier) -> str:
    """Of the YAML and of the weights of networks that lie in folders; those of the Hub are named by path and revision."""
    weights = [digest(file) for folder in sorted({n.path for n in config.networks.values()})
               for file in sorted(pathlib.Path(folder).glob("*.safetensors"))]
    same = {n.path: "" for n in config.networks.values() if pathlib.Path(n.path).is_dir()}  # the same wherever it lies
    networks = {a: n.model_copy(update={"path": same.get(n.path, n.path)}) for a, n in config.networks.items()}
    text = config.model_copy(update={"networks": networks}).model_dump_json()
    return hashlib.sha256("|".join([text, *weights]).encode()).hexdigest()[:12]


def zero_shot(config: Classifier, device: str | torch.device) -> tuple[Embed, Judge]:
    """CLIP as a classifier (Radford et al., ICML 2021, section 3.1): cosine to the classes' descriptions, prompt-ensembled.

    Returns:
        the image embedding, and a function from it to logits `{attribute: [N, K]}`.
    """
    clip = Clip(config.model, config.weights, device=device)

    def direction(texts: list[str]) -> Tensor:
        return F.normalize(clip.texts([template.format(x) for x in texts for template in config.templates]).mean(0), dim=0)

    directions = {a: torch.stack([direction(config.descriptions[a][c]) for c in attribute.classes])
                  for a, attribute in config.known.items()}
    return clip, lambda embedding: {a: clip.scale * F.normalize(embedding, dim=-1) @ d.T for a, d in directions.items()}


def hub_networks(config: Classifier, device: str | torch.device) -> Judge:
    """Image classifiers of transformers, their labels mapped onto the attributes' classes.

    Several labels of one class are summed in probability (logsumexp of the logits). A network that serves several attributes runs
    once.
    """
    networks = {key: _Network(*key, device) for key in {(n.path, n.revision) for n in config.networks.values()}}
    groups = {a: networks[n.path, n.revision].groups(n, config.known[a]) for a, n in config.networks.items()}

    def judge(images: Tensor) -> dict[str, Tensor]:
        logits = {key: network(images) for key, network in networks.items()}
        return {a: torch.stack([logits[n.path, n.revision][:, group].logsumexp(-1) for group in groups[a]], -1)
                for a, n in config.networks.items()}

    return judge


class _Network:
    """An image classifier of transformers, frozen, with the preprocessing of its processor, differentiable."""

    def __init__(self, path: str, revision: str | None, device: str | torch.device) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        with loading(f"classifier {path!r}"):
            self.model = AutoModelForImageClassification.from_pretrained(path, revision=revision, dtype=torch.float32)
            processor = AutoImageProcessor.from_pretrained(path, revision=revision)
        self.path = path
        self.model.eval().requires_grad_(False).to(device)
        size = getattr(processor, "size", {})
        self._side = size.get("height") or size.get("shortest_edge") or 224
        self._mean = getattr(processor, "image_mean", None) or [0.5] * 3
        self._std = getattr(processor, "image_std", None) or [0.5] * 3

    def __call__(self, images: Tensor) -> Tensor:
        return self.model(resized(images, self._side, self._mean, self._std)).logits

    def groups(self, network: Network, attribute: Attribute) -> list[list[int]]:
        """For each class the indices of its labels."""
        ids = {str(label): int(i) for i, label in self.model.config.id2label.items()}
        for label in network.labels:
            if label not in ids:
                raise unknown("label", label, ids, where=f"classifier {self.path!r}")
        return [[ids[label] for label, cls in network.labels.items() if cls == name] for name in attribute.classes]
