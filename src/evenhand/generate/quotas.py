"""How many images each cell shall have, and what is drawn next for that. Pure functions.

A *place* is a cell in a group of contexts ("woman/dark" among the portraits): every place has its
quota. A *stream* is what is asked for alike: prompts of one group, the classes they say, and the
adapter that draws them. A stream feeds the places that agree with what it asks: one where the words
say the whole cell, all of its group where they say nothing.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from evenhand.core.concept_targets import ConceptTargets
from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import Prompt
from evenhand.recipes.generate import Generate

Cell = tuple[str, ...]
Place = tuple[Cell, str]  # a cell, and a group of contexts
Quotas = dict[Place, int]
AT_MOST = 4  # times the images that are missing: what one round draws


@dataclass(frozen=True)
class Stream:
    """Images that are asked for alike.

    Attributes:
        group: of contexts.
        asked: classes that the words, or the adapter, are to give: `{attribute: class}`.
        adapter: its number in the recipe; None without one.
        prompts: drawn in turns.
        share: of a place's images, in proportion to the other streams that feed it.
    """

    group: str
    asked: dict[str, str]
    adapter: int | None
    prompts: list[Prompt]
    share: float = 1.0


@dataclass
class Tally:
    """What the parts so far hold.

    Attributes:
        taken: images of each place.
        drawn: images of each stream, by its number.
        fits: images of a stream that passed the filter, by stream and cell, whether they were still
            needed or not.
    """

    taken: dict[Place, int] = field(default_factory=dict)
    drawn: dict[int, int] = field(default_factory=dict)
    fits: dict[tuple[int, Cell], int] = field(default_factory=dict)


def name_of(cell: Cell) -> str:
    """A cell as tables write it: "woman/dark"."""
    return "/".join(cell)


def cells_of(classes: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Every combination of the classes, in the order of the attributes."""
    return list(itertools.product(*classes.values()))


def quotas_of(
    config: Generate, classes: Mapping[str, Sequence[str]], groups: Sequence[str]
) -> Quotas:
    """The quota of each place.

    Args:
        config: the recipe.
        classes: of each attribute, those asked for.
        groups: of contexts.

    Raises:
        UserError: a table names a cell that is none, or nothing is asked for.
    """
    cells = cells_of(classes)
    places = [(cell, group) for cell in cells for group in groups]
    if isinstance(config.per_cell, dict):
        names = {name_of(cell): cell for cell in cells}
        for name in config.per_cell:
            if name not in names:
                raise unknown("cell", name, names, where="per_cell")
        numbers = [config.per_cell.get(name_of(cell), 0) for cell, _ in places]
    elif config.per_cell is not None:
        numbers = [config.per_cell for _ in places]
    else:
        if config.target:
            config.target.check_concepts(groups)
        weights = [_share(config, classes, *place) for place in places]
        numbers = apportioned(config.images or 0, weights)
    if not sum(numbers):
        raise UserError("per_cell: no image is asked for")
    return dict(zip(places, numbers, strict=True))


def _share(config: Generate, classes: Mapping[str, Sequence[str]], cell: Cell, group: str) -> float:
    """The weight of a cell among those of its group, in the table of shares."""
    for name, table in config.shares.items():
        if isinstance(table, ConceptTargets):
            table.check_classes(classes[name])
        elif other := table.keys() - set(classes[name]):
            raise unknown("class", min(other), classes[name], where=f"shares of {name!r}")
    names = [name_of(c) for c in cells_of(classes)]
    if other := config.joint.keys() - set(names):
        raise unknown("cell", min(other), names, where="joint")
    if config.joint:
        return config.joint.get(name_of(cell), 0.0)
    if not config.target:
        return 1.0
    shares = config.target.of(group).by_class
    pairs = zip(classes, cell, strict=True)
    return math.prod(shares[name].get(cls, 0.0) for name, cls in pairs)


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to the total, as near to the weights as they can be.

    Hamilton's method of largest remainders; ties go to the first.
    """
    exact = np.asarray(weights, dtype=float) * total / sum(weights)
    found = np.floor(exact + 1e-9).astype(int)
    rest = np.argsort(found - exact, kind="stable")[: total - found.sum()]
    found[rest] += 1
    return found.tolist()


def next_round(
    streams: Sequence[Stream],
    names: Sequence[str],
    quotas: Mapping[Place, int],
    tally: Tally,
    budget: int,
) -> list[int]:
    """The streams of the images to draw next, in the order of drawing; empty where none is needed.

    A stream draws as many as its needs at the rates found so far take. A rate is `(fits + 1/places)
    / (drawn + 1)`: before anything is drawn, a stream is taken to feed its places alike. The
    streams take turns, so that a budget that runs out does so for all.

    Args:
        streams: of the plan.
        names: of the attributes, in the order of cells.
        quotas: of the places.
        tally: of the rounds before.
        budget: images that may still be drawn.
    """
    numbers = [0] * len(streams)
    feeds = [feed(stream, names, quotas) for stream in streams]
    for place, quota in quotas.items():
        missing = quota - tally.taken.get(place, 0)
        eligible = [s for s, places in enumerate(feeds) if place in places]
        wanted = _shared_out(missing, [streams[s].share for s in eligible])
        for s, wish in zip(eligible, wanted, strict=True) if missing > 0 else ():
            fits = tally.fits.get((s, place[0]), 0) + 1 / len(feeds[s])
            rate = fits / (tally.drawn.get(s, 0) + 1)
            numbers[s] = max(numbers[s], math.ceil(wish / rate - 1e-9))
    for s, places in enumerate(feeds):
        missing = sum(max(quotas[p] - tally.taken.get(p, 0), 0) for p in places)
        numbers[s] = min(numbers[s], AT_MOST * missing)
    turns = [s for i in range(max(numbers, default=0)) for s, n in enumerate(numbers) if i < n]
    return turns[: max(budget, 0)]


def _shared_out(missing: int, shares: Sequence[float]) -> Sequence[float]:
    """How many of the images that a place lacks are to come of each stream that feeds it."""
    if len(set(shares)) > 1:
        return apportioned(missing, shares)
    return [missing / len(shares) for _ in shares]


def feed(stream: Stream, names: Sequence[str], quotas: Mapping[Place, int]) -> list[Place]:
    """The places that a stream's images may be of: those wished for, that agree with it."""
    return [
        (cell, group)
        for (cell, group), quota in quotas.items()
        if quota
        and group == stream.group
        and all(stream.asked.get(a, c) == c for a, c in zip(names, cell, strict=True))
    ]
