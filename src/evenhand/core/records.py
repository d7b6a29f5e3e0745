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
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from evenhand.core.attributes import Attribute, attributes_of
from evenhand.core.errors import UserError
from evenhand.core.files import write_text
from evenhand.core.locks import lease
from evenhand.core.prompts import Prompt
from evenhand.core.runs import read_run_file
from evenhand.core.schema import Share
from evenhand.core.work import part_of

SCHEMA = 2  # of run.json and the records; 1 had no schema key, 32-bit seeds and no parts


def _sums_to_1(probs: dict[str, float]) -> dict[str, float]:
    total = sum(probs.values())
    if abs(total - 1) > 1e-3 + 1e-4 * len(probs):  # each is rounded to four digits
        raise ValueError(f"probabilities sum to {total:g}")
    return probs


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

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # for what is read
    prompt: str
    concept: str
    family: str
    split: str
    seed: int
    source: str
    image: str
    probs: dict[str, Annotated[dict[str, Share], AfterValidator(_sums_to_1)]]
    seen: bool = True
    flagged: bool | None = None
    states: dict[str, str] = field(default_factory=dict)
    faces: int | None = None
    box: list[float] | None = None

    @functools.cached_property
    def perceived(self) -> dict[str, str]:
        """The most probable class of each attribute; empty when nothing was seen."""
        return {a: max(p, key=p.__getitem__) for a, p in self.probs.items()} if self.seen else {}


_RECORD = TypeAdapter(Record)
_SKIPPED = TypeAdapter(dict[str, str])
SKIPPED = b'{"skipped"'  # how a line begins that names an image that was left out
ANEW = "Delete this file: the command that measured writes it anew"
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
            if line.startswith(SKIPPED):
                _SKIPPED.validate_json(line)
                continue
            record = _RECORD.validate_json(line)
            if key(record, record.seed) in seen:
                raise ValueError(f"{record.prompt!r} with seed {record.seed} stands twice")
        except ValueError as error:
            why = _first(error) if isinstance(error, ValidationError) else error
            raise UserError(f"{path}:{number}: not a record ({why}). {ANEW}") from error
        seen.add(key(record, record.seed))
        records.append(record)
    return records


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'line'}: {problem['msg']}"


def read_parts(folder: pathlib.Path, units: Iterable[str]) -> list[Record]:
    """The records of units that are done."""
    return [record for unit in units for record in read(part_of(folder, unit))]


def skipped_in_parts(folder: pathlib.Path, units: Iterable[str]) -> list[dict[str, str]]:
    """What was left out of units that are done, and why."""
    lines = [line for unit in units for line in part_of(folder, unit).read_bytes().split(b"\n")]
    return [_SKIPPED.validate_json(line) for line in lines if line.startswith(SKIPPED)]


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
    run = read_run_file(folder / "run.json", newest=SCHEMA)
    parts = sorted((folder / "parts").glob("*.jsonl"))
    unfinished = parts and not (folder / "records.jsonl").exists()
    files = parts if unfinished else [folder / "records.jsonl"]
    known = attributes_of(run["settings"]["attributes"]).values()
    return run, [record for file in files for record in _judged(file, known)]


def _judged(file: pathlib.Path, known: Iterable[Attribute]) -> list[Record]:
    """The records of a file. Raises UserError where one has other classes than its run."""
    records = read(file)
    for r in records:
        for attribute in known:
            found = r.probs.get(attribute.name, {})
            if found.keys() != set(attribute.classes):
                raise UserError(
                    f"{file}: the record of {r.image} has {', '.join(found) or 'nothing'} for "
                    f"{attribute.name!r}, whose classes are {', '.join(attribute.classes)} in "
                    f"run.json. {ANEW}"
                )
    return records
