"""The network of a classifier of one's own: one image classifier of transformers.

It has the classes of all attributes as labels ("gender: woman"); an attribute's probabilities are
the softmax over its own. What is written is a folder that transformers loads, with
`classifier.yaml`, by which the toolkit does.
"""

import pathlib
from collections.abc import Iterable
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTImageProcessor,
)

from evenhand.core.errors import UserError, loading
from evenhand.core.files import write_json, write_text
from evenhand.judges.calibrate import TRAINED_ON
from evenhand.recipes.judge_training import JudgeTraining
from evenhand.recipes.network import Network
from evenhand.training.checkpoints import seeded


def new_network(recipe: Network) -> tuple[Any, Any]:
    """The network, with an output for each of the recipe's labels, and its processor.

    Where the recipe freezes it, the last layer alone requires gradients.

    Raises:
        UserError: there is no such network, or it has no last layer to be trained alone.
    """
    with seeded(recipe.seed, "network"):
        return _new_network(recipe)


def _new_network(recipe: Network) -> tuple[Any, Any]:
    names = recipe.labels
    labels = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }
    side = {"height": recipe.size, "width": recipe.size}
    if recipe.config:
        with loading(f"config: an image classifier of {recipe.config}"):
            config = AutoConfig.for_model(**recipe.config, **labels)
            model = AutoModelForImageClassification.from_config(config)
            with torch.no_grad():  # settings may be right one by one and not fit together
                model.eval()(torch.zeros(1, 3, recipe.size, recipe.size))
        return model, ViTImageProcessor(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert recipe.path
    with loading(f"network {recipe.path!r}"):
        model = AutoModelForImageClassification.from_pretrained(
            recipe.path, ignore_mismatched_sizes=True, **labels
        ).float()  # whatever its file holds
        processor = AutoImageProcessor.from_pretrained(recipe.path, size=side)
    if recipe.freeze:
        model.requires_grad_(False)
        last_layer(model, len(names), f"network {recipe.path!r}").requires_grad_(True)
    return model, processor


def last_layer(network: nn.Module, labels: int, where: str) -> nn.Linear:
    """The linear layer that gives so many labels.

    Raises:
        UserError: there is none.
    """
    found = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not found:
        raise UserError(
            f"{where}: has no linear layer of {labels} labels at its end; name another network"
        )
    return found[-1]


class Normalised(nn.Module):
    """A classifier of transformers on images in [0, 1], normalised as its processor says."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images `[N, 3, S, S]` -> the logits of all attributes' classes, side by side."""
        return self.network(pixel_values=(images - self.mean) / self.std).logits.float()


def write_judge(
    folder: pathlib.Path,
    model: Any,
    processor: Any,
    recipe: JudgeTraining,
    *,
    trained_on: Iterable[str] = (),
) -> pathlib.Path:
    """Writes a classifier's folder and returns it.

    It holds the files of transformers, the recipe's labels, `classifier.yaml`, and digests of the
    images it was trained on (`trained-on.json`), which no calibration of it may use.
    """
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_text(
        folder / "labels.yaml",
        yaml.safe_dump(
            {a: x.model_dump(exclude_defaults=True) for a, x in recipe.attributes.items()},
            sort_keys=False,
        ),
    )
    write_text(
        folder / "classifier.yaml",
        yaml.safe_dump(
            {
                "kind": "hub",
                "attributes": {a: {"classes": x.names} for a, x in recipe.attributes.items()},
                "networks": {
                    a: {"path": ".", "labels": {f"{a}: {c}": c for c in x.names}}
                    for a, x in recipe.attributes.items()
                },
                **({"faces": recipe.crops.model_dump()} if recipe.crops else {}),
                "mirror": recipe.mirror,
            },
            sort_keys=False,
        ),
    )
    write_json(folder / TRAINED_ON, {"images": sorted(trained_on)})
    return folder
