"""A sweep as a table: on the terminal and in the card. No torch."""

from collections.abc import Sequence

from evenhand.reports.headlines import Found, number
from evenhand.reports.sweep.models import Point


def table_of(points: Sequence[Point], suggested: int | None) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, one a point and attribute; what no point has is left out.

    Args:
        points: the model without adapters is one too.
        suggested: the place of the one that is marked.
    """
    marks = ["suggested" if i == suggested else "" for i in range(len(points))]
    several = len({name for p in points for name in p.attributes}) > 1
    rows = [
        _row(point, name, mark if i == 0 else "")
        for point, mark in zip(points, marks, strict=True)
        for i, name in enumerate(point.attributes)
    ]
    headings = max(rows, key=len)  # the model without adapters is near to nothing but itself
    kept = [h for h in headings if any(row.get(h) for row in rows)]
    kept = [h for h in kept if several or h != "attribute"]
    return kept, [[row.get(h, "") for h in kept] for row in rows]


def _row(point: Point, name: str, mark: str) -> dict[str, str]:
    """The cells of one attribute at a point, by heading."""
    found, several = point.attributes[name], len(point.strengths) > 1
    return {
        **{n if several else "strength": f"{x:g}" for n, x in point.strengths.items()},
        "guidance": _plain(point.guidance_scale),
        "steps": _plain(point.num_inference_steps),
        "attribute": name,
        "gap": _cell(found.gap),
        "distance to target": _cell(found.distance),
        "explicit kept": _cell(found.explicit),
        "concept as asked": _cell(point.concept),
        **{f"near in {kind}": _cell(x) for kind, x in point.closeness.items()},
        "": mark,
    }


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _cell(found: Found) -> str:
    return "" if found is None else number(found)
