"""Which point of a sweep to take, by a rule that is stated with it. No torch."""

from evenhand.reports.headlines import number, number_of
from evenhand.reports.sweep.models import Point, PointAttribute
from evenhand.stats.shares import Estimate


def worst(point: Point) -> tuple[str, PointAttribute]:
    """The attribute by which a point is ranked: the one that may be farthest off, and its name.

    Attributes with a target go before those without.
    """
    found = [(n, a) for n, a in point.attributes.items() if a.distance]
    return max(found or point.attributes.items(), key=lambda pair: _high(pair[1].off))


def _high(found: Estimate) -> float:
    """The upper end; beyond any other where nothing was seen."""
    return float("inf") if found.high is None else found.high


def suggest(points: list[Point], margin: float) -> int | None:
    """The place of the point to take: `rule_in_words`. None where no point keeps the margin."""
    kept = [i for i, p in enumerate(points) if not p.alone and most_lost(p) <= margin]
    return min(kept, key=lambda i: _order(points[i]), default=None)


def most_lost(point: Point) -> float:
    """The upper end of what a point loses, of explicit prompts or of concepts, the larger."""
    return max((1.0 if x.low is None else -x.low for x in point.changes), default=0.0)


def _shown_to_lose(point: Point, margin: float) -> bool:
    """Whether the lower end of a loss lies beyond the margin."""
    return any(x.high is not None and -x.high > margin for x in point.changes)


def _order(point: Point) -> tuple[float, float]:
    """Upper end of the distance or the gap, to two digits; then strength."""
    return round(_high(worst(point)[1].off), 2), sum(point.strengths.values())


def rule_in_words(points: list[Point], margin: float, level: float) -> str:
    """The rule, for those who read the suggestion."""
    tried = [p for p in points if not p.alone]
    what = worst(points[0])[1].measure
    several = ", of several attributes the largest," if len(points[0].attributes) > 1 else ""
    together = (
        f" The intervals of one number hold at all {len(tried)} points together (95 %; each "
        f"interval is of {100 * level:.4g} %)."
        if len(tried) > 1
        else ""
    )
    return (
        "Of the points that are shown to lose, against the model without adapters at the same "
        f"settings and seeds, at most {margin:g} of the images that keep the class their prompt "
        "says, and of those that keep their concept (the upper end of each loss's interval), the "
        f"one whose upper end of the {what}{several} is smallest; of those equal to two digits the "
        f"one with less strength.{together}"
    )


def in_words(
    points: list[Point], place: int | None, fresh: list[Point], margin: float
) -> list[str]:
    """What a sweep found, in sentences.

    Args:
        points: of the sweep.
        place: of the suggested one; None where none is.
        fresh: the model without adapters and the suggested point, at other seeds.
        margin: of the rule.
    """
    if place is None:
        return [_none(points, margin)]
    return _choice(points, points[place], *fresh)


def _none(points: list[Point], margin: float) -> str:
    """Why no point is suggested."""
    tried = [p for p in points if not p.alone]
    lose = sum(_shown_to_lose(p, margin) for p in tried)
    unclear = len(tried) - lose
    parts = [f"No point is suggested: none of {len(tried)} is shown to lose at most {margin:g}."]
    if lose:
        parts.append(f"Shown to lose more: {number_of(lose, 'point')}.")
    if unclear:
        parts.append(
            f"Of {number_of(unclear, 'point')} these images cannot tell: draw more (--explicit, "
            "--images), or allow more (--margin)."
        )
    return " ".join(parts)


def _choice(points: list[Point], chosen: Point, alone: Point, fresh: Point) -> list[str]:
    """The suggested point, on the seeds that it was chosen on and on others."""
    tried = len([p for p in points if not p.alone])
    (name, there), (again, now) = worst(chosen), worst(fresh)
    found = [
        f"Suggested: {chosen.label}. {there.measure.capitalize()} of {name} on the seeds of the "
        f"sweep: {number(there.off)}."
    ]
    if tried > 1:
        found.append(
            f"It was chosen among {tried} points, so on these seeds it looks better than it is."
        )
    found.append(
        f"The number to quote is that of {fresh.images} images from seeds that chose nothing: "
        f"{now.measure} of {again} {number(now.off)}; without adapters "
        f"{number(alone.attributes[again].off)}, change {number(now.off_change)}."
    )
    if now.off_change is None or now.off_change.high is None or now.off_change.high >= 0:
        found.append("It is not shown to be nearer than the model without adapters.")
    if not chosen.changes:
        found.append(
            "No prompt says a class and the judge names no concept: what this costs is not known."
        )
    return found
