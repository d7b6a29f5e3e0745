"""What has been found, as pieces of the page. No torch."""

import dataclasses
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from evenhand.core.attributes import Attribute
from evenhand.reports.html import page_template
from evenhand.reports.judges import short_name
from evenhand.reports.tally import counts
from evenhand.stats.watching import more_images, watched

if TYPE_CHECKING:
    from evenhand.app.drawing import Found, Picture

PACKAGE = "evenhand.app"


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page shows of a comparison.

    Attributes:
        status: how far it is, in words.
        stopped: the same, where it was stopped there.
        shares, pictures: HTML.
    """

    status: str
    stopped: str
    shares: str
    pictures: str


def shown(found: "Found") -> Shown:
    """The page's pieces."""
    return Shown(*_status(found), _shares(found), _pictures(found))


def _status(found: "Found") -> tuple[str, str]:
    if not found.sides:
        beside = f" with {found.plan.adapter.folder.name}" if found.plan.adapter else ""
        return f"Loading {found.plan.model.name}{beside} …", "Stopped."
    wanted, done = found.plan.asked.images, min(len(side.records) for side in found.sides)
    both = "" if len(found.sides) == 1 else ", with and without the adapter"
    if found.done:
        now = f"Done: {many(done, 'image')}{both}, in {duration(found.seconds)}."
    else:
        now = f"Drawing: {done} of {many(wanted, 'image')}{both}."
    return now, f"Stopped after {done} of {many(wanted, 'image')}{both}."


def many(n: int, what: str) -> str:
    """A number of things, in words: `1 image`, `1,200 images`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _shares(found: "Found") -> str:
    known = found.plan.attributes
    sides = [
        {
            "label": side.label,
            "images": len(side.records),
            "seen": sum(record.seen for record in side.records),
            "unseen": sum(not record.seen for record in side.records),
        }
        for side in found.sides
    ]
    return page_template("shares.html.j2", PACKAGE).render(
        tables=[_table(found, attribute) for attribute in known] if sides else [],
        sides=sides,
        judge=short_name(found.plan.judge.name),
        digest=found.judge,
        notes=found.notes,
        more=_more(found, known) if sides else "",
    )


def _table(found: "Found", attribute: Attribute) -> dict[str, Any]:
    columns = [watched(counts(side.records, attribute)) for side in found.sides]
    return {
        "name": attribute.name,
        "accuracy": found.accuracy.get(attribute.name),
        "rows": [
            {"cls": cls, "cells": [column[k] for column in columns]}
            for k, cls in enumerate(attribute.classes)
        ],
    }


def _more(found: "Found", known: list[Attribute]) -> str:
    """How many more images until every share is known as well as was asked for."""
    width = found.plan.asked.width
    left = max(
        more_images(counts(side.records, attribute), width)
        for side in found.sides
        for attribute in known
    )
    if not left:
        return f"Every share is known to ± {width:g}."
    each = "" if len(found.sides) == 1 else " of each"
    pace = f", {duration(left * found.pace)} at this pace" if found.pace else ""
    return (
        f"Until every share is known to ± {width:g}: about {many(left, 'more image')}{each}{pace}, "
        "if the shares stay as they are."
    )


def duration(seconds: float) -> str:
    """A time in words: `40 s`, `3 minutes`, `2.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _pictures(found: "Found") -> str:
    shown = [side.pictures for side in found.sides]
    drawn = max((len(side.records) for side in found.sides), default=0)
    firsts = [len(side.records) - len(side.pictures) for side in found.sides]
    start, known = max(firsts, default=0), found.plan.attributes
    columns = [p[start - first :] for p, first in zip(shown, firsts, strict=True)]
    pairs = [
        {"number": start + i, "pictures": [_picture(picture, known) for picture in row]}
        for i, row in enumerate(zip_longest(*columns), 1)
    ]
    return page_template("pictures.html.j2", PACKAGE).render(
        sides=[side.label for side in found.sides],
        pairs=pairs[::-1],
        hidden=drawn - len(pairs),
    )


def _picture(picture: "Picture | None", known: list[Attribute]) -> dict[str, Any] | None:
    """What the page shows of an image; None of one that is not drawn yet."""
    if picture is None:
        return None
    perceived = picture.record.perceived
    what = ", ".join(perceived[attribute.name] for attribute in known if perceived)
    return {"uri": picture.uri, "what": what or "nothing to judge"}
