"""Two runs by different judges: may they be compared, and how far do the judges agree? No torch."""

import pathlib
import re
from typing import Any

import numpy as np

from evenhand.core.attributes import Attribute
from evenhand.core.errors import UserError
from evenhand.core.records import Record
from evenhand.reports.changes import Agreement
from evenhand.reports.tally import by_concept
from evenhand.stats.agreement import agreement


def judges_of(first: dict[str, Any], second: dict[str, Any], where: str) -> tuple[str, str] | None:
    """Names of the judges of two runs' settings, where they are two; None where they are one.

    A judge is known by the digest of its weights, whatever it is called.

    Raises:
        UserError: images and judge both differ, so a difference would be of neither; or an
            attribute has other classes in one run than in the other.
    """
    known_a, known_b = first["attributes"], second["attributes"]
    if not known_a.keys() & known_b.keys():
        raise UserError(
            f"{where} cannot be compared: one is of {', '.join(known_a)}, the other of "
            f"{', '.join(known_b)}"
        )
    for name in known_a.keys() & known_b.keys():
        classes = [known[name]["classes"] for known in (known_a, known_b)]
        if set(classes[0]) != set(classes[1]):
            raise UserError(
                f"{where} cannot be compared: {name!r} has the classes {', '.join(classes[0])} in "
                f"one, {', '.join(classes[1])} in the other; measure one of them anew"
            )
        contrasts = [known[name].get("contrast") or classes[0] for known in (known_a, known_b)]
        if set(contrasts[0]) != set(contrasts[1]):
            raise UserError(
                f"{where} cannot be compared: the gap of {name!r} is taken between "
                f"{', '.join(contrasts[0])} in one, {', '.join(contrasts[1])} in the other; "
                "measure one of them anew"
            )
    digests = first["judge"].get("digest", "?"), second["judge"].get("digest", "?")
    if digests[0] == digests[1]:
        return None
    if first.get("source") != second.get("source"):
        raise UserError(
            f"{where} cannot be compared: both the images ({first.get('source')}, "
            f"{second.get('source')}) and the judges ({first['judge']['name']}, "
            f"{second['judge']['name']}) differ; measure one of them anew, with the judge or of "
            "the images of the other"
        )
    names = first["judge"]["name"], second["judge"]["name"]
    short = short_name(names[0]), short_name(names[1])
    if short[0] != short[1]:
        return short
    return f"{short[0]}@{digests[0]}", f"{short[1]}@{digests[1]}"


def short_name(name: str) -> str:
    """The name of a judge without the folders that it lies in."""
    parts = [p for p in pathlib.PurePath(name).parts if p != "classifier"]
    return re.sub(r"\.ya?ml$", "", parts[-1]) if parts else name


def agreement_of(
    first: list[Record], second: list[Record], attribute: Attribute, judges: tuple[str, str]
) -> Agreement:
    """How far two judges agree, of the same images in the same order.

    Args:
        first: records of one judge.
        second: of the other.
        attribute: of which both speak.
        judges: their names.
    """
    other = {id(a): b for a, b in zip(first, second, strict=True)}
    tables, alone = [], 0
    for rows in by_concept(first):
        table = np.zeros((len(attribute.classes),) * 2, dtype=int)
        for a in rows:
            one = attribute.perceived(a.perceived)
            two = attribute.perceived(other[id(a)].perceived)
            alone += (one is None) != (two is None)
            if one is not None and two is not None:
                table[attribute.classes.index(one), attribute.classes.index(two)] += 1
        tables.append(table)
    same, kappa = agreement(tables)
    return Agreement(
        judges=judges,
        images=int(sum(t.sum() for t in tables)),
        seen_by_one=alone,
        same=same,
        kappa=kappa,
    )
