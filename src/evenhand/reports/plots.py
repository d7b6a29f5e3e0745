"""The plots of a report, as SVG that is written into its page."""

import io
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
LETTERS = 44  # of a line beside a plot; a prompt has two, the table has all of it
Entries = dict[str, AttributeReport]  # by label; of two the later stands last


def shares_plot(entries: Entries, colours: dict[str, str]) -> str:
    """Stacked shares of each prompt, before over after, with the target's borders."""
    runs, last = list(entries.values()), list(entries.values())[-1]
    prompts = _plotted(last)
    figure, axes = _figure(len(prompts) * len(runs))
    height = 0.8 / len(runs)
    for i, entry in enumerate(runs):
        table = {p.prompt: p for p in entry.prompts}
        places = [y + (i - (len(runs) - 1) / 2) * (height + 0.02) for y in range(len(prompts))]
        left = [0.0] * len(prompts)
        for c, colour in colours.items():
            widths = [_share(table.get(p.prompt), c) for p in prompts]
            axes.barh(
                places, widths, height, left, color=colour, alpha=1.0 if entry is last else 0.55
            )
            left = [a + b for a, b in zip(left, widths, strict=True)]
    for k in range(1, len(last.target or [])):
        axes.axvline(sum((last.target or [])[:k]), color="black", linestyle="--", linewidth=1)
    said = [*(["pale: before"] if len(runs) > 1 else []), *(["dashed: target"] * bool(last.target))]
    axes.set(
        yticks=range(len(prompts)),
        ylim=(len(prompts) - 0.45, -0.55),
        yticklabels=_labels(prompts),
        xlim=(0, 1),
        xlabel="share of images perceived as" + (f" ({'; '.join(said)})" if said else ""),
    )
    from matplotlib.patches import Patch

    _legend(axes, {c: Patch(color=colour) for c, colour in colours.items()})
    return _svg(figure)


def gap_plot(entries: Entries) -> str:
    """The gap of each prompt as found, before to after, with the chance floor.

    Above them stands the gap over all prompts, chance removed.
    """
    runs, last = list(entries.values()), list(entries.values())[-1]
    prompts = _plotted(last)
    split, summary = next(iter(last.splits.items()))
    first = 1 if summary.prompts > 1 else 0  # one prompt is its own mean
    figure, axes = _figure(len(prompts) + first)
    handles = {}
    tables = [{p.prompt: p.gap for p in entry.prompts if p.gap is not None} for entry in runs]
    for i, (label, entry) in enumerate(entries.items()):
        colour = PALETTE[0] if entry is last else "#999999"
        points = [
            (tables[i][p.prompt], y)
            for y, p in enumerate(prompts, start=first)
            if p.prompt in tables[i]
        ]
        if points:
            x, y = zip(*points, strict=True)
            handles[label or "gap"] = axes.scatter(x, y, color=colour, s=36, zorder=3)
        if first:
            _mean(axes, entry.splits[split].gap, 0.3 * (i - (len(runs) - 1) / 2), colour)
    for y, p in enumerate(prompts, start=first):
        both = [table[p.prompt] for table in tables if p.prompt in table]
        if len(both) == 2:
            axes.plot(both, [y, y], color="#bbbbbb", zorder=1)
    floor = summary.gap_floor
    if floor is not None:
        handles[f"chance floor {floor:.2f}"] = axes.axvline(
            floor, color="black", linestyle=":", linewidth=1
        )
    largest = max(2 / len(last.contrast), summary.gap.high or 0.0)
    axes.set(
        yticks=range(len(prompts) + first),
        ylim=(len(prompts) + first - 0.45, -0.55),
        yticklabels=[*["all, chance removed"] * first, *_labels(prompts)],
        xlim=(-0.02 * largest, 1.02 * largest),
        xlabel=f"gap {last.among}",
    )
    _legend(axes, handles)
    return _svg(figure)


def _svg(figure: Any) -> str:
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


def _figure(rows: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.9 + 0.34 * rows))
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)
    return figure, axes


def _legend(axes: Any, handles: dict[str, Any]) -> None:
    """A legend above the plot, as many entries a line as there is room for."""
    columns = max(1, min(len(handles), 76 // (4 + max(map(len, handles)))))
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


def _share(prompt: PromptReport | None, cls: str) -> float:
    """How long a bar is; 0 where nothing was seen."""
    return (prompt.shares[cls].value or 0.0) if prompt else 0.0


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
