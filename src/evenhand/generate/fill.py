"""Rounds of units until every quota is full, or the budget is spent.

A round's units follow from the settings and the parts of the rounds before; its images are taken in
the order of the units. So any number of processes, killed at any time, makes the same set.
"""

import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evenhand.core.prompts import Row
from evenhand.core.records import key
from evenhand.core.work import Share, part_of, work
from evenhand.generate.drawn import Drawn, read_drawn
from evenhand.generate.ledger import Ledger
from evenhand.generate.plan import SetPlan
from evenhand.generate.sizes import WishedSize
from evenhand.measure.rows import units_of

Tell = Callable[[int, int, str], None]


def quiet(done: int, total: int, note: str) -> None:
    """Tells nobody how far the work is."""


@dataclass
class Filled:
    """What came of the rounds.

    Attributes:
        ledger: what was taken, and what was not.
        ends: of each size that was asked for, how many images were taken and drawn at its end.
        first: how many images the first round drew.
        part_of: the unit of each image's file.
    """

    ledger: Ledger
    ends: list[tuple[int, int]] = field(default_factory=list)
    first: int = 0
    part_of: dict[str, str] = field(default_factory=dict)


def fill(
    plan: SetPlan,
    sizes: Sequence[WishedSize],
    folder: pathlib.Path,
    do: Callable[[list[Row], Mapping[tuple[str, int], int]], str],
    *,
    share: Share = Share(),
    tell: Tell = quiet,
    rounds: int | None = None,
) -> Filled:
    """Draws and takes until the set is as large as it was asked to be.

    Args:
        plan: of the set.
        sizes: that were asked for, the last of them wanted now.
        folder: run directory.
        do: draws a unit; gets its rows and the stream of each prompt and seed; returns its part.
        share: of this process in the work.
        tell: called with images drawn, images to draw so far, and what was taken.
        rounds: at most of a size; None: as many as it takes.
    """
    found = Filled(Ledger(plan.names, plan.streams, plan.config.filter.duplicates))
    ledger, number = found.ledger, 0
    for size in sizes:
        ledger.open(size.quotas, plan.keeps)
        last = number + (rounds or 10**9)
        while number < last and (turns := plan.turns(ledger, size)):
            rows, streams = plan.rows(turns, ledger.tally.drawn)
            of = {key(*row): s for row, s in zip(rows, streams, strict=True)}
            units = _units(plan, rows, of, number)
            before, note = ledger.drawn, f"{len(ledger.taken)} of {sum(size.quotas.values())}"

            def count(done: int, before: int = before, n: int = len(rows), note: str = note):
                tell(before + done, before + n, f"{note} taken before this round")

            def draw(part: list[Row], of: Mapping[tuple[str, int], int] = of) -> str:
                return do(part, of)

            parts = _done(units, folder, draw, share, count)
            for name, drawn in parts.items():
                ledger.add(drawn, [of[key(*row)] for row in units[name]])
                found.part_of |= {x.record.image: name for x in drawn}
            found.first = found.first or len(rows)
            number += 1
        found.ends.append((len(ledger.taken), ledger.drawn))
    return found


def _units(
    plan: SetPlan, rows: list[Row], of: Mapping[tuple[str, int], int], number: int
) -> dict[str, list[Row]]:
    """The units of a round: batches of fixed composition, each by one adapter."""
    found: dict[str, list[Row]] = {}
    for adapter in dict.fromkeys(plan.streams[of[key(*row)]].adapter for row in rows):
        mine = [row for row in rows if plan.streams[of[key(*row)]].adapter == adapter]
        found |= units_of(mine, plan.config.batch, number)
    return found


def _done(
    units: dict[str, list[Row]],
    folder: pathlib.Path,
    do: Callable[[list[Row]], str],
    share: Share,
    count: Callable[[int], None],
) -> dict[str, list[Drawn]]:
    """The parts of a round, once all are there; what is damaged is drawn again."""
    while True:
        work(units, folder, do, share=Share(share.rank, share.world), progress=count)
        parts = {name: read_drawn(part_of(folder, name), len(units[name])) for name in units}
        damaged = [name for name, rows in parts.items() if rows is None]
        for name in damaged:
            redo(folder, name, "is damaged, or cut off")
        if not damaged:
            return {name: rows for name, rows in parts.items() if rows is not None}


def redo(folder: pathlib.Path, unit: str, why: str) -> None:
    """Removes a unit's part, so that its images are drawn again, and says so."""
    path = part_of(folder, unit)
    warnings.warn(f"{path}: {why}; its images are drawn again", stacklevel=2)
    path.unlink(missing_ok=True)
