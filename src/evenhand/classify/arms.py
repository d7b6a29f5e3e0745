"""Data arms: which images a classifier is trained on, and in which order.

An arm is a list of stages; each is one call of `evenhand.training.fit`. Rows of synthetic images
are numbered after those of the real training images.

Sources: USB, ASB and FFR: Qraitem et al., ECCV 2024 (arXiv 2308.04553); AIM-Fair: Zhao et al., CVPR
2025 (arXiv 2503.05665); two stages: Basu et al., arXiv 2511.08711.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenhand.classify.tables import Table, cut, in_order, refuse_empty, shape_of
from evenhand.core.errors import UserError
from evenhand.recipes.classify import Classify
from evenhand.recipes.classify_parts import Objective, Part
from evenhand.stats.shortcut import fill_up, uniform

Rows = NDArray[np.int64]
ERM = Objective()


@dataclass(frozen=True)
class Stage:
    """A part of an arm.

    Attributes:
        part: name of its schedule in the recipe.
        rows: it is trained on.
        objective: what is made of their losses.
        trained: `all` of the network, its `last_layer`, or the tensors that a `mask` chooses.
        contrast: with the supervised contrastive loss.
        an_epoch: images that pass in an epoch: fewer than there are rows for SUBG.
        mask_from: rows by which the mask is chosen: real, synthetic as biased as these, synthetic
            of equal groups.
    """

    part: Literal["real", "synthetic", "mixed", "tune_real", "tune_synthetic", "last_layer"]
    rows: Rows
    objective: Objective
    trained: Literal["all", "last_layer", "mask"] = "all"
    contrast: bool = False
    an_epoch: int = 0
    mask_from: tuple[Rows, Rows, Rows] | None = None


@dataclass(frozen=True)
class Arm:
    """A planned arm.

    Attributes:
        recipe: of its variant.
        real: `[N]` rows of the real training images that are kept.
        synthetic: `[M]` rows of synthetic images in training, numbered among themselves.
        stages: in their order.
        epochs: of each part, after steps were made equal where the recipe says so.
    """

    recipe: Classify
    real: Rows
    synthetic: Rows
    stages: list[Stage]
    epochs: dict[str, int] = field(default_factory=dict)

    def part(self, stage: Stage) -> Part:
        """The schedule of a stage."""
        found: Part = getattr(self.recipe.schedule, stage.part)
        return found.model_copy(update={"epochs": self.epochs.get(stage.part, found.epochs)})


def plan(recipe: Classify, train: Table, synthetic: Table | None) -> Arm:
    """The arm of a recipe: its images and stages.

    Raises:
        UserError: a group has no image, or fewer synthetic ones than the arm needs.
    """
    shape = shape_of(recipe)
    real = cut(train, recipe.bias, recipe, "train")
    counts = train.counts(shape, real)
    refuse_empty(counts, recipe, train.where)
    objective, first = recipe.objective, len(train.groups)
    if synthetic is None:
        stage = Stage("real", real, objective)
        counted = replace(stage, an_epoch=_an_epoch(stage, train.groups))
        return _equal(Arm(recipe, real, real[:0], [counted]))
    images = recipe.synthetic.images if recipe.synthetic else None

    def take(wanted: NDArray) -> Rows:
        """The first so many synthetic images of each group."""
        return first + _taken(recipe, synthetic, wanted)

    even = uniform(counts, images)
    if not even.any() and recipe.arm != "real":
        raise UserError(
            f"{train.where}: every group has as many images as the largest, so no synthetic one is "
            "needed to fill up; say how many shall be used: synthetic.images=N"
        )
    stages = _stages(recipe, real, counts, even, take)
    used = np.unique(np.concatenate([stage.rows for stage in stages]))
    groups = np.r_[train.groups, synthetic.groups + shape[0] * shape[1]]
    counted = [replace(stage, an_epoch=_an_epoch(stage, groups)) for stage in stages]
    return _equal(Arm(recipe, real, used[used >= first] - first, counted))


def _stages(
    recipe: Classify, real: Rows, counts: NDArray, even: NDArray, take: Callable[[NDArray], Rows]
) -> list[Stage]:
    """The stages of an arm; `take` gives so many synthetic images `[Y, P]` of each group."""
    objective = recipe.objective
    images = recipe.synthetic.images if recipe.synthetic else None
    match recipe.arm:
        case "real":
            return [Stage("real", real, objective)]
        case "synthetic":
            return [Stage("synthetic", take(even), objective)]
        case "usb":
            return [Stage("mixed", np.r_[real, take(_filling(counts, images))], objective)]
        case "asb":
            return [Stage("mixed", np.r_[real, take(even)], objective)]
        case "ffr":
            return [
                Stage("synthetic", take(even), ERM),
                Stage("tune_real", real, objective),
            ]
        case "aim_fair":
            biased = _as_biased(counts, int(even.sum()))
            return [
                Stage("real", real, objective),
                Stage(
                    "tune_synthetic",
                    take(even),
                    ERM,
                    trained="mask",
                    mask_from=(real, take(biased), take(even)),
                ),
            ]
        case "two_stage":
            second = Stage("last_layer", real, objective, trained="last_layer")
            if recipe.tune == "all":
                second = Stage("tune_real", real, objective)
            return [Stage("synthetic", take(even), ERM, contrast=True), second]


def _an_epoch(stage: Stage, groups: NDArray) -> int:
    """Images that pass in an epoch of a stage; `groups` are those of all rows."""
    if stage.objective.name != "subg":
        return len(stage.rows)
    sizes = np.unique(groups[stage.rows], return_counts=True)[1]
    return int(sizes.min() * len(sizes))


def _filling(counts: NDArray, images: int | None) -> NDArray:
    """What fills every group up to the largest; scaled to so many images in all, where given."""
    wanted = fill_up(counts)
    if images is None or not wanted.sum():
        return wanted
    return np.floor(wanted * images / wanted.sum()).astype(int)


def _as_biased(counts: NDArray, images: int) -> NDArray:
    """So many images in the proportions of the real groups; one of each at least."""
    return np.maximum(np.floor(counts * images / counts.sum()), 1).astype(int)


def _taken(recipe: Classify, synthetic: Table, wanted: NDArray) -> Rows:
    """The first so many images of each group, by content and the recipe's seed of the choice."""
    seed = recipe.bias.seed if recipe.bias else 0
    there = synthetic.counts(shape_of(recipe))
    short = [
        f"{name!r} has {n} and needs {w}"
        for name, n, w in zip(recipe.groups, there.ravel(), wanted.ravel(), strict=True)
        if n < w
    ]
    if short:
        raise UserError(
            f"{synthetic.where}: arm {recipe.arm} needs more images: {'; '.join(short)}. Generate "
            f"more, or use fewer in every arm: synthetic.images=N (now "
            f"{int(wanted.sum())})"
        )
    return np.concatenate([in_order(synthetic, g, seed)[:w] for g, w in enumerate(wanted.ravel())])


def steps_of(arm: Arm) -> int:
    """Optimizer steps of an arm: of its stages, and of JTT's first trainings."""
    return sum(steps_of_stage(arm, s) + steps_of_first(arm, s) for s in arm.stages)


def steps_of_stage(arm: Arm, stage: Stage) -> int:
    """Optimizer steps of a stage's own schedule."""
    return arm.part(stage).epochs * _steps_an_epoch(arm, stage)


def steps_of_first(arm: Arm, stage: Stage) -> int:
    """Optimizer steps of JTT's first training, which says what the stage gets wrong; else 0."""
    jtt = stage.objective.name == "jtt"
    return stage.objective.epochs * _steps_an_epoch(arm, stage) if jtt else 0


def _steps_an_epoch(arm: Arm, stage: Stage) -> int:
    """A last image that would be alone joins the batch before it."""
    batch, images = arm.recipe.batch, stage.an_epoch
    return max(1, images // batch + (images % batch > 1))


def _equal(arm: Arm) -> Arm:
    """The arm with epochs that make its steps those of the real images' schedule, where asked.

    JTT's first training is none of a schedule and does not count.
    """
    recipe = arm.recipe
    if not recipe.equal_steps:
        return arm
    wished = recipe.schedule.real.epochs * max(1, -(-len(arm.real) // recipe.batch))
    factor = wished / sum(steps_of_stage(arm, stage) for stage in arm.stages)
    epochs = {s.part: max(1, round(factor * arm.part(s).epochs)) for s in arm.stages}
    return Arm(arm.recipe, arm.real, arm.synthetic, arm.stages, epochs)
