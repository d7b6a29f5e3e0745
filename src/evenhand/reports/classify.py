"""Predictions -> numbers: what classifiers do on test images, by group. No torch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.reports.classify_metrics import by_fairlearn, metrics
from evenhand.reports.classify_models import (
    SCORES,
    ClassifyReport,
    MaskRow,
    ShortcutReport,
    TrainingSet,
    VariantReport,
)
from evenhand.stats import groups as of
from evenhand.stats import rates
from evenhand.stats.shares import Estimate
from evenhand.stats.shortcut import shortcut

Array = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """A variant's answers to the test images.

    Attributes:
        arm, objective, steps, epochs: as of `VariantReport`.
        probs: `[S, N, Y]` of every training.
        real: `[Y, P]` images of the training split that are kept; arm `synthetic` is trained on
            none of them.
        synthetic: `[Y, P]` images that it was trained on.
        masks: of each training, where there are some.
    """

    arm: str
    objective: str
    steps: int
    epochs: dict[str, int]
    probs: Array
    real: Array
    synthetic: Array
    masks: list[list[MaskRow]] = field(default_factory=list)


@dataclass(frozen=True)
class Test:
    """The test images: groups `[N]`, the names of the classes, and the seeds of the trainings."""

    groups: Array
    target: list[str]
    protected: list[str]
    seeds: list[int]

    @property
    def shape(self) -> tuple[int, int]:
        """Classes of the target, and of the protected attribute."""
        return len(self.target), len(self.protected)

    @property
    def names(self) -> list[str]:
        """Of the groups."""
        return [f"{y}, {s}" for y in self.target for s in self.protected]

    @property
    def sizes(self) -> Array:
        """`[Y, P]` images of each group."""
        y, p = self.shape
        return np.bincount(self.groups, minlength=y * p).reshape(y, p)


def build(
    judged: dict[str, Judged], test: Test, about: dict[str, Any], notes: list[str]
) -> ClassifyReport:
    """The report of some variants on the same test images.

    Args:
        judged: by name; the first is the one that the others are held against.
        test: the images.
        about: the report's `settings`, `data`, `counts`, `left_out` and `versions`.
        notes: sentences that a reader must know.
    """
    tables, draws = {}, {}
    for name, one in judged.items():
        called = one.probs.argmax(-1)
        tables[name] = rates.confusions(called, test.groups, test.shape)
        draws[name] = rates.resampled(called, test.groups, test.shape)
    first, *others = judged
    weights = judged[first].real.ravel() / judged[first].real.sum()
    return ClassifyReport(
        **about,
        target=test.target,
        protected=test.protected,
        groups=test.names,
        notes=notes,
        variants={
            name: _variant(one, test, tables[name], draws[name], weights)
            for name, one in judged.items()
        },
        reference=first,
        differences={
            name: {
                score: of.paired_difference(
                    metric,
                    (tables[first], tables[name]),
                    (draws[first], draws[name]),
                    n=len(test.groups),
                )
                for score, metric in metrics(test.sizes, weights).items()
            }
            for name in others
        },
    )


def _variant(
    one: Judged, test: Test, table: Array, draws: Array, proportions: Array
) -> VariantReport:
    """The numbers of a variant; `proportions` are those of the reference's training groups."""
    called, sizes, names = one.probs.argmax(-1), test.sizes, test.names
    n = len(test.groups)
    seeds = [by_fairlearn(answers, test.groups, test.shape) for answers in called]
    accuracies = np.stack([seed["group_accuracy"] for seed in seeds])  # [S, G]
    how = metrics(sizes, proportions)
    values = {
        "worst_group": accuracies.min(1),
        "balanced": accuracies.mean(1),
        "accuracy": accuracies @ (sizes.ravel() / n),
        "adjusted_accuracy": accuracies @ proportions,
        **{score: np.array([seed[score] for seed in seeds]) for score in SCORES[4:]},
    }
    even = np.full(len(names), 1 / len(names))
    bounds = {
        "worst_group": of.worst_bounds(accuracies, sizes.ravel()),
        "balanced": of.weighted_bounds(accuracies, sizes.ravel(), even),
        "accuracy": of.weighted_bounds(accuracies, sizes.ravel(), sizes.ravel() / n),
        "adjusted_accuracy": of.weighted_bounds(accuracies, sizes.ravel(), proportions),
    }
    estimates = {score: of.over_seeds(values[score], *bounds[score].T, n=n) for score in bounds} | {
        score: of.interval_by_resampling(how[score], table, draws, n=n) for score in SCORES[4:]
    }
    return VariantReport(
        arm=one.arm,
        objective=one.objective,
        steps=one.steps,
        epochs=one.epochs,
        images=_training_set(one, names),
        seeds=test.seeds,
        **estimates,
        group_accuracy=_by_group(accuracies, sizes.ravel(), names),
        group_spread=float(accuracies.std(1).mean()),
        calibration_error=_calibration(one.probs, called, test),
        confusion={
            name: dict(zip(test.target, row.tolist(), strict=True))
            for name, row in zip(names, table.mean(0).reshape(len(names), -1), strict=True)
        },
        per_seed={score: found.tolist() for score, found in values.items()},
        deviation={
            score: float(found.std(ddof=1)) if len(found) > 1 else None
            for score, found in values.items()
        },
        mask=one.masks[0] if one.masks else None,
        mask_parameters=[
            sum(r.parameters for r in rows if r.trained) / sum(r.parameters for r in rows)
            for rows in one.masks
        ],
    )


def _training_set(one: Judged, names: list[str]) -> TrainingSet:
    real = one.real if one.arm != "synthetic" else 0 * one.real
    found = shortcut(real, _mixed_in(one))
    tables = {"real": real, "synthetic": one.synthetic}
    return TrainingSet(
        **{k: dict(zip(names, map(int, t.ravel()), strict=True)) for k, t in tables.items()},
        shortcut=ShortcutReport(
            protected=found.protected,
            protected_and_source=found.protected_and_source,
            bits=found.bits,
            chance=found.chance,
            warning=found.warning,
        ),
    )


def _mixed_in(one: Judged) -> Array:
    """Synthetic images that are seen together with real ones, or alone."""
    return one.synthetic if one.arm in {"usb", "asb", "synthetic"} else 0 * one.synthetic


def _by_group(accuracies: Array, sizes: Array, names: list[str]) -> dict[str, Estimate]:
    bounds = of.accuracy_bounds(accuracies, sizes)  # [S, G, 2]
    return {
        name: of.over_seeds(accuracies[:, g], bounds[:, g, 0], bounds[:, g, 1], n=int(sizes[g]))
        for g, name in enumerate(names)
    }


def _calibration(probs: Array, called: Array, test: Test) -> dict[str, float]:
    """Each group's calibration error, mean over the trainings."""
    truth, sure = test.groups // test.shape[1], probs.max(-1)
    return {
        name: float(
            np.mean(
                [
                    rates.calibration_error(p[test.groups == g], (c == truth)[test.groups == g])
                    for p, c in zip(sure, called, strict=True)
                ]
            )
        )
        for g, name in enumerate(test.names)
    }
