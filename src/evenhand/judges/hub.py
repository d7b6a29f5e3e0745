"""Image classifiers of transformers as judges, from the Hub or from folders."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from evenhand.core.attributes import Attribute
from evenhand.core.errors import loading, unknown
from evenhand.features.preprocessing import of_transformers
from evenhand.features.sources import find
from evenhand.recipes.judge import JudgeConfig, Network


class Classifier(NamedTuple):
    """What judges photographs or crops of them.

    Attributes:
        judge: images `[N, 3, H, W]` to logits `{attribute: [N, K]}`.
        features: images to `[N, D]`; None where it has none.
        side: as of `evenhand.judges.base.Judge`.
        identity: digests of its weights, by what is judged with them.
    """

    judge: Callable[[Tensor], dict[str, Tensor]]
    features: Callable[[Tensor], Tensor] | None
    side: int | None
    identity: dict[str, list[str]]


def hub_networks(config: JudgeConfig, device: str | torch.device) -> Classifier:
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

    sides = [network.side for network in networks.values()]
    known = [side for side in sides if side]
    return Classifier(
        judge,
        None,
        max(known) if len(known) == len(sides) else None,
        {a: networks[n.path, n.revision].identity for a, n in config.networks.items()},
    )


class _Network:
    """A frozen image classifier of transformers behind its own processor's steps."""

    def __init__(self, path: str, revision: str | None, device: str | torch.device) -> None:
        from transformers import AutoModelForImageClassification

        self.path = path
        with loading(f"classifier {path!r}"):
            source = find(path, revision)
            self.model = AutoModelForImageClassification.from_pretrained(
                source.path, revision=source.revision, dtype=torch.float32
            )
            self._fit, self.side = of_transformers(source.path, source.revision)
            self.identity = source.identity
        self.model.eval().requires_grad_(False).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        return self.model(self._fit(images)).logits

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
