"""Records: one row an image, what was drawn and what was perceived.

A journal of JSON lines that survives a kill.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        prompt, concept, family, split, states: the prompt (`Prompt`).
        seed: of the image's own generator.
        source: `base@revision[+adapter@digest]`.
        image: file, relative to the run directory.
        probs: `{attribute: {class: probability}}` by the run's classifier.
        seen: whether the classifier found something to judge.
        flagged: whether the model's safety checker takes offence at it; None without one.
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

    @functools.cached_property
    def perceived(self) -> dict[str, str]:
        """The most probable class of each attribute; empty when nothing was seen."""
        return {a: max(p, key=p.__getitem__) for a, p in self.probs.items()} if self.seen else {}


Run = tuple[
    dict[str, Any], list[Record]
]  # settings and versions of a run directory, and its records


def image_seed(base: int, prompt: str, index: int) -> int:
    """Seed of the index-th image of a prompt: a hash, so that prompts do not share their noises."""
    return int.from_bytes(hashlib.sha256(f"{base}|{prompt}|{index}".encode()).digest()[:4], "big")


def key(prompt: Prompt | Record, seed: int) -> tuple[str, int]:
    """What names a row within one run."""
    return (prompt.text if isinstance(prompt, Prompt) else prompt.prompt, seed)


def append(path: str | os.PathLike, records: Iterable[Record]) -> None:
    """Appends rows with one write and waits until the disk has them."""
    names = [f.name for f in fields(Record)]
    lines = "".join(
        json.dumps({name: getattr(r, name) for name in names}, ensure_ascii=False) + "\n"
        for r in records
    )
    with open(path, "a", encoding="utf-8") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | os.PathLike) -> list[Record]:
    """Reads the journal. A last line cut by a kill is left out; any other damage is an error.

    Raises:
        UserError: no such file, or a damaged line, named.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no records here; a run directory of `evenhand measure` holds records.jsonl"
        )
    text = path.read_text(encoding="utf-8")
    records = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            records.append(Record(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}:{number}: not a record ({error}); delete the line to measure that image "
                "anew"
            ) from error
    return records


def reopen(path: str | os.PathLike) -> list[Record]:
    """Reads the journal for continuing it.

    A last line cut by a kill is removed from the file. [] when there is none.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return read(path)


def read_run(folder: str | os.PathLike) -> Run:
    """The settings and records of a run directory of `evenhand measure`.

    Raises:
        UserError: it is none.
    """
    folder = pathlib.Path(folder)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        settings = run["settings"]
        assert {"judge", "attributes"} <= settings.keys()
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"{folder}: is no run directory of `evenhand measure` (no run.json of one)"
        ) from error
    return run, read(folder / "records.jsonl")
