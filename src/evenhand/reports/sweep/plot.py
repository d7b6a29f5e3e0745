"""The picture of a sweep: how uneven every point is, and what it costs. No torch.

One row an attribute. On the left the gap against what was swept: guidance where it was, else
steps, else strength; a line for each of the other settings. Beside it the same gaps against the
share of explicit prompts, and of concepts, that are kept.
"""

import os
from dataclasses import dataclass
from typing import Any

from evenhand.core.files import whole
from evenhand.reports.plots import PALETTE
from evenhand.reports.sweep.models import Point, SweepReport
from evenhand.stats.shares import Estimate

SIDES = ("explicit prompts kept", "concept as asked")  # what a point may cost
SMALL, LARGE = 4.0, 9.0  # markers of the first and of the last value swept, in points


@dataclass(frozen=True)
class Line:
    """Points that differ in what stands across alone.

    Attributes:
        label: what they have in common.
        colour: of the line.
        points: each with its place among all values across.
    """

    label: str
    colour: str
    points: list[tuple[int, Point]]


def write_plot(path: str | os.PathLike, report: SweepReport) -> None:
    """Writes the picture as PNG."""
    figure = sweep_figure(report)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def sweep_figure(report: SweepReport) -> Any:
    """The picture as a figure of matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    across, values, lines = _lines(report.points)
    chosen = None if report.suggested is None else report.points[report.suggested]
    names = list(report.points[0].attributes)
    sides = [s for s in SIDES if any(_kept(p, n, s) for p in report.points for n in names)]
    width, label = 4.4 + 2.9 * len(sides), max(len(line.label) for line in lines)  # inches, signs
    columns = max(1, min(3, int(11 * width / (label + 8))))
    height = 0.9 + 2.8 * len(names) + 0.2 * (len(lines) + 1) / columns
    figure = Figure(figsize=(width, height), layout="constrained")
    panels: Any = figure.subplots(len(names), 1 + len(sides), sharey="row", squeeze=False)
    for name, row in zip(names, panels, strict=True):
        _against(row[0], lines, name, chosen)
        row[0].set(ylabel=f"gap, {name}", xlabel=across, xlim=(-0.4, len(values) - 0.6))
        row[0].set_xticks(range(len(values)), [f"{x:g}" for x in values])
        for axes, side in zip(row[1:], sides, strict=True):
            axes.set_visible(any(_kept(p, name, side) for p in report.points))
            axes.locator_params(axis="x", nbins=4)
            _trade_off(axes, lines, name, side, chosen)
            axes.set_xlabel(f"{side}\n(larger: more {across.split()[0]})")
        row[0].set_ylim(bottom=0)
        for axes in row:
            axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=[
            *(_handle(line) for line in lines if line.label),
            *([] if chosen is None else [_ring(panels[0][0], [], [])]),
        ],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        title="intervals hold for all points together (95 %)",
        title_fontsize=9,
    )
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # an adapter may be called "$x$"
    return figure


def _lines(points: list[Point]) -> tuple[str, list[float], list[Line]]:
    """What stands across, its values in order, and the lines of points."""
    places = [_place(p) for p in points]
    swept = [name for name in places[0] if len({place[name] for place in places}) > 1]
    across = swept[0]
    values = sorted({place[across] for place in places})
    groups: dict[str, list[tuple[int, Point]]] = {}
    for point, place in zip(points, places, strict=True):
        label = ", ".join(f"{name} {place[name]:g}" for name in swept[1:])
        groups.setdefault(label, []).append((values.index(place[across]), point))
    return (
        across,
        values,
        [
            Line(label, PALETTE[i % len(PALETTE)], sorted(group, key=lambda pair: pair[0]))
            for i, (label, group) in enumerate(groups.items())
        ],
    )


def _place(point: Point) -> dict[str, float]:
    """What may be swept, and its value at a point."""
    several = len(point.strengths) > 1
    return {
        "guidance": point.guidance_scale or 0.0,
        "steps": float(point.num_inference_steps or 0),
        **{f"strength {n}" if several else "strength": x for n, x in point.strengths.items()},
    }


def _against(axes: Any, lines: list[Line], name: str, chosen: Point | None) -> None:
    """The gap over what stands across; lines stand beside each other, so that whiskers show."""
    for i, line in enumerate(lines):
        shift = 0.5 * ((i + 0.5) / len(lines) - 0.5)
        found = [(place + shift, p, p.attributes[name].gap) for place, p in line.points]
        found = [(x, p, gap) for x, p, gap in found if gap.value is not None]
        axes.plot([x for x, _, _ in found], [gap.value for _, _, gap in found], color=line.colour)
        for x, point, gap in found:
            _mark(axes, (x, x, x), _ends(gap), line.colour, 5.0)
            if point is chosen:
                _ring(axes, [x], [gap.value])


def _trade_off(axes: Any, lines: list[Line], name: str, side: str, chosen: Point | None) -> None:
    """The gap over what is kept; the points of a line are joined in the order of the values."""
    last = max(place for line in lines for place, _ in line.points)
    for line in lines:
        found = [(i, p, _kept(p, name, side), p.attributes[name].gap) for i, p in line.points]
        found = [x for x in found if x[2] and x[2].value is not None and x[3].value is not None]
        axes.plot(
            [kept.value for _, _, kept, _ in found if kept],
            [gap.value for _, _, _, gap in found],
            color=line.colour,
            linewidth=0.8,
        )
        for i, point, kept, gap in found:
            size = SMALL + (LARGE - SMALL) * i / max(last, 1)
            _mark(axes, _ends(kept), _ends(gap), line.colour, size, pale=0.3)
            if point is chosen and kept:
                _ring(axes, [kept.value], [gap.value])


def _kept(point: Point, name: str, side: str) -> Estimate | None:
    return point.attributes[name].explicit if side == SIDES[0] else point.concept


def _ends(found: Estimate | None) -> tuple[float, float, float]:
    """Value, low and high; no interval is one of no width."""
    value = (found and found.value) or 0.0
    low, high = (found and found.low), (found and found.high)
    return value, value if low is None else low, value if high is None else high


def _mark(
    axes: Any,
    x: tuple[float, float, float],
    y: tuple[float, float, float],
    colour: str,
    size: float,
    pale: float = 1.0,
) -> None:
    """A point with its intervals."""
    for ends, others, line in ((y, x, axes.vlines), (x, y, axes.hlines)):
        line(others[0], ends[1], ends[2], color=colour, linewidth=1, alpha=pale)
    axes.plot(x[0], y[0], marker="o", color=colour, markersize=size, zorder=3)


def _ring(axes: Any, x: list[float | None], y: list[float | None]) -> Any:
    """The ring around the point that is suggested."""
    return axes.scatter(
        x, y, s=170, facecolors="none", edgecolors="black", zorder=4, label="suggested"
    )


def _handle(line: Line) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=line.colour, marker="o", label=line.label)
