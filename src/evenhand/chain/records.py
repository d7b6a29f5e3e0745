"""What is known of the stages of a chain's folder: `stages/NAME.json`.

A stage is done where its record says so and what it made is still there.
"""

import json
import pathlib
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import digest, digest_of, write_json
from evenhand.core.schema import Strict, check, read_json
from evenhand.core.settings import differing, flat
from evenhand.generate.report import read_set
from evenhand.recipes.chain import DRAWING, Verb

FREE = ("batch",)  # settings of a measurement that only cut the work up


class StageRecord(Strict):
    """A stage that has begun.

    Attributes:
        verb: that does it.
        settings: of its recipe, everything that the result depends on.
        needs: digests of what the stages made that it builds on, by their names.
        seconds: that it has taken, in all its runs.
        memory: peak of the process at its end, bytes.
        made: digest of what it made; None as long as it is not done.
    """

    verb: Verb
    settings: dict[str, Any]
    needs: dict[str, str] = {}
    seconds: float = 0.0
    memory: int = 0
    made: str | None = None


def path_of(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The record of a stage."""
    return folder / "stages" / f"{name}.json"


def read_record(folder: pathlib.Path, name: str) -> StageRecord | None:
    """The record of a stage; None where it has not begun.

    Raises:
        UserError: it is damaged.
    """
    path = path_of(folder, name)
    if not path.is_file():
        return None
    values = read_json(path, what="a stage's record", advice="delete it; the stage is looked at")
    return check(StageRecord, values, where=str(path))


def write_record(folder: pathlib.Path, name: str, record: StageRecord) -> None:
    """Writes the record of a stage."""
    write_json(path_of(folder, name), record.model_dump(mode="json"))


def made_by(verb: Verb, folder: pathlib.Path) -> str | None:
    """A digest of what a stage made in its folder; None where that is not there, or not whole."""
    if verb in DRAWING:
        found = read_set(folder)
        whole = found and all((folder / shard.path).exists() for shard in found.shards)
        there = verb == "generate" or (folder / "reference.json").is_file()
        return found.digest if found and whole and there else None
    if verb == "train":
        made = [folder / "adapter", folder / "model"]  # of all weights it is a model
        files = sorted(path for part in made for path in part.rglob("*.safetensors"))
        named = {str(path.relative_to(folder)): digest(path) for path in files}
        return digest_of(named) if named else None
    return "report.json" if (folder / "report.json").is_file() else None


def refuse_other(folder: pathlib.Path, name: str, before: StageRecord, now: StageRecord) -> None:
    """Refuses a stage that was done with other settings, or on what other stages made before.

    Raises:
        UserError: every difference, and what to do.
    """
    old, new = (_said(record) for record in (before, now))
    free = FREE if now.verb == "measure" else ()
    if found := differing(old, new, free):
        raise UserError(
            f"{folder}: stage {name!r} was done with other settings: "
            f"{found}. Make it and those that build on it anew with "
            f"--from {name}, or name another directory with --out"
        )


def _said(record: StageRecord) -> dict[str, Any]:
    """Settings and what it builds on, flat, as JSON has them."""
    values = flat(json.loads(json.dumps(record.settings)))
    made = {f"what stage {name!r} made": digest for name, digest in record.needs.items()}
    return {**values, "verb": record.verb, **made}
