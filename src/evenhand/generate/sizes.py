"""How large a set was asked to be, one time after the other: it may grow, and never shrinks."""

import pathlib
from dataclasses import dataclass
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.locks import lease
from evenhand.core.schema import read_json
from evenhand.generate.quotas import Quotas, name_of

FILE = "stages.json"


@dataclass(frozen=True)
class Stage:
    """One size: the quotas, and the images that may be drawn for them in all."""

    quotas: Quotas
    budget: int


def sizes_with(folder: pathlib.Path, stage: Stage) -> list[Stage]:
    """The sizes that were asked for in a folder, and this one; nothing is written.

    Earlier ones are gone through again before the last: so an image is taken or not whatever comes
    later, and a set that grows keeps what it has.

    Raises:
        UserError: the set there is larger.
    """
    stages = read_stages(folder)
    if stages and stages[-1] != stage:
        _refuse_smaller(folder, stages[-1], stage)
    return stages if stages and stages[-1] == stage else [*stages, stage]


def claim_sizes(folder: pathlib.Path, stages: list[Stage]) -> None:
    """Writes the sizes, to be called when there is a first result.

    Another command may have let the set grow further meanwhile; its sizes stay.

    Raises:
        UserError: another command has asked for something else meanwhile.
    """
    with lease(folder / ".leases" / "stages", wait=True):
        there = read_stages(folder)
        if there[: len(stages)] == stages:
            return
        if stages[: len(there)] != there:
            raise UserError(
                f"{folder}: another command has let the set grow to another size meanwhile; name "
                "another directory with --out"
            )
        write_json(folder / FILE, {"stages": [_plain(x) for x in stages]})


def read_stages(folder: pathlib.Path) -> list[Stage]:
    """The sizes that were asked for so far. Raises UserError where the file is damaged."""
    path = folder / FILE
    if not path.is_file():
        return []
    values = read_json(path, what="a set's sizes", advice="name another directory with --out")
    try:
        return [
            Stage(
                {(tuple(row["cell"]), str(row["group"])): int(row["images"]) for row in x["cells"]},
                int(x["budget"]),
            )
            for x in values["stages"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a set's sizes; name another directory with --out"
        ) from error


def _plain(stage: Stage) -> dict[str, Any]:
    rows = [{"cell": c, "group": g, "images": n} for (c, g), n in stage.quotas.items()]
    return {"budget": stage.budget, "cells": rows}


def _refuse_smaller(folder: pathlib.Path, before: Stage, stage: Stage) -> None:
    for (cell, group), n in before.quotas.items():
        if (now := stage.quotas.get((cell, group), 0)) < n:
            where = f"{name_of(cell)}{f', {group!r}' if group else ''}"
            raise UserError(
                f"{folder} holds a set of {n} images of {where}, {now} are asked for: a set may "
                "grow only. Name another directory with --out"
            )
    if stage.budget < before.budget:
        raise UserError(
            f"{folder}: the set there has a budget of {before.budget} images, {stage.budget} is "
            "given: it may grow only. Raise budget, or name another directory with --out"
        )
