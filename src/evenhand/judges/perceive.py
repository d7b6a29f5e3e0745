"""A record for each image that was judged, and the image's file."""

import pathlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from torch import Tensor

from evenhand.core.adapters import Adapter
from evenhand.core.errors import UserError
from evenhand.core.files import whole
from evenhand.core.prompts import Row
from evenhand.core.records import Record, hash63
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import Judge, answers


def with_digest(settings: dict[str, Any], judge: Judge) -> dict[str, Any]:
    """A run's settings with the judge's digest.

    Raises:
        UserError: the calibration is of another judge.
    """
    calibration = settings["calibration"]
    if calibration and calibration["digest"] != judge.digest:
        raise UserError(
            "the calibration is of classifier "
            f"{calibration['classifier']}@{calibration['digest']}, the judge is "
            f"{judge.name}@{judge.digest}: calibrate it anew with `evenhand calibrate`, or "
            "measure without correction: --calibration none"
        )
    return {**settings, "judge": {**settings["judge"], "digest": judge.digest}}


def judge_is_trainer(
    judge: Judge, adapters: Iterable[Adapter], *, allowed: bool
) -> dict[str, bool]:
    """What a run's settings say where the judge trained an adapter; nothing where it did not.

    Raises:
        UserError: it did, and that is not allowed.
    """
    trained = [
        adapter.name
        for adapter in adapters
        if judge.digest in [classifier.get("digest") for classifier in adapter.classifiers]
    ]
    if not trained:
        return {}
    if not allowed:
        raise UserError(
            f"judge {judge.name!r} trained the adapter {trained[0]!r}: its numbers would "
            "flatter. Name another "
            "with --judge, or insist with --judge-may-be-trainer"
        )
    return {"judge_is_trainer": True}


def judged(
    rows: Sequence[Row],
    images: Tensor,
    judge: Judge,
    attributes: dict[str, Any],
    source: str,
    files: list[str] | None = None,
    flagged: list[bool] | None = None,
) -> list[Record]:
    """A record for each image `[N, 3, H, W]`: what was asked, drawn and perceived.

    Args:
        rows: prompts and seeds.
        images: in [0, 1].
        judge: who perceives.
        attributes: names of those that the run reports.
        source: of the images.
        files: their files; a name in the run directory when None.
        flagged: what the model's safety checker said of each.
    """
    predictions = answers(judge, images)
    names = [
        *attributes,
        *([judge.concept] if judge.concept and judge.concept not in attributes else []),
    ]
    classes = {name: judge.classes(name) for name in names}
    probs = {name: predictions.probs[name].cpu().tolist() for name in names}
    return [
        Record(
            prompt=p.text,
            concept=p.concept,
            family=p.family,
            split=p.split,
            seed=seed,
            source=source,
            image=files[i] if files else _file(p.text, seed),
            probs={
                a: {c: round(x, 4) for c, x in zip(classes[a], probs[a][i], strict=True)}
                for a in names
            },
            seen=bool(predictions.seen[i]),
            flagged=flagged[i] if flagged else None,
            faces=None if predictions.faces is None else int(predictions.faces[i]),
            box=_box(predictions.boxes, predictions.seen, i),
            states=p.states,
        )
        for i, (p, seed) in enumerate(rows)
    ]


def _box(boxes: Tensor | None, seen: Tensor, i: int) -> list[float] | None:
    return None if boxes is None or not seen[i] else [round(x, 1) for x in boxes[i].tolist()]


def save_images(images: Tensor, paths: Sequence[pathlib.Path]) -> None:
    """Writes images `[N, 3, H, W]` in [0, 1] as PNG files, each whole, several at a time."""
    arrays = to_uint8(images)

    def save(item: tuple[Any, pathlib.Path]) -> None:
        with whole(item[1]) as temporary:
            Image.fromarray(item[0]).save(temporary, format="PNG")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, zip(arrays, paths, strict=True)))


def _file(prompt: str, seed: int) -> str:
    """Where an image is kept, relative to the run directory.

    Readable, and different for different prompts in any script.
    """
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:60].strip("-")
    return f"images/{words or 'image'}-{hash63(prompt, seed):016x}.png"
