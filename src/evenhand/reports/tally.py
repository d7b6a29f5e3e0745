"""Records -> counts: which images belong together, and how many of them are what. No torch."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from evenhand.core.attributes import Attribute
from evenhand.core.errors import UserError
from evenhand.core.records import Record, key
from evenhand.stats.shares import gap, shares

Test = Callable[[Record], bool]


def once(records: Iterable[Record]) -> list[Record]:
    """The records without repetitions, in the order of first appearance.

    Raises:
        UserError: one prompt and seed has two records that differ.
    """
    found: dict[tuple[str, int], Record] = {}
    for r in records:
        if found.setdefault(key(r, r.seed), r) != r:
            raise UserError(
                f"records: {r.prompt!r} with seed {r.seed} stands twice, with different results; "
                "measure anew, into another directory"
            )
    return list(found.values())


def by_prompt(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by prompt, in the order of first appearance."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for r in records:
        groups[r.prompt].append(r)
    return groups


def by_concept(records: Iterable[Record]) -> list[list[Record]]:
    """Records of each concept.

    Its wordings are alike, so intervals for prompts like these count the concept once.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for r in records:
        groups[r.concept].append(r)
    return list(groups.values())


def over_concepts(
    records: Iterable[Record], statistic: Callable[[list[Record]], float]
) -> list[float]:
    """Of each concept the mean of a statistic over its prompts; NaN where no prompt has one."""
    found = [
        [x for rows in by_prompt(group).values() if not np.isnan(x := statistic(rows))]
        for group in by_concept(records)
    ]
    return [float(np.mean(values)) if values else float("nan") for values in found]


def splits_of(records: list[Record]) -> dict[str, list[Record]]:
    """The neutral records by split (and family, where there are several).

    Where these are several, `all` of them together come first. A split whose name is taken, such as
    one that is itself called `all`, is named in quotation marks.
    """
    neutral = [r for r in records if not r.states]
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for r in neutral:
        groups[r.family, r.split].append(r)
    several = len({family for family, _ in groups}) > 1
    plain = {(f, s): f"{f}, {s}" if several else s for f, s in groups}
    quoted = {(f, s): f"{f!r}, {s!r}" if several else f"split {s!r}" for f, s in groups}
    if len(groups) < 2:
        return {plain[pair]: rows for pair, rows in groups.items()}
    taken = Counter([*plain.values(), "all"])
    names = {pair: quoted[pair] if taken[name] > 1 else name for pair, name in plain.items()}
    if len(set(names.values())) < len(groups):  # a plain name is like another's in quotation marks
        names = quoted
    return {"all": neutral, **{names[pair]: rows for pair, rows in groups.items()}}


def counts(records: Iterable[Record], attribute: Attribute) -> np.ndarray:
    """How many images are perceived as each class, `[K]`; unseen ones are in none."""
    found = np.zeros(len(attribute.classes), dtype=int)
    for r in records:
        if (cls := attribute.perceived(r.perceived)) is not None:
            found[attribute.classes.index(cls)] += 1
    return found


def answers(records: Iterable[Record], attribute: Attribute) -> np.ndarray:
    """The classes' probabilities of each image seen, `[N, K]`; rows sum to 1."""
    table = np.array(
        [[r.probs[attribute.name][c] for c in attribute.classes] for r in records if r.seen]
    ).reshape(-1, len(attribute.classes))
    return table / table.sum(1, keepdims=True)


def probabilities(records: Iterable[Record], attribute: Attribute) -> np.ndarray:
    """Sums of the classes' probabilities over the images seen, `[K]`."""
    return answers(records, attribute).sum(0)


def gap_of(found: np.ndarray, attribute: Attribute) -> float:
    """Gap among the contrasted classes, NaN where none of them was perceived."""
    part = found[attribute.contrasted]
    return float(gap(shares(part))) if part.sum() else float("nan")


def saying(records: Iterable[Record], attribute: Attribute) -> list[Record]:
    """The records whose prompt says one of the attribute's classes."""
    return [r for r in records if r.states.get(attribute.name) in attribute.classes]


def keeps(attribute: str) -> Test:
    """Whether an image is perceived as the class its prompt says."""
    return lambda r: r.perceived.get(attribute) == r.states[attribute]


def nameable(records: list[Record], concept: str | None) -> list[Record]:
    """The records whose concept is a class of the attribute that names concepts."""
    return [r for r in records if r.concept in r.probs.get(concept or "", {})]


def as_asked(concept: str | None) -> Test:
    """Whether an image's concept is perceived as the prompt's."""
    return lambda r: r.perceived.get(concept or "") == r.concept
