"""What a recipe and data come to: tables, arms and images, checked before anything is trained."""

import functools
import json
import os
import pathlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evenhand.classify.arms import Arm, Stage, plan, steps_of
from evenhand.classify.examples import Examples, Images
from evenhand.classify.tables import (
    Table,
    cut,
    digest_of_rows,
    read_real,
    read_synthetic,
    refuse_empty,
    shape_of,
)
from evenhand.core.errors import UserError
from evenhand.core.resources import one_spelling
from evenhand.devices import default_device, warn_of_emulation
from evenhand.recipes.classify import WITHOUT_SYNTHETIC, Classify
from evenhand.training.precision import settled

SHARED = ("target", "protected", "image", "split", "splits", "seeds", "seed")  # by all variants
MAY_MOVE = ("from.data", "from.synthetic")  # settings of a run: where its images lie


@dataclass(frozen=True)
class Experiment:
    """Everything that trainings need, read and checked.

    Attributes:
        recipe: with its variants.
        data: where the real images are.
        real: tables by split.
        synthetic: tables by where they are.
        arms: by name of the variant.
    """

    recipe: Classify
    data: str
    real: dict[str, Table]
    synthetic: dict[str, Table]
    arms: dict[str, Arm]
    _images: dict[tuple[str, int], Images] = field(default_factory=dict)

    @property
    def seeds(self) -> range:
        """Of the trainings of each variant."""
        return _seeds(self.recipe)

    @property
    def steps(self) -> int:
        """Optimizer steps of all trainings together."""
        return len(self.seeds) * sum(map(steps_of, self.arms.values()))

    def synthetic_of(self, arm: Arm) -> Table | None:
        """The synthetic images of an arm."""
        return self.synthetic[arm.recipe.synthetic.path] if arm.recipe.synthetic else None

    def rows(self, arm: Arm, split: str) -> NDArray[np.int64]:
        """The rows of a real split that count for an arm."""
        return (
            arm.real
            if split == "train"
            else cut(self.real[split], arm.recipe.bias, arm.recipe, split)
        )

    def examples(self, arm: Arm, rows: NDArray[np.int64]) -> Examples:
        """Training images: rows of the real ones, after them those of the synthetic ones.

        Where both are among them, a group of synthetic images is another than that of real ones
        (From Fake to Real's controls: groups know their source).
        """
        synthetic, first = self.synthetic_of(arm), len(self.real["train"].groups)
        parts = [self.real["train"], *([synthetic] if synthetic else [])]
        images = [self._of(part, arm.recipe.size) for part in parts]
        groups = np.concatenate([part.groups for part in parts])[rows]
        y, p = shape_of(self.recipe)
        sourced = groups + y * p * (rows >= first)
        return _examples(images, rows, groups // p, sourced)

    def split(self, arm: Arm, split: str) -> Examples:
        """The images of a real split that count for an arm, each in its own group."""
        table, rows = self.real[split], self.rows(arm, split)
        images, groups = [self._of(table, arm.recipe.size)], table.groups[rows]
        return _examples(images, rows, groups // shape_of(self.recipe)[1], groups, dense=False)

    def _of(self, table: Table, size: int) -> Images:
        """The images of a table in a size, which all arms share."""
        key = table.where, size
        if key not in self._images:
            self._images[key] = Images(table.rows, size)
        return self._images[key]

    def identity(self, arm: Arm, stage: Stage | None = None) -> dict[str, str]:
        """Digests of the images that an arm, or one of its stages, depends on."""
        rows, first = stage.rows if stage else None, len(self.real["train"].groups)
        real = arm.real if rows is None else rows[rows < first]
        found = {"train": digest_of_rows(self.real["train"], real)}
        if (table := self.synthetic_of(arm)) is not None:
            synthetic = arm.synthetic if rows is None else rows[rows >= first] - first
            found["synthetic"] = digest_of_rows(table, synthetic)
        if stage is None or arm.recipe.select != "last":
            found["validation"] = digest_of_rows(
                self.real["validation"], self.rows(arm, "validation")
            )
        if stage is None:
            found["test"] = digest_of_rows(self.real["test"], self.rows(arm, "test"))
        return found

    def settings(self, arm: Arm, seed: int) -> dict[str, Any]:
        """What the result of one training depends on, for its run.json.

        Where the images lie (`from`) is told and may change (`MAY_MOVE`): `images` are their
        digests.
        """
        own = arm.recipe.model_dump(mode="json", exclude={"variants", "seeds", "seed"})
        synthetic = own["synthetic"] and one_spelling(own["synthetic"].pop("path"))
        return {
            "recipe": own,
            "from": {"data": one_spelling(self.data), "synthetic": synthetic},
            "images": self.identity(arm),
            "seed": seed,
        }


def _seeds(recipe: Classify) -> range:
    return range(recipe.seed, recipe.seed + recipe.seeds)


def _examples(
    images: list[Images], rows: NDArray, labels: NDArray, groups: NDArray, *, dense: bool = True
) -> Examples:
    """Groups are numbered anew from 0, in their order, where they shall be dense."""
    numbers = np.unique(groups, return_inverse=True)[1] if dense else groups
    tensors: list[Tensor] = [torch.from_numpy(x) for x in (rows, labels, numbers)]
    return Examples(images, *tensors)


def _settled(recipe: Classify, folder: pathlib.Path | None) -> dict[str, Classify]:
    """The variants, each with its precision; all that leave it open have the same one."""
    variants = recipe.each()
    begun = [
        folder / name / f"seed-{seed}" / "run.json"
        for name, one in variants.items()
        for seed in _seeds(recipe)
        if folder and one.dtype == "auto"
    ]
    found = {name: settled(one, begun) for name, one in variants.items()}
    for one in found.values():
        warn_of_emulation(one.dtype, default_device())
    return found


def prepare(
    recipe: Classify, data: str | os.PathLike, folder: pathlib.Path | None = None
) -> Experiment:
    """Reads the data and plans every variant; whatever is wrong is said here.

    Args:
        recipe: with its variants.
        data: the real images, as `evenhand.images.labelled` reads them.
        folder: of the experiment, which goes on in the precision that it began with.

    Raises:
        UserError: the data, a variant or the synthetic images do not fit.
    """
    variants = _settled(recipe, folder)
    for name, one in variants.items():
        for key in SHARED:
            if getattr(one, key) != getattr(recipe, key):
                raise UserError(
                    f"variants.{name}: {key} is another than the recipe's; variants are compared "
                    "on the same test images and seeds"
                )
        if one.arm not in WITHOUT_SYNTHETIC and not one.synthetic:
            where = f"variants.{name}: " if recipe.variants else ""
            raise UserError(
                f"{where}arm {one.arm} needs synthetic images: synthetic.path=FILE_OR_FOLDER"
            )
    real, synthetic = read_real(data, recipe), {}
    known = functools.partial(json.dumps, sort_keys=True)
    asked = {}
    for name, one in variants.items():
        if not one.synthetic:
            continue
        how = known(one.synthetic.model_dump(exclude={"images"}))
        if asked.setdefault(one.synthetic.path, how) != how:
            raise UserError(f"variants.{name}: reads {one.synthetic.path} otherwise than another")
        if one.synthetic.path not in synthetic:
            synthetic[one.synthetic.path] = read_synthetic(one, real)
    for split in ("validation", "test"):
        rows = cut(real[split], recipe.bias, recipe, split)
        refuse_empty(real[split].counts(shape_of(recipe), rows), recipe, real[split].where)
    arms = {
        name: plan(one, real["train"], synthetic[one.synthetic.path] if one.synthetic else None)
        for name, one in variants.items()
    }
    found = Experiment(recipe, str(data), real, synthetic, arms)
    tested = {name: found.identity(arm)["test"] for name, arm in arms.items()}
    for name, digest in tested.items():
        if digest != next(iter(tested.values())):
            raise UserError(
                f"variants.{name}: bias cuts the test images otherwise than the first variant's; "
                "leave test out of bias.splits"
            )
    return found
