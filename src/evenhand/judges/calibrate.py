"""Calibrating a classifier: what it calls images whose labels are known."""

import datetime
import json
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evenhand.core.errors import UserError, unknown
from evenhand.devices import default_device
from evenhand.images.labelled import digests, labelled, readable, values, values_found
from evenhand.images.tensors import in_batches
from evenhand.judges.base import Predictions, answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import JudgeConfig
from evenhand.recipes.labels import Labels
from evenhand.stats.calibration import NOT_SEEN, Answers, Calibration

TRAINED_ON = "trained-on.json"  # beside a judge's weights: {"images": digests of the files}


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

    Left out, with a warning that counts them, are images that cannot be read, and those that the
    judge was trained on (`trained-on.json` beside its weights), on which it errs less.

    Args:
        config: the judge, as `evenhand.recipes.judge.find_judge` found it.
        data: labelled images, as `evenhand.images.labelled` reads them.
        labels: which column says an attribute's class.
        split: of the data; all of it when None.
        column: that says the split; else the data's own, or a random one.
        seed: of a random split; with that of the recipe none of its images was trained on.
        domain: what kind of images these are, in words; the data's name when empty.
        batch: images judged at a time, of one size.
        device: of the classifier; an accelerator where there is one, when None.
        progress: called with (images done, images in all).

    Raises:
        UserError: unknown attribute, class, column or split; a class without a readable image;
            no image but those it was trained on.
    """
    device = torch.device(device or default_device())
    judge, rows = load_judge(config, device=device), _rows(data, split, column, seed)
    known = {a: judge.classes(a) for a in filter(None, [*judge.attributes, judge.concept])}
    _truth(rows, labels, known, config.name, str(data))  # says what is wrong with all of them
    rows = _not_trained_on(rows, config, str(data))
    truth = _truth(rows, labels, known, config.name, str(data))
    found = {name: AnswerTable(known[name]) for name in labels}
    done = 0
    pixels = readable(rows, str(data), side=judge.side)
    for indices, images in in_batches(pixels, batch, device=device):
        _count(answers(judge, images), {a: [truth[a][i] for i in indices] for a in found}, found)
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


def _count(said: Predictions, truth: dict[str, list], found: "dict[str, AnswerTable]") -> None:
    """Adds what was perceived in a batch to the tables."""
    for name, table in found.items():
        probs = said.probs[name].cpu().double().numpy()
        table.add(truth[name], probs, said.seen.cpu().numpy())


def _refuse_empty(found: "dict[str, AnswerTable]", where: str) -> None:
    """Raises UserError where a class has no image that could be read."""
    for name, table in found.items():
        for cls, called in table.counts.items():
            if not sum(called.values()):
                raise UserError(
                    f"{where}: no image is labelled {cls!r} of {name!r} and can be read; a "
                    "calibration needs some of every class"
                )


def _rows(data: str | os.PathLike, split: str | None, column: str | None, seed: int) -> Any:
    import datasets

    parts = labelled(data, split=column, seed=seed)
    if split and split not in parts:
        raise unknown("split", split, parts, where=str(data))
    return parts[split] if split else datasets.concatenate_datasets(list(parts.values()))


def _not_trained_on(rows: Any, config: JudgeConfig, where: str) -> Any:
    """The rows without the images that the judge was trained on."""
    file = config.beside(TRAINED_ON)
    if file is None:
        return rows
    try:
        trained = set(json.loads(file.read_text(encoding="utf-8"))["images"]) - {""}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: does not say what the judge was trained on ({error}); train it anew, or "
            "delete this file if you know that the labelled images were not among its own"
        ) from error
    kept = [i for i, name in enumerate(digests(rows)) if name not in trained]
    if not kept:
        raise UserError(
            f"{where}: judge {config.name!r} was trained on all of these images, so they do not "
            "show how often it errs on others; name other images, or a split kept back (--split)"
        )
    if len(kept) < len(rows):
        warnings.warn(
            f"{where}: {len(rows) - len(kept)} of {len(rows)} images are left out, because judge "
            f"{config.name!r} was trained on them",
            stacklevel=3,
        )
    return rows.select(kept)


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
        try:
            said = values(rows, entry.column, where)
        except UserError as error:
            columns = [c for c in rows.column_names if c != "image"]
            column = next((c for c in (name, "label", *columns) if c in columns), "COLUMN")
            raise UserError(
                f"{error}. Say which holds {name!r}, such as --labels {name}={column}"
            ) from error
        indices = [entry.find(value) for value in said]
        truth[name] = [None if k is None else entry.names[k] for k in indices]
        for cls in entry.names:
            if cls not in truth[name]:
                raise UserError(
                    f"{where}: no image is labelled {cls!r} of {name!r}; a calibration needs some "
                    f"of every class. Column {entry.column!r}: {values_found(said)}. If other "
                    f"words mean {cls!r}, say which in a YAML file for --labels-from: "
                    f"{name}: {{column: {entry.column}, classes: {{{cls}: [WORD], ...}}}}"
                )
    return truth


class AnswerTable:
    """What a judge answers to labelled images, of one attribute, by true class.

    Args:
        classes: of the attribute, in the order of the probabilities.
    """

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
        """Mean probabilities and products by true class.

        Raises:
            UserError: a class of which no image was added.
        """
        n = self._calls.sum(1)
        if not n.all():
            cls = self._classes[int(n.argmin())]
            raise UserError(f"calibration: no image is labelled {cls!r} and can be read")
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
