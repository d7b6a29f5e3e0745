"""Training an attribute classifier on labelled images: data, losses and validation for `fit`."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenhand.classify.judge_network import Normalised, new_network, write_judge
from evenhand.classify.labelled_images import LabelledImages, images_of
from evenhand.classify.network import evaluated
from evenhand.core.errors import UserError
from evenhand.core.files import digest_of
from evenhand.core.locks import exclusive
from evenhand.core.resources import one_spelling
from evenhand.devices import default_device, warn_of_emulation
from evenhand.images.augmentation import augmented, mixed
from evenhand.images.labelled import digests, labelled, values
from evenhand.recipes.judge_training import JudgeTraining
from evenhand.training.fit import Batch, Passes, fit, refuse_several_processes
from evenhand.training.phases import Phase
from evenhand.training.precision import settled
from evenhand.training.run_directory import open_run

PARTS = ("train", "validation")  # splits: to train on, and to choose the epoch by
MAY_MOVE = ("data",)  # settings of a run: where its images lie


def train_judge(
    recipe: JudgeTraining,
    data: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> pathlib.Path:
    """Trains a classifier and writes it.

    A run of the same recipe and images in the folder is continued, wherever the images lie.

    Args:
        recipe: what it learns and how.
        data: labelled images, as `evenhand.images.labelled` reads them.
        folder: run directory.
        progress: called with (steps done, steps in all, how well it goes in words).

    Returns:
        the classifier's folder, `folder/classifier`, to be named as a judge or for calibration.

    Raises:
        UserError: data without a split, a column, a class or a face; another run's folder; a
            network that cannot be had; a training that diverged or learned nothing; another
            process that trains there.
    """
    refuse_several_processes()
    recipe = settled(recipe, [pathlib.Path(folder) / "run.json"])
    warn_of_emulation(recipe.dtype, default_device())
    splits = _parts_of(data, recipe)
    files = {name: digests(splits[name]) for name in PARTS}
    settings = {
        "recipe": recipe.model_dump(mode="json"),
        "data": one_spelling(data),
        "images": {name: _identity(splits[name], files[name], recipe) for name in PARTS},
    }
    with exclusive(folder, "training"):
        folder = open_run(folder, settings, MAY_MOVE)
        train, validation = (
            images_of(splits[x], recipe, folder, f"{data}, {x}", settings["images"][x], progress)
            for x in PARTS
        )
        return _trained(recipe, train, validation, folder, files["train"], progress)


def _trained(
    recipe: JudgeTraining,
    train: LabelledImages,
    validation: LabelledImages,
    folder: pathlib.Path,
    trained_on: list[str],
    progress: Callable[[int, int, str], None] | None,
) -> pathlib.Path:
    """The training itself, and the classifier that comes of it."""
    device = default_device()
    network, processor = new_network(recipe)
    model = Normalised(network, processor.image_mean, processor.image_std)
    weights = class_weights(train, recipe)
    fit(
        model,
        train,
        lambda logits, batch: loss_of(logits, batch, recipe, weights),
        phases=[_phase(recipe)],
        passes=Passes(
            batch=recipe.batch,
            seed=recipe.seed,
            augment=lambda batch, generator: changed(batch, recipe, generator),
            dtype=recipe.dtype,
            device=device,
        ),
        folder=folder,
        validate=lambda model: accuracy(called(model, validation, recipe, device), validation),
        progress=progress,
    )
    _refuse_constant(called(model, validation, recipe, device), recipe, folder)
    return write_judge(folder / "classifier", network, processor, recipe, trained_on=trained_on)


def _phase(recipe: JudgeTraining) -> Phase:
    """The one phase of such a training: all that is not frozen."""
    return Phase(
        recipe.optimisation,
        recipe.epochs,
        batch_norm="freeze" if recipe.freeze else "update",
        patience=recipe.patience,
    )


def _parts_of(data: str | os.PathLike, recipe: JudgeTraining) -> dict[str, Any]:
    """The rows by split: `train` to train on, `validation` to choose the epoch by.

    Raises:
        UserError: no such split or column, or a class that no image has.
    """
    splits = labelled(data, split=recipe.split, seed=recipe.seed)
    if missing := set(PARTS) - splits.keys():
        raise UserError(
            f"{data}: has no split {' and no split '.join(sorted(missing))}; it has "
            f"{', '.join(splits)}"
        )
    for name in PARTS:
        LabelledImages(splits[name], recipe, f"{data}, {name}")
    return splits


def _identity(rows: Any, files: list[str], recipe: JudgeTraining) -> str:
    """Twelve hex digits of which images a split holds and what they are labelled, in any order."""
    columns = [[x.find(v) for v in values(rows, x.column, "")] for x in recipe.attributes.values()]
    return digest_of(sorted(map(str, zip(files, *columns, strict=True))))


def class_weights(rows: LabelledImages, recipe: JudgeTraining) -> list[Tensor]:
    """For each attribute the weights of its classes, 1 on average over its images.

    Inverse to their numbers if the recipe balances.
    """
    found = []
    for place, labels in enumerate(recipe.attributes.values()):
        known = rows.labels[rows.known[:, place], place]
        counts = torch.bincount(known, minlength=len(labels.names)).float()
        even = counts.sum() / (len(counts) * counts)
        found.append(even if recipe.balance else torch.ones(len(counts)))
    return found


def changed(batch: Batch, recipe: JudgeTraining, generator: torch.Generator) -> Batch:
    """A training batch after augmentation and mixup.

    `pairs` holds labels `[N, A]`, which of them are known, and the share with which they count.
    """
    images = augmented(batch["images"], recipe.jitter, flip=recipe.flip, generator=generator)
    truths = torch.stack([batch["labels"], batch["known"].long()], -1)
    pairs = [(truths, 1.0)]
    if recipe.mixup:
        images, pairs = mixed(images, truths, recipe.mixup, generator=generator)
    return {"images": images, "pairs": [(t[..., 0], t[..., 1].bool(), share) for t, share in pairs]}


def loss_of(
    logits: Tensor, batch: Batch, recipe: JudgeTraining, weights: list[Tensor]
) -> Tensor | None:
    """Cross-entropy of each attribute on its part of the logits, over the images that have a label.

    An attribute without a label in the batch adds nothing; None where no attribute has one.
    """
    terms = []
    for labels, known, share in batch["pairs"]:
        for place, part in enumerate(_parts(logits, recipe)):
            mask = known[:, place]
            if mask.any():
                loss = F.cross_entropy(
                    part[mask],
                    labels[mask, place],
                    weight=weights[place].to(part.device),
                    label_smoothing=recipe.smoothing,
                )
                terms.append(share * loss)
    return torch.stack(terms).sum() if terms else None


def _parts(logits: Tensor, recipe: JudgeTraining) -> tuple[Tensor, ...]:
    """The logits `[N, K]` of each attribute out of those of all."""
    return logits.split([len(labels.names) for labels in recipe.attributes.values()], 1)


def called(
    model: nn.Module, rows: LabelledImages, recipe: JudgeTraining, device: torch.device
) -> Tensor:
    """The class `[N, A]` that the model calls for each attribute of each image."""
    parts = evaluated(model, rows, batch=recipe.batch, dtype=recipe.dtype, device=device)
    found = [[part.argmax(-1) for part in _parts(logits, recipe)] for logits in parts]
    return torch.cat([torch.stack(columns, 1).cpu() for columns in found])


def accuracy(calls: Tensor, rows: LabelledImages) -> float:
    """Mean over the attributes of the mean over their classes of the share called right."""
    of_attributes = []
    for place in range(calls.shape[1]):
        known = rows.known[:, place]
        truth, right = rows.labels[known, place], (calls == rows.labels)[known, place]
        of_classes = [right[truth == k].double().mean().item() for k in truth.unique()]
        of_attributes.append(np.mean(of_classes))
    return float(np.mean(of_attributes))


def _refuse_constant(calls: Tensor, recipe: JudgeTraining, folder: pathlib.Path) -> None:
    """Refuses a judge that has one answer to every image: what it measured would be no share.

    Raises:
        UserError: names the attribute and the likely cause.
    """
    for (name, labels), column in zip(recipe.attributes.items(), calls.T, strict=True):
        if len(column.unique()) == 1:
            raise UserError(
                f"{folder}: after training, every validation image is called "
                f"{labels.names[int(column[0])]!r} of {name!r}, so no classifier is written; lower "
                "optimisation.learning_rate (a high one ends like this), or train for more epochs, "
                "into another directory (--out)"
            )
