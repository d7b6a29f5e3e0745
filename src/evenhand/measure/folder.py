"""Measuring images that are there already, made by whatever generator."""

import json
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from evenhand.core.errors import UserError
from evenhand.core.files import digest, write_text
from evenhand.core.records import append, key, reopen
from evenhand.images.tables import Picture, by_folder, read_table
from evenhand.judges.perceive import judged
from evenhand.measure.settings import judging, sure
from evenhand.recipes.measure import Measure
from evenhand.training.run_directory import open_run

if TYPE_CHECKING:
    from torch import Tensor


def plan_images(config: Measure) -> tuple[list[Picture], dict[str, Any]]:
    """As `plan`, of images that are there already.

    The files with their prompts, and everything that the result depends on.
    """
    pictures = config.images_from or ""
    if not config.judge:
        raise UserError(
            "images made elsewhere have no judge of their own: name a classifier with --judge"
        )
    listed = read_table(config.prompts[0], pictures) if config.prompts else by_folder(pictures)
    return listed, {
        "images_from": str(pathlib.Path(pictures).resolve()),
        "source": f"folder:{pictures}",
        "seed": config.seed,
        "prompts": dict.fromkeys(config.prompts, "table"),
        "texts": {name: digest(name) for name in config.prompts},
        "splits": [],
        **judging(config, config.judge, config.domain or pictures),
    }


def measure_images(
    config: Measure,
    folder: str | os.PathLike,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judges images that are there already.

    What cannot be read is left out, counted and named in `skipped.jsonl`.
    """
    from evenhand.images.io import in_batches, read_images
    from evenhand.judges.registry import load_judge

    listed, settings = plan_images(config)
    judge = load_judge(settings["judge"]["name"])
    folder = open_run(folder, sure(settings, judge))
    journal, skipped = folder / "records.jsonl", []
    done = {key(r, r.seed) for r in reopen(journal)}
    missing = [picture for picture in listed if key(picture.prompt, picture.seed) not in done]
    drawn = len(listed) - len(missing)

    def readable() -> Iterator[tuple[Picture, "Tensor"]]:
        for picture, image in read_images(missing):
            if isinstance(image, Exception):
                skipped.append({"image": str(picture.path), "why": str(image)})
            else:
                yield picture, image

    for batch, images in in_batches(readable(), config.batch):
        rows = [(p.prompt, p.seed) for p in batch]
        append(
            journal,
            judged(
                rows,
                images,
                judge,
                settings["attributes"],
                settings["source"],
                [str(p.path) for p in batch],
            ),
        )
        drawn += len(batch)
        if progress:
            progress(drawn, len(listed))
    write_text(
        folder / "skipped.jsonl",
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in skipped),
    )
    if len(skipped) == len(listed):
        raise UserError(
            f"{config.images_from}: no image could be read; {folder / 'skipped.jsonl'} says why"
        )
    if skipped:
        warnings.warn(
            f"{len(skipped)} of {len(listed)} images could not be read: "
            f"{folder / 'skipped.jsonl'} says why",
            stacklevel=2,
        )
    from evenhand.reports.html import write_report

    return write_report(folder)
