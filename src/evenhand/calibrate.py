"""Calibrating a classifier: what it calls images whose labels are known."""

import datetime
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from evenhand.classifiers import load_classifier
from evenhand.correction import NOT_SEEN, Calibration
from evenhand.errors import UserError, unknown
from evenhand.images import in_batches, labelled, pixels_of, values
from evenhand.labels import Labels


def calibrate(classifier: str, data: str | os.PathLike, labels: Mapping[str, Labels], *, split: str | None = None,
              column: str | None = None, seed: int = 0, domain: str = "", batch: int = 64, device: str = "cpu",
              progress: Callable[[int, int], None] | None = None) -> Calibration:
    """Counts what a classifier calls labelled images of each true class.

    Args:
        classifier: name, YAML or folder.
        data: labelled images, as `evenhand.images.labelled` reads them.
        labels: which column says an attribute's class.
        split: of the data; all of it when None.
        column: that says the split; else the data's own, or a random one.
        seed: of a random split: that of the recipe, or images it was trained on are among those it is calibrated on.
        domain: what kind of images these are, in words; the data's name when empty.
        batch: images judged at a time, of one size.
        device: of the classifier.
        progress: called with (images done, images in all).

    Raises:
        UserError: unknown attribute, class, column or split; a class without an image.
    """
    import datasets

    judge, parts = load_classifier(classifier, device=device), labelled(data, split=column, seed=seed)
    if split and split not in parts:
        raise unknown("split", split, parts, where=str(data))
    rows = parts[split] if split else datasets.concatenate_datasets(list(parts.values()))
    truth = {}
    for name, entry in labels.items():
        if name not in judge.attributes:
            raise unknown("attribute", name, judge.attributes, where=f"classifier {classifier!r}")
        if set(entry.names) != set(judge.attributes[name].classes):
            raise UserError(f"{name}: the labels mean {', '.join(entry.names)}; classifier {classifier!r} knows "
                            f"{', '.join(judge.attributes[name].classes)}")
        truth[name] = [None if (k := entry.find(v)) is None else entry.names[k] for v in values(rows, entry.column, str(data))]
    classes = {a: judge.attributes[a].classes for a in labels}
    counts = {a: {c: dict.fromkeys([*names, NOT_SEEN], 0) for c in names} for a, names in classes.items()}
    done = 0
    for indices, images in in_batches(((i, pixels_of(row["image"])) for i, row in enumerate(rows)), batch):
        for index, called in zip(indices, _called(judge, images.to(device)), strict=True):
            for name, table in counts.items():
                if (true := truth[name][index]) is not None:
                    table[true][called.get(name, NOT_SEEN)] += 1
        done += len(indices)
        if progress:
            progress(done, len(rows))
    for name, table in counts.items():
        for cls, row in table.items():
            if not sum(row.values()):
                raise UserError(f"{data}: no image is labelled {cls!r} of {name!r}; a calibration needs some of every class")
    return Calibration(classifier=classifier, digest=judge.digest, domain=domain or str(data), data=str(data),
                       date=datetime.date.today().isoformat(), attributes=counts)


def _called(judge: Any, images: torch.Tensor) -> list[dict[str, str]]:
    """The class of each attribute that each image is called; nothing where nothing is seen."""
    with torch.no_grad():
        found = judge(images)
    called = {a: found.logits[a].argmax(-1).tolist() for a in judge.attributes}
    return [{a: judge.attributes[a].classes[called[a][i]] for a in called} if seen else {}
            for i, seen in enumerate(found.seen.tolist())]
