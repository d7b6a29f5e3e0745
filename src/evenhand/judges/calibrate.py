"""Calibrating a classifier: what it calls images whose labels are known."""

import datetime
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evenhand.core.errors import UserError, unknown
from evenhand.devices import default_device
from evenhand.images.labelled import labelled, readable, values
from evenhand.images.tensors import in_batches
from evenhand.judges.base import answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import JudgeConfig
from evenhand.recipes.labels import Labels
from evenhand.stats.calibration import NOT_SEEN, Answers, Calibration


def calibrate(
    config: JudgeConfig,
    data: str | os.PathLike,
    labels: Mapping[str, Labels],
    *,
    split: str | None = None,
    column: str | None = None,
    seed: int = 0,
    domain: str = "",
    batch: int = 64,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Counts what a judge calls labelled images of each true class; means of its probabilities.

    Args:
        config: the judge, as `evenhand.recipes.judge.find_judge` found it.
        data: labelled images, as `evenhand.images.labelled` reads them.
        labels: which column says an attribute's class.
        split: of the data; all of it when None.
        column: that says the split; else the data's own, or a random one.
        seed: of a random split: that of the recipe, or images it was trained on are among those it
            is calibrated on.
        domain: what kind of images these are, in words; the data's name when empty.
        batch: images judged at a time, of one size.
        device: of the classifier; an accelerator where there is one, when None.
        progress: called with (images done, images in all).

    Raises:
        UserError: unknown attribute, class, column or split; a class without an image that can
            be read. (Images that cannot are left out, with a warning that counts them.)
    """
    device = torch.device(device or default_device())
    judge, rows = load_judge(config, device=device), _rows(data, split, column, seed)
    known = {a: judge.classes(a) for a in filter(None, [*judge.attributes, judge.concept])}
    truth = _truth(rows, labels, known, config.name, str(data))
    found = {name: _Table(known[name]) for name in labels}
    done = 0
    pixels = readable(rows, str(data), side=judge.side)
    for indices, images in in_batches(pixels, batch, device=device):
        found_in = answers(judge, images)
        seen = found_in.seen.cpu().numpy()
        for name, table in found.items():
            table.add(
                [truth[name][i] for i in indices], found_in.probs[name].cpu().double().numpy(), seen
            )
        done += len(indices)
        if progress:
            progress(done, len(rows))
    _refuse_empty(found, str(data))
    return Calibration(
        classifier=config.name,
        digest=judge.digest,
        domain=domain or str(data),
        data=str(data),
        date=datetime.date.today().isoformat(),
        attributes={a: table.counts for a, table in found.items()},
        probabilities={a: table.answers() for a, table in found.items()},
    )


def _rows(data: str | os.PathLike, split: str | None, column: str | None, seed: int) -> Any:
    import datasets

    parts = labelled(data, split=column, seed=seed)
    if split and split not in parts:
        raise unknown("split", split, parts, where=str(data))
    return parts[split] if split else datasets.concatenate_datasets(list(parts.values()))


def _refuse_empty(found: dict[str, "_Table"], where: str) -> None:
    for name, table in found.items():
        for cls, called in table.counts.items():
            if not sum(called.values()):
                raise UserError(
                    f"{where}: no image is labelled {cls!r} of {name!r}; a calibration needs some "
                    "of every class"
                )


def _truth(
    rows: Any, labels: Mapping[str, Labels], known: dict[str, list[str]], judge: str, where: str
) -> dict[str, list[str | None]]:
    """`{attribute: [true class]}` of the rows, None where unlabelled, checked against the judge."""
    truth = {}
    for name, entry in labels.items():
        if name not in known:
            raise unknown("attribute", name, known, where=f"classifier {judge!r}")
        if set(entry.names) != set(known[name]):
            raise UserError(
                f"{name}: the labels mean {', '.join(entry.names)}; classifier {judge!r} "
                f"knows {', '.join(known[name])}"
            )
        indices = [entry.find(value) for value in values(rows, entry.column, where)]
        truth[name] = [None if k is None else entry.names[k] for k in indices]
    return truth


class _Table:
    """What is counted of one attribute, by true class."""

    def __init__(self, classes: list[str]) -> None:
        k = len(classes)
        self._classes = classes
        self._calls, self._sums, self._products = (
            np.zeros((k, k + 1), dtype=int),
            np.zeros((k, k)),
            np.zeros((k, k, k)),
        )

    def add(self, truth: list[str | None], probs: NDArray, seen: NDArray) -> None:
        """Counts a batch.

        Args:
            truth: true classes `[N]`, None where unlabelled.
            probs: probabilities `[N, K]`.
            seen: `[N]` bool.
        """
        called = np.where(seen, probs.argmax(1), len(self._classes))
        answers = probs * seen[:, None]
        for j, cls in enumerate(self._classes):
            these = np.array([t == cls for t in truth])
            self._calls[j] += np.bincount(called[these], minlength=len(self._classes) + 1)
            self._sums[j] += answers[these].sum(0)
            self._products[j] += answers[these].T @ answers[these]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by true class and call."""
        return {
            c: dict(zip([*self._classes, NOT_SEEN], row.tolist(), strict=True))
            for c, row in zip(self._classes, self._calls, strict=True)
        }

    def answers(self) -> dict[str, Answers]:
        """Mean probabilities and products by true class."""
        n = self._calls.sum(1)
        means, products = (
            (self._sums / n[:, None]).round(6),
            (self._products / n[:, None, None]).round(6),
        )

        def named(values: NDArray) -> dict[str, float]:
            return dict(zip(self._classes, values.tolist(), strict=True))

        return {
            c: Answers(
                mean=named(mean),
                products={d: named(row) for d, row in zip(self._classes, square, strict=True)},
            )
            for c, mean, square in zip(self._classes, means, products, strict=True)
        }
