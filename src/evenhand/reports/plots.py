"""The plots of a report, as SVG that is written into its page."""

import io
import itertools
import textwrap
from typing import Any

from evenhand.reports.models import AttributeReport, PromptReport
from evenhand.stats.shares import Estimate

PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#F0E442",
    "#666666",  # up to here Okabe & Ito, then of Tol's muted colours
    "#332288",
    "#882255",
    "#117733",
    "#DDCC77",
    "#AA4499",
    "#44AA99",
    "#999933",
    "#CC6677",
)


PLOTTED = 40  # prompts in a plot, at most: those with the largest gap
LETTERS = 52  # of a line above a bar; a prompt has two, the table has all of it
WIDTH = 4.6  # inches: narrow, so that the words are still large on a telephone
Entries = dict[str, AttributeReport]  # by label; of two the later stands last


def shares_plot(entries: Entries, colours: dict[str, str]) -> str:
    """Stacked shares of each prompt, before over after, with the target's borders.

    Corrected for the judge's errors, where the report corrects them.
    """
    (first, *_), runs, last = entries, list(entries.values()), list(entries.values())[-1]
    prompts = _plotted(last)
    corrected = all(p.corrected or not p.seen for entry in runs for p in entry.prompts)
    figure, axes, bars = _figure(_labels(prompts), len(runs))
    height = bars / len(runs)
    for i, entry in enumerate(runs):
        table = {p.prompt: p for p in entry.prompts}
        places = [y + 0.5 - bars + (i + 0.5) * height for y in range(len(prompts))]
        left = [0.0] * len(prompts)
        for c, colour in colours.items():
            widths = [_share(table.get(p.prompt), c, corrected) for p in prompts]
            axes.barh(
                places,
                widths,
                0.94 * height,
                left,
                color=colour,
                alpha=1.0 if entry is last else 0.55,
            )
            left = [a + b for a, b in zip(left, widths, strict=True)]
    dashed: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1}
    for border in _borders(last.target):
        axes.axvline(border, **dashed)
    for y, p in enumerate(prompts):  # where each concept has its own target
        for border in _borders(p.target):
            axes.plot([border] * 2, [y + 0.5 - bars, y + 0.5], **dashed)
    said = [
        *["corrected for the judge's errors"] * corrected,
        *[f"pale: {first}"] * (len(runs) > 1),
        *["dashed: target"] * bool(last.target or last.target_tables),
    ]
    axes.set(
        xlim=(0, 1),
        xlabel="\n".join(["share of images perceived as", *said]),
    )
    from matplotlib.patches import Patch

    _legend(axes, {c: Patch(color=colour) for c, colour in colours.items()})
    return svg(figure)


def _borders(target: list[float] | None) -> list[float]:
    """Where one class ends and the next begins, in shares; none without a target."""
    return list(itertools.accumulate(target or []))[:-1]


def gap_plot(entries: Entries) -> str:
    """The gap of each prompt as found, before to after, with the chance floor.

    Above them stands the gap over all prompts, chance removed.
    """
    runs, last = list(entries.values()), list(entries.values())[-1]
    prompts = _plotted(last)
    split, summary = next(iter(last.splits.items()))
    first = 1 if summary.prompts > 1 else 0  # one prompt is its own mean
    figure, axes, bars = _figure([*["all, chance removed"] * first, *_labels(prompts)], 1)
    middle = 0.5 - bars / 2  # of a row, below its label
    handles = {}
    tables = [{p.prompt: p.gap for p in entry.prompts if p.gap is not None} for entry in runs]
    for i, (label, entry) in enumerate(entries.items()):
        colour = PALETTE[0] if entry is last else "#999999"
        points = [
            (tables[i][p.prompt], y + middle)
            for y, p in enumerate(prompts, start=first)
            if p.prompt in tables[i]
        ]
        if points:
            x, y = zip(*points, strict=True)
            handles[label or "gap"] = axes.scatter(x, y, color=colour, s=36, zorder=3)
        if first:
            place = middle + 0.5 * bars * (i - (len(runs) - 1) / 2)
            _mean(axes, entry.splits[split].gap, place, colour)
    for y, p in enumerate(prompts, start=first):
        both = [table[p.prompt] for table in tables if p.prompt in table]
        if len(both) == 2:
            axes.plot(both, [y + middle] * 2, color="#bbbbbb", zorder=1)
    floor = summary.gap_floor
    if floor is not None:
        handles[f"chance floor {floor:.2f}"] = axes.axvline(
            floor, color="black", linestyle=":", linewidth=1
        )
    largest = max(2 / len(last.contrast), summary.gap.high or 0.0)
    axes.set(
        xlim=(-0.02 * largest, 1.02 * largest),
        xlabel=f"gap {last.among}",
    )
    _legend(axes, handles)
    return svg(figure)


def svg(figure: Any) -> str:
    """The figure as an `<svg>` element; names in it are text, whatever signs they hold."""
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be called "$x$"
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "evenhand"}):
        figure.savefig(
            buffer,
            format="svg",
            bbox_inches="tight",
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _figure(labels: list[str], bars: int) -> tuple[Any, Any, float]:
    """A figure of rows, each with its label above it, where a narrow screen has room for it.

    Args:
        labels: of the rows, of one line or two; row y lies between y - 0.5 and y + 0.5.
        bars: how many stand in a row.

    Returns:
        figure, axes, and the share of a row that is left for its bars, at its lower end.
    """
    from matplotlib.figure import Figure

    words = 0.06 + 0.16 * max((label.count("\n") + 1 for label in labels), default=1)  # inches
    row = words + 0.17 + 0.1 * bars
    figure = Figure(figsize=(WIDTH, 0.7 + row * len(labels)))
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set(yticks=[], ylim=(len(labels) - 0.45, -0.5))
    for y, label in enumerate(labels):
        axes.text(
            0,
            y - 0.5 + words / row,
            label,
            transform=axes.get_yaxis_transform(),
            va="bottom",
            fontsize=9.5,
            linespacing=1.0,
            zorder=3,  # no line runs through a word
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    return figure, axes, 1 - (words + 0.03) / row


def _legend(axes: Any, handles: dict[str, Any]) -> None:
    """A legend above the plot, as many entries a line as there is room for."""
    columns = max(1, min(len(handles), 52 // (4 + max(map(len, handles)))))
    legend = axes.legend(
        list(handles.values()),
        [str(i) for i in range(len(handles))],  # matplotlib leaves out what begins with "_"
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9,
    )
    for text, label in zip(legend.get_texts(), handles, strict=True):
        text.set_text(label)


def _mean(axes: Any, mean: Estimate, place: float, colour: str) -> None:
    """The mean with its interval, as a diamond with whiskers; nothing where there is none."""
    if mean.value is None:
        return
    error = None
    if mean.low is not None and mean.high is not None:
        error = [[max(mean.value - mean.low, 0)], [max(mean.high - mean.value, 0)]]
    axes.errorbar(mean.value, place, xerr=error, color=colour, marker="D", capsize=4, zorder=3)


def _share(prompt: PromptReport | None, cls: str, corrected: bool) -> float:
    """How long a bar is; 0 where nothing was seen."""
    if not prompt:
        return 0.0
    table = prompt.corrected if corrected and prompt.corrected else prompt.shares
    return table[cls].value or 0.0


def _plotted(entry: AttributeReport) -> list[PromptReport]:
    """The prompts that a plot shows, in the report's order."""
    most = sorted(entry.prompts, key=lambda p: -(p.gap or 0.0))[:PLOTTED]
    chosen = {p.prompt for p in most}
    return [p for p in entry.prompts if p.prompt in chosen]


def _labels(prompts: list[PromptReport]) -> list[str]:
    """The prompts' concepts; their texts where a concept has several."""
    concepts = [p.concept for p in prompts]
    found = concepts if len(set(concepts)) == len(prompts) else [p.prompt for p in prompts]
    return [textwrap.fill(x, LETTERS, max_lines=2, placeholder=" …") for x in found]
