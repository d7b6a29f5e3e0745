"""The records of one split -> its numbers over prompts. No torch."""

from collections.abc import Callable

import numpy as np

from evenhand.core.records import Record
from evenhand.reports.asked import Asked
from evenhand.reports.evidence import Evidence, Rule, calls, evidence, passes
from evenhand.reports.models import SplitReport
from evenhand.reports.tally import Test, by_prompt, counts, gap_of, over_concepts
from evenhand.stats.floors import distance_floor, gap_floor, worst_floor, worst_tenth
from evenhand.stats.means import mean_shares
from evenhand.stats.roots import root
from evenhand.stats.shares import Estimate, shares, total_variation
from evenhand.stats.squares import Form, squares, unevenness


def split_report(rows: list[Record], asked: Asked) -> SplitReport:
    """All prompts of a split; at least one record."""
    attribute = asked.attribute
    seen = evidence(rows, calls(attribute), asked.rule)
    target = asked.wish.form(seen.concepts) if asked.wish and seen.images else None
    distance = root(squares(seen.found, target)) if target else None
    corrected = asked.corrected(rows) if seen.images else None
    return SplitReport(
        prompts=len(by_prompt(rows)),
        images=len(rows),
        cautions=asked.cautions(seen),
        unseen=over_prompts(rows, lambda r: not r.seen, asked.rule),
        gap=gap_without_chance(rows, asked),
        corrected_gap=corrected_root(rows, asked, *evenness(asked)) if corrected else None,
        shares=dict(zip(attribute.classes, _shares(rows, asked, seen), strict=True)),
        corrected=corrected,
        distance=distance,
        corrected_distance=corrected_root(rows, asked, target) if corrected and target else None,
        discrepancy=_times(distance, 2**0.5) if distance else None,
        **_gaps_found(rows, asked),
        **_distances_found(rows, asked),
    )


def evenness(asked: Asked) -> tuple[Form, list[int]]:
    """The square of the gap, and the classes that it contrasts."""
    among = asked.attribute.contrasted
    return unevenness(len(among)), among


def gap_without_chance(rows: list[Record], asked: Asked) -> Estimate:
    """Root mean square gap of the classes as called."""
    form, among = evenness(asked)
    contrasted = evidence(rows, calls(asked.attribute, among), asked.rule)
    return root(squares(contrasted.found, form))


def corrected_root(
    rows: list[Record], asked: Asked, form: Form, among: list[int] | None = None
) -> Estimate:
    """Root mean square of a form of the corrected shares."""
    found = evidence(rows, asked.answers, asked.rule).found
    return root(squares(found, form, asked.confusion, among))


def _shares(rows: list[Record], asked: Asked, seen: Evidence) -> list[Estimate]:
    """Mean shares; of one prompt its own, with the interval that holds after an early stop."""
    if len(by_prompt(rows)) > 1:
        return mean_shares(seen.table, seen.images)
    found = counts(rows, asked.attribute)
    return [asked.share(int(k), int(found.sum())) for k in found]


def _gaps_found(rows: list[Record], asked: Asked) -> dict[str, float | None]:
    """Gaps as found, chance included, of the prompts in which a contrasted class was seen."""
    attribute, k = asked.attribute, len(asked.attribute.contrasted)
    tables = [counts(group, attribute) for group in by_prompt(rows).values()]
    sizes = [n for t in tables if (n := int(t[attribute.contrasted].sum()))]
    several = len(sizes) >= 10
    gaps = [g for t in tables if not np.isnan(g := gap_of(t, attribute))]
    return {
        "gap_found": _mean(rows, lambda g: gap_of(counts(g, attribute), attribute)),
        "gap_floor": _mean(rows, lambda g: _floor(counts(g, attribute)[attribute.contrasted])),
        "gap_worst": worst_tenth(gaps) if several else None,
        "gap_worst_floor": worst_floor(k, sizes) if several else None,
    }


def _floor(found: np.ndarray) -> float:
    """The chance floor of the gap of counts; NaN where nothing was counted."""
    return gap_floor(len(found), int(found.sum())) if found.sum() else float("nan")


def _distances_found(rows: list[Record], asked: Asked) -> dict[str, float | None]:
    """Distances as found, chance included, of the prompts in which something was seen."""
    attribute, wish = asked.attribute, asked.wish
    if not wish:
        return {"distance_found": None, "distance_floor": None}

    def distance(group: list[Record]) -> float:
        found, wished = counts(group, attribute), wish.of(group[0].concept)
        return float(total_variation(shares(found), wished)) if found.sum() else float("nan")

    def floor(group: list[Record]) -> float:
        n = int(counts(group, attribute).sum())
        return distance_floor(tuple(wish.of(group[0].concept)), n) if n else float("nan")

    return {"distance_found": _mean(rows, distance), "distance_floor": _mean(rows, floor)}


def _mean(rows: list[Record], statistic: Callable[[list[Record]], float]) -> float | None:
    """Mean over concepts of the means over their prompts; None where there is nothing."""
    found = np.array(over_concepts(rows, statistic))
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else None


def _times(e: Estimate, factor: float) -> Estimate:
    value, low, high = (None if x is None else factor * x for x in (e.value, e.low, e.high))
    return Estimate(value, low, high, e.n, e.level)


def over_prompts(
    rows: list[Record], test: Test, rule: Rule | None = None, level: float = 0.95
) -> Estimate:
    """The share of images that pass a test, for prompts like these."""
    if not rows:
        return Estimate(None, None, None, 0, level)
    found = evidence(rows, passes(test), rule)
    return mean_shares(found.table, found.images, level)[0]
