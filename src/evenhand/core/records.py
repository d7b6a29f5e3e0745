"""Records, one row an image: what was drawn and what was perceived.

While a run goes on its records lie in parts (`evenhand.core.work`); at its end they are put
together, in the order of the plan, as `records.jsonl`. `run.json` holds the settings.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import write_text
from evenhand.core.locks import lease
from evenhand.core.prompts import Prompt
from evenhand.core.work import part_of

SCHEMA = 2  # of run.json and the records; 1 had no schema key, 32-bit seeds and no parts


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        prompt, concept, family, split, states: the prompt (`Prompt`).
        seed: of the image's own generator, 63 bits; of a picture made elsewhere, a hash of its
            place.
        source: `base@revision[+adapter@digest]`.
        image: file, relative to the run directory; of a picture made elsewhere, its absolute path.
        probs: `{attribute: {class: probability}}` by the run's judge.
        seen: whether the judge found something to judge.
        flagged: whether the model's safety checker takes offence at it; None without one.
        faces: how many faces were found; None where none were looked for.
        box: pixels (left, top, right, bottom) that were judged; None where it was the whole image.
    """

    prompt: str
    concept: str
    family: str
    split: str
    seed: int
    source: str
    image: str
    probs: dict[str, dict[str, float]]
    seen: bool = True
    flagged: bool | None = None
    states: dict[str, str] = field(default_factory=dict)
    faces: int | None = None
    box: list[float] | None = None

    @functools.cached_property
    def perceived(self) -> dict[str, str]:
        """The most probable class of each attribute; empty when nothing was seen."""
        return {a: max(p, key=p.__getitem__) for a, p in self.probs.items()} if self.seen else {}


Run = tuple[dict[str, Any], list[Record]]  # what run.json holds, and the records


def hash63(*parts: object) -> int:
    """A number of 63 bits that follows from the parts.

    Of 65,000 such, two are equal with a chance of 2e-10.
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def image_seed(purpose: str, base: int, prompt: str, index: int) -> int:
    """Seed of the index-th image of a prompt.

    A hash, so that neither prompts nor purposes share their noises.

    Args:
        purpose: `measure`, `train`: images that an adapter was trained on are not those that it is
            measured on.
        base: the seed that the user chose.
        prompt: its text.
        index: 0, 1, ...
    """
    return hash63(purpose, base, prompt, index)


def key(prompt: Prompt | Record, seed: int) -> tuple[str, int]:
    """What names a row within one run."""
    return (prompt.text if isinstance(prompt, Prompt) else prompt.prompt, seed)


def lines_of(records: Iterable[Record]) -> str:
    """Records as lines of JSON; fields that say nothing are left out."""
    names = [f.name for f in fields(Record)]
    rows = [{name: getattr(r, name) for name in names} for r in records]
    kept = [{k: v for k, v in row.items() if v is not None or k == "flagged"} for row in rows]
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in kept)


def read(path: str | os.PathLike) -> list[Record]:
    """Reads `records.jsonl`, or a part.

    Raises:
        UserError: no such file, a line that is no record, or one that stands twice.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no records here; a run directory of `evenhand measure` holds records.jsonl"
        )
    records, seen = [], set()
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "skipped" in row:
                continue
            record = Record(**row)
            place = (record.prompt, record.seed)
            if place in seen:
                raise ValueError(f"{record.prompt!r} with seed {record.seed} stands twice")
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}:{number}: not a record ({error}). Delete this file: the command that "
                "measured writes it anew"
            ) from error
        seen.add(place)
        records.append(record)
    return records


def read_parts(folder: pathlib.Path, units: Iterable[str]) -> list[Record]:
    """The records of units that are done."""
    return [record for unit in units for record in read(part_of(folder, unit))]


def skipped_in_parts(folder: pathlib.Path, units: Iterable[str]) -> list[dict[str, str]]:
    """What was left out of units that are done, and why."""
    lines = [line for unit in units for line in part_of(folder, unit).read_bytes().split(b"\n")]
    return [json.loads(line) for line in lines if line.startswith(b'{"skipped"')]


def write_records(
    folder: pathlib.Path, records: Iterable[Record], skipped: Sequence[dict[str, str]] = ()
) -> None:
    """Writes `records.jsonl` of a finished run, and `skipped.jsonl` of what was left out, whole."""
    with lease(folder / ".leases" / "records", wait=True):
        write_text(folder / "records.jsonl", lines_of(records))
        if skipped:
            write_text(folder / "skipped.jsonl", skipped_lines(skipped))
        else:
            (folder / "skipped.jsonl").unlink(missing_ok=True)


def skipped_lines(skipped: Iterable[dict[str, str]]) -> str:
    """What was left out as lines of JSON: `{"skipped": file, "why": reason}`."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in skipped)


def read_run(folder: str | os.PathLike) -> Run:
    """The settings and records of a run directory of `evenhand measure`, finished or not.

    Raises:
        UserError: it is none, or a newer version wrote it.
    """
    folder = pathlib.Path(folder)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        known = {"judge", "attributes"} <= run["settings"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: is no run directory of `evenhand measure` (no readable run.json)"
        ) from error
    if not known:
        raise UserError(
            f"{folder}: is no run directory of `evenhand measure`: its run.json names no judge"
        )
    if run.get("schema", 1) > SCHEMA:
        raise UserError(
            f"{folder}: was written by a newer evenhand (records of schema {run['schema']}, this "
            f"one reads up to {SCHEMA}); update evenhand"
        )
    if not (folder / "records.jsonl").exists() and (
        parts := sorted((folder / "parts").glob("*.jsonl"))
    ):
        return run, [record for part in parts for record in read(part)]
    return run, read(folder / "records.jsonl")
