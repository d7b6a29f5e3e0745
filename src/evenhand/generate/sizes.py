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
class WishedSize:
    """One size: the quotas, and the images that may be drawn for them in all."""

    quotas: Quotas
    budget: int


def sizes_with(folder: pathlib.Path, size: WishedSize) -> list[WishedSize]:
    """The sizes that were asked for in a folder, and this one; nothing is written.

    Earlier ones are gone through again before the last: so an image is taken or not whatever comes
    later, and a set that grows keeps what it has.

    Raises:
        UserError: the set there is larger.
    """
    sizes = read_sizes(folder)
    if sizes and sizes[-1] != size:
        _refuse_smaller(folder, sizes[-1], size)
    return sizes if sizes and sizes[-1] == size else [*sizes, size]


def claim_sizes(folder: pathlib.Path, sizes: list[WishedSize]) -> None:
    """Writes the sizes, to be called when there is a first result.

    Another command may have let the set grow further meanwhile; its sizes stay.

    Raises:
        UserError: another command has asked for something else meanwhile.
    """
    with lease(folder / ".leases" / "stages", wait=True):
        there = read_sizes(folder)
        if there[: len(sizes)] == sizes:
            return
        if sizes[: len(there)] != there:
            raise UserError(
                f"{folder}: another command has let the set grow to another size meanwhile; name "
                "another directory with --out"
            )
        write_json(folder / FILE, {"stages": [_plain(x) for x in sizes]})


def read_sizes(folder: pathlib.Path) -> list[WishedSize]:
    """The sizes that were asked for so far. Raises UserError where the file is damaged."""
    path = folder / FILE
    if not path.is_file():
        return []
    values = read_json(path, what="a set's sizes", advice="name another directory with --out")
    try:
        return [
            WishedSize(
                {(tuple(row["cell"]), str(row["group"])): int(row["images"]) for row in x["cells"]},
                int(x["budget"]),
            )
            for x in values["stages"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a set's sizes; name another directory with --out"
        ) from error


def _plain(size: WishedSize) -> dict[str, Any]:
    rows = [{"cell": c, "group": g, "images": n} for (c, g), n in size.quotas.items()]
    return {"budget": size.budget, "cells": rows}


def _refuse_smaller(folder: pathlib.Path, before: WishedSize, size: WishedSize) -> None:
    for (cell, group), n in before.quotas.items():
        if (now := size.quotas.get((cell, group), 0)) < n:
            where = f"{name_of(cell)}{f', {group!r}' if group else ''}"
            raise UserError(
                f"{folder} holds a set of {n} images of {where}, {now} are asked for: a set may "
                "grow only. Name another directory with --out"
            )
    if size.budget < before.budget:
        raise UserError(
            f"{folder}: the set there has a budget of {before.budget} images, {size.budget} is "
            "given: it may grow only. Raise budget, or name another directory with --out"
        )
