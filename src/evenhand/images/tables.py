"""Images made elsewhere: which files there are, and what was asked of whoever made them.

No torch.
"""

import csv
import difflib
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt
from evenhand.core.rows import csv_rows
from evenhand.core.schema import parse_json

TEXTS = ("image", "prompt", "concept", "family", "split")  # columns of a table


class Picture(NamedTuple):
    """An image file and its prompt; `seed`, 63 bits of its path's hash, tells it from others."""

    prompt: Prompt
    path: pathlib.Path
    seed: int


def read_table(table: str | os.PathLike, folder: str | os.PathLike) -> list[Picture]:
    """The images that a table lists.

    Args:
        table: CSV, JSON lines (`.jsonl`) or a JSON list (`.json`), with columns `image` (file,
            relative to the folder, or an absolute path) and `prompt`; optionally `concept`,
            `family`, `split`, and `states.ATTRIBUTE`, the class that the prompt says.
        folder: of the images.

    Raises:
        UserError: no such table, no such column, a row that is no row of it, a relative path that
            leaves the folder, or a file that is listed twice, however it is spelled.
    """
    pictures: list[Picture] = []
    rows: dict[str, int] = {}
    for number, row in enumerate(rows_of_file(pathlib.Path(table)), start=1):
        where = f"{table}, row {number}"
        texts = _texts(row, where)
        name = texts["image"]
        if not os.path.isabs(name) and os.path.normpath(name).split(os.sep)[0] == os.pardir:
            raise UserError(f"{where}: {name} lies outside {folder}; write its absolute path")
        path = pathlib.Path(os.path.normpath(pathlib.Path(folder).absolute() / name))
        first = rows.setdefault(os.path.realpath(path), number)
        if first != number:
            raise UserError(f"{where}: {name} is listed twice, first in row {first}")
        pictures.append(Picture(prompt_of(texts), path, seed_of(path, folder)))
    if not pictures:
        raise UserError(f"{table}: lists no image")
    return pictures


def rows_of_file(table: pathlib.Path) -> Iterator[Any]:
    """The rows of a table (CSV, JSON lines or a JSON list), as they stand there.

    Raises:
        UserError: it cannot be read as one.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
        if table.suffix.lower() in {".jsonl", ".ndjson"}:
            yield from _json_lines(text)
        elif table.suffix.lower() == ".json":
            found = parse_json(text)
            yield from found if isinstance(found, list) else [found]
        else:
            yield from csv_rows(text)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{table}: cannot be read as a table ({error})") from error


def _json_lines(text: str) -> Iterator[Any]:
    """The value of each line. Only a line feed ends one: JSON texts may hold U+2028 as it is."""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                yield parse_json(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: {error.msg} at column {error.colno}") from error
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def _texts(row: Any, where: str) -> dict[str, str]:
    """A row's filled columns, of those that count; states may be nested in JSON."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: is no row with the columns image and prompt (got {row!r})")
    if wrong := _misspelt(tuple(row)):
        raise UserError(f"{where}: {wrong}")
    states = row.get("states") or {}
    if not isinstance(states, dict):
        raise UserError(
            f"{where}: states names no attribute (got {states!r}); write a column "
            'states.ATTRIBUTE, or in JSON "states": {"ATTRIBUTE": "CLASS"}'
        )
    found = {
        name: value
        for name, value in (row | {f"states.{k}": v for k, v in states.items()}).items()
        if (name in TEXTS or name.startswith("states.")) and value not in (None, "")
    }
    for name, value in found.items():
        if not isinstance(value, str):
            raise UserError(f"{where}: {name} shall be text (got {value!r})")
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{where}: {name} holds a character that no file can keep ({value!r})")
    for name in ("image", "prompt"):
        if name not in found:
            raise UserError(f"{where}: has no {name!r}; a table has the columns image and prompt")
    return found


@functools.lru_cache
def _misspelt(columns: tuple[str, ...]) -> str | None:
    """Which column is probably meant for one that counts, in words; others are left alone."""
    for name in columns:
        text = name.lower().strip()
        if name in TEXTS or name == "states" or name.startswith("states."):
            continue
        near = difflib.get_close_matches(text, [x for x in TEXTS if x not in columns], 1, 0.8)
        meant = "states.ATTRIBUTE" if text.startswith("state") else near[0] if near else None
        if meant:
            return f"column {name!r} counts for nothing; did you mean {meant}?"
    return None


def printable(path: str | os.PathLike) -> str:
    """A path as text that any file can keep: bytes that are no UTF-8 are escaped."""
    return os.fspath(path).encode(errors="backslashreplace").decode()


def prompt_of(texts: dict[str, str]) -> Prompt:
    """The prompt that a row's columns say, `prompt` at least."""
    text = texts["prompt"]
    states = {k.removeprefix("states."): v for k, v in texts.items() if k.startswith("states.")}
    return Prompt(
        text,
        texts.get("concept", text),
        texts.get("family", "images"),
        texts.get("split", "all"),
        states,
    )


def seed_of(path: pathlib.Path, folder: str | os.PathLike) -> int:
    """63 bits of the hash of a file's place in the folder."""
    name = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") >> 1
