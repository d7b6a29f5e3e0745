"""Image classifiers of transformers as judges, from the Hub or from folders."""

from collections.abc import Callable

import torch
from torch import Tensor

from evenhand.core.attributes import Attribute
from evenhand.core.errors import loading, unknown
from evenhand.features.networks import resized
from evenhand.recipes.judge import JudgeConfig, Network

Judgement = Callable[[Tensor], dict[str, Tensor]]


def hub_networks(config: JudgeConfig, device: str | torch.device) -> Judgement:
    """Image classifiers of transformers, their labels mapped onto the attributes' classes.

    Several labels of one class are summed in probability (logsumexp of the logits). A network that
    serves several attributes runs once.
    """
    networks = {
        key: _Network(*key, device)
        for key in {(n.path, n.revision) for n in config.networks.values()}
    }
    groups = {
        a: networks[n.path, n.revision].groups(n, config.known[a])
        for a, n in config.networks.items()
    }

    def judge(images: Tensor) -> dict[str, Tensor]:
        logits = {key: network(images) for key, network in networks.items()}
        return {
            a: torch.stack(
                [logits[n.path, n.revision][:, group].logsumexp(-1) for group in groups[a]], -1
            )
            for a, n in config.networks.items()
        }

    return judge


class _Network:
    """A frozen image classifier of transformers, with its processor's steps, differentiable."""

    def __init__(self, path: str, revision: str | None, device: str | torch.device) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        with loading(f"classifier {path!r}"):
            self.model = AutoModelForImageClassification.from_pretrained(
                path, revision=revision, dtype=torch.float32
            )
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
        return [
            [ids[label] for label, cls in network.labels.items() if cls == name]
            for name in attribute.classes
        ]
