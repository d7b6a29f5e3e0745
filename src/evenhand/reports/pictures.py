"""The images of a page: some of each prompt, small, with what was judged of them."""

import base64
import io
import json
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from evenhand.core.records import Record
from evenhand.images.io import Pixels, Unreadable, read_image
from evenhand.reports.models import Report
from evenhand.reports.tally import by_prompt, once

COLUMNS = 12
THUMBNAIL = 128  # pixels, at most
WHOLE = 256  # pixels, at most, of a photograph of which a part was judged
DATA = "data:image/png;base64,"  # begins a picture that a page holds
SHOWN = 60  # prompts whose images are shown, at most


@dataclass(frozen=True)
class Side:
    """A run on a page.

    Attributes:
        label: `before` or `after`, or the judge's name, or nothing where the run is alone.
        folder: run directory.
        report: of the run.
        records: of the run.
    """

    label: str
    folder: pathlib.Path
    report: Report
    records: list[Record]


def of_people(sides: list[Side]) -> bool:
    """Whether the images may show real people: all that were made elsewhere."""
    return any(side.report.run.settings.get("images_from") for side in sides)


def grids(sides: list[Side]) -> tuple[list[dict[str, Any]], int]:
    """For each neutral, then each explicit prompt, some images of each run, same seeds.

    Which ones is left to chance, and always the same: those with the smallest seeds, which are
    hashes. They stand in the run's order. (The first of a sorted table would all be alike.)

    Returns:
        those of at most `SHOWN` prompts, and how many were left out.
    """
    tables = [
        {p: {r.seed: r for r in rows} for p, rows in by_prompt(once(side.records)).items()}
        for side in sides
    ]
    found = []
    prompts = sorted(tables[-1], key=lambda p: bool(next(iter(tables[-1][p].values())).states))
    for prompt in prompts[:SHOWN]:
        last, runs = tables[-1][prompt], [table.get(prompt, {}) for table in tables]
        both = [seed for seed in last if all(seed in rows for rows in runs)]
        chosen = set(sorted(both)[:COLUMNS])
        seeds = [seed for seed in both if seed in chosen]
        if seeds:
            first = last[seeds[0]]
            lines = [
                (side.label, [_cell(side, rows[seed]) for seed in seeds])
                for side, rows in zip(sides, runs, strict=True)
            ]
            found.append(
                {
                    "prompt": prompt,
                    "states": first.states,
                    "split": first.split,
                    "lines": lines,
                    "images": len(both),
                }
            )
    return found, max(len(prompts) - SHOWN, 0)


def _cell(side: Side, record: Record) -> dict[str, Any]:
    """One image as data URIs with what was perceived in it: what was judged, and the whole of it.

    No image where its file is gone or unreadable, or none of the run's own.
    """
    settings = side.report.run.settings
    judge, made = settings["judge"], not settings.get("images_from")
    probs = [
        [a, ", ".join(f"{c} {x:.2f}" for c, x in sorted(p.items(), key=lambda item: -item[1])[:5])]
        for a, p in record.probs.items()
    ]
    faces = [] if record.faces is None else [["faces found", str(record.faces)]]
    box = ", ".join(f"{x:.0f}" for x in record.box or ())
    facts = [
        ["prompt" if made or settings["prompts"] else "folder", record.prompt],
        *([["seed", str(record.seed)], ["source", record.source]] if made else []),
        ["file", _shown(side, record)],
        ["judge", f"{judge['name']}@{judge['digest']}"],
        *(faces + ([["judged: left, top, right, bottom", box]] if box else [])),
        *(probs if record.seen else [["not seen", _nothing(record)]]),
    ]
    path = _file(side, record)
    crop, whole = _pictures(path, record) if path else (None, None)
    return {
        "uri": crop,
        "whole": whole,
        "facts": json.dumps(facts, ensure_ascii=False),
        "perceived": record.perceived,
        "probs": {a: max(p.values()) for a, p in record.probs.items()},
        "seen": record.seen,
    }


def _shown(side: Side, record: Record) -> str:
    """The image's path inside of the folder that was measured: nothing else of the machine."""
    root = str(side.report.run.settings.get("images_from") or "")
    path = pathlib.PurePath(record.image)
    if root and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return record.image


def _nothing(record: Record) -> str:
    """Why an image is in no share."""
    return "no face was found" if record.faces == 0 else "the judge found nothing to judge"


def _file(side: Side, record: Record) -> pathlib.Path | None:
    """The image's file; None where it lies outside of the run's folder.

    Images made elsewhere lie in the folder that was measured. A journal that was made by somebody
    else may name any file, which the page would show to whoever it is sent to.
    """
    made_elsewhere = side.report.run.settings.get("images_from")
    root = pathlib.Path(made_elsewhere) if made_elsewhere else side.folder
    path = root / record.image
    if path.resolve().is_relative_to(root.resolve()):
        return path
    # a link inside of the measured folder may lead out of it; `..` may not
    linked = made_elsewhere and ".." not in path.parts and path.is_relative_to(root)
    return path if linked else None


def _pictures(path: pathlib.Path, record: Record) -> tuple[str | None, str | None]:
    """What was judged, small, and the whole image with a frame around it, as data URIs.

    The second is None where the whole image was judged.
    """
    try:
        pixels = read_image(path, side=None if record.box else THUMBNAIL)
    except Unreadable:
        return None, None
    if not record.box:
        return data_uri(Image.fromarray(pixels), THUMBNAIL), None
    return data_uri(_crop(pixels, record.box), THUMBNAIL), data_uri(
        _framed(pixels, record.box), WHOLE
    )


def _crop(pixels: Pixels, box: list[float]) -> Image.Image:
    """The part of an image that was judged; black beyond the image, as the judge saw it."""
    left, top, right, bottom = (round(x) for x in box)
    return Image.fromarray(pixels).crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _framed(pixels: Pixels, box: list[float]) -> Image.Image:
    """The whole image, small, with a frame around what was judged."""
    image = Image.fromarray(np.array(pixels))
    scale = min(1.0, WHOLE / max(image.size))
    image.thumbnail((WHOLE, WHOLE))
    left, top, right, bottom = (x * scale for x in box)
    inside = (
        max(left, 0),
        max(top, 0),
        min(right, image.width - 1),
        min(bottom, image.height - 1),
    )
    if inside[0] < inside[2] and inside[1] < inside[3]:
        ImageDraw.Draw(image).rectangle(inside, outline="#E69F00", width=2)
    return image


def data_uri(image: Image.Image, size: int) -> str:
    """An image as a PNG in a data URI, no side longer than `size` pixels."""
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return DATA + base64.b64encode(buffer.getvalue()).decode()
