"""Measuring images that are there already, made by whatever generator."""

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of
from evenhand.core.records import (
    Record,
    lines_of,
    read_parts,
    skipped_in_parts,
    skipped_lines,
    write_records,
)
from evenhand.core.work import Share, work
from evenhand.devices import default_device
from evenhand.images.io import Pixels, read_images
from evenhand.images.tables import Picture, printable
from evenhand.images.tensors import in_batches
from evenhand.judges.base import Judge
from evenhand.judges.perceive import judged, with_digest
from evenhand.judges.registry import load_judge
from evenhand.measure.plan import FolderPlan
from evenhand.reports.html import write_report
from evenhand.reports.models import Report
from evenhand.training.run_directory import check_run, claim_run

UNIT = 128  # pictures: more are decoded ahead of the judge, fewer are judged anew after a kill


def measure_folder(
    plan: FolderPlan,
    folder: str | os.PathLike,
    *,
    share: Share = Share(),
    progress: Callable[[int, int], None] | None = None,
    pictures: bool = True,
) -> Report | None:
    """Judges images that are there already.

    What cannot be read is left out, counted and named in `skipped.jsonl`.
    """
    judge = load_judge(plan.judge, device=default_device())
    settings = with_digest(plan.settings, judge)
    folder = check_run(folder, settings)

    def do(pictures: list[Picture]) -> str:
        records, skipped = _judge(pictures, judge, settings, plan.config.batch)
        claim_run(folder, settings)
        return lines_of(records) + skipped_lines(skipped)

    units = _units(plan.pictures, UNIT)

    def tell(done: int) -> None:
        if progress:
            progress(done, len(plan.pictures))

    if not work(units, folder, do, share=share, progress=tell):
        return None
    skipped = [*plan.left_out, *skipped_in_parts(folder, units)]
    write_records(folder, read_parts(folder, units), skipped)
    for part in (folder / "parts").glob("*.jsonl"):
        if part.stem not in units:  # of pictures that are gone, or have changed since
            part.unlink(missing_ok=True)
    if share.rank and not share.only:
        return None
    if skipped:
        message = (
            f"{len(skipped)} of {len(plan.pictures) + len(plan.left_out)} images could not be "
            f"read: {folder / 'skipped.jsonl'} says why"
        )
        if len(skipped) == len(plan.pictures) + len(plan.left_out):
            raise UserError(message)
        warnings.warn(message, stacklevel=2)
    return write_report(folder, pictures=pictures, accept=plan.config.accept)


def _judge(
    pictures: list[Picture], judge: Judge, settings: dict[str, Any], size: int
) -> tuple[list[Record], list[dict[str, str]]]:
    """The records of a unit in its order, and what of it could not be read."""
    records, skipped = {}, []

    def readable() -> Iterator[tuple[Picture, Pixels]]:
        for picture, image in read_images(pictures, side=judge.side):
            if isinstance(image, Exception):
                skipped.append({"skipped": printable(picture.path), "why": str(image)})
            else:
                yield picture, image

    for batch, images in in_batches(readable(), size, device=default_device()):
        rows, files = [(p.prompt, p.seed) for p in batch], [str(p.path) for p in batch]
        found = judged(rows, images, judge, settings["attributes"], settings["source"], files)
        records |= {r.image: r for r in found}
    return [records[str(p.path)] for p in pictures if str(p.path) in records], skipped


def _units(pictures: list[Picture], size: int) -> dict[str, list[Picture]]:
    """Pictures cut into units.

    The name follows from their files as they are now: one that was overwritten is judged anew.
    """
    found = {}
    for start in range(0, len(pictures), size):
        part = pictures[start : start + size]
        files = [[str(p.path), p.prompt.text, p.prompt.states, *_stamp(p)] for p in part]
        found[f"000-{start // size:06d}-{digest_of(files)}"] = part
    return found


def _stamp(picture: Picture) -> list[int]:
    """Size and time of a file; nothing where it cannot be asked."""
    try:
        found = picture.path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
