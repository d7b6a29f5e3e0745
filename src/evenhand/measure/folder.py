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
from evenhand.images.tables import Picture, by_folder, printable, read_table
from evenhand.judges.perceive import judged
from evenhand.measure.settings import judging, sure
from evenhand.recipes.judge import find_judge
from evenhand.recipes.measure import Measure
from evenhand.training.run_directory import open_run

if TYPE_CHECKING:
    from evenhand.images.io import Pixels


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
    from evenhand.images.io import read_images
    from evenhand.images.tensors import in_batches
    from evenhand.judges.registry import best_device, load_judge

    listed, settings = plan_images(config)
    device = best_device()
    judge = load_judge(find_judge(settings["judge"]["name"]), device=device)
    folder = open_run(folder, sure(settings, judge))
    journal, skipped = folder / "records.jsonl", []
    done = {key(r, r.seed) for r in reopen(journal)}
    missing = [picture for picture in listed if key(picture.prompt, picture.seed) not in done]
    drawn = len(listed) - len(missing)

    def readable() -> Iterator[tuple[Picture, "Pixels"]]:
        for picture, image in read_images(missing, side=judge.side):
            if isinstance(image, Exception):
                skipped.append({"image": printable(picture.path), "why": str(image)})
            else:
                yield picture, image

    for batch, images in in_batches(readable(), config.batch, device=device):
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
    _say_skipped(folder / "skipped.jsonl", skipped, len(listed), str(config.images_from))
    from evenhand.reports.html import write_report

    return write_report(folder)


def _say_skipped(file: pathlib.Path, skipped: list[dict[str, str]], total: int, where: str) -> None:
    """Writes and says which images were left out and why; raises UserError where all were."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in skipped]
    write_text(file, "".join(lines))
    if len(skipped) == total:
        raise UserError(f"{where}: no image could be read; {file} says why")
    if skipped:
        warnings.warn(
            f"{len(skipped)} of {total} images could not be read: {file} says why", stacklevel=3
        )
