"""Images made elsewhere: which files there are, and what was asked of whoever made them.

No torch.
"""

import csv
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt

SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class Picture(NamedTuple):
    """An image file and its prompt; `seed` tells it from others of the same prompt."""

    prompt: Prompt
    path: pathlib.Path
    seed: int


def files_in(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The image files below a folder, by their endings, sorted; hidden ones are left out.

    Raises:
        UserError: no such folder, or no image in it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images")
    found = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    if not found:
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def by_folder(folder: str | os.PathLike) -> list[Picture]:
    """Every image, with the name of the folder that it lies in as its prompt."""
    return [_picture(path, folder, path.parent.name) for path in files_in(folder)]


def read_table(table: str | os.PathLike, folder: str | os.PathLike) -> list[Picture]:
    """The images that a table lists.

    Args:
        table: CSV, or JSONL, with columns `image` (file, relative to the folder) and `prompt`;
            optionally `concept`, `family`, `split`, and `states.ATTRIBUTE`, the class that the
            prompt says.
        folder: of the images.

    Raises:
        UserError: no such table, no such column, or a file that is listed twice.
    """
    table = pathlib.Path(table)
    try:
        text = table.read_text(encoding="utf-8-sig")
        rows = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if table.suffix == ".jsonl"
            else list(csv.DictReader(text.splitlines()))
        )
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{table}: cannot be read as a table of images and prompts ({error})"
        ) from error
    if not rows:
        raise UserError(f"{table}: lists no image")
    pictures, seen = [], set()
    for number, row in enumerate(rows, start=1):
        for column in ("image", "prompt"):
            if not isinstance(row, dict) or not row.get(column):
                raise UserError(
                    f"{table}, row {number}: has no {column!r}; a table has the columns image "
                    "and prompt"
                )
        if row["image"] in seen:
            raise UserError(f"{table}, row {number}: {row['image']} is listed twice")
        seen.add(row["image"])
        path = pathlib.Path(folder) / row["image"]
        states = {
            k.removeprefix("states."): v for k, v in row.items() if k.startswith("states.") and v
        }
        pictures.append(
            _picture(
                path,
                folder,
                row["prompt"],
                row.get("concept"),
                row.get("family"),
                row.get("split"),
                states,
            )
        )
    return pictures


def _picture(
    path: pathlib.Path,
    folder: str | os.PathLike,
    text: str,
    concept: str | None = None,
    family: str | None = None,
    split: str | None = None,
    states: dict[str, str] | None = None,
) -> Picture:
    prompt = Prompt(text, concept or text, family or "images", split or "all", states or {})
    name = os.path.relpath(path, folder)
    return Picture(
        prompt, path.absolute(), int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    )
