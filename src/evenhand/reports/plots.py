"""The plots of a report, as SVG that is written into its page."""

import io
from typing import Any

from evenhand.reports.headlines import among

PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#F0E442",
    "#666666",
)  # Okabe & Ito


PLOTTED = 40  # prompts in a plot, at most: those with the largest gap


def _svg(figure: Any) -> str:
    import matplotlib

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
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _plotted(entry: dict[str, Any]) -> list[str]:
    """The prompts that a plot shows, in the report's order."""
    most = sorted(entry["prompts"], key=lambda p: -(p["gap"] or 0.0))[:PLOTTED]
    chosen = {p["prompt"] for p in most}
    return [p["prompt"] for p in entry["prompts"] if p["prompt"] in chosen]


def _labels(entry: dict[str, Any], prompts: list[str]) -> list[str]:
    """The prompts' concepts; their texts where a concept has several."""
    concepts = {p["prompt"]: p["concept"] for p in entry["prompts"]}
    found = [concepts[p] for p in prompts]
    return found if len(set(found)) == len(found) else prompts


def _shares_plot(runs: list[tuple], attribute: str, colours: dict[str, str]) -> str:
    """Stacked shares of each prompt, before over after, with the target's borders."""
    entries = [report["attributes"][attribute] for _, _, report in runs]
    prompts = _plotted(entries[-1])
    rows = [{p["prompt"]: p for p in entry["prompts"]} for entry in entries]
    figure, axes = _figure(len(prompts) * len(runs))
    height = 0.8 / len(runs)
    for number_of_run, table in enumerate(rows):
        for y, prompt in enumerate(prompts):
            left, place = 0.0, y + (number_of_run - (len(runs) - 1) / 2) * (height + 0.02)
            for cls, colour in colours.items():
                width = (table[prompt]["shares"][cls]["value"] or 0.0) if prompt in table else 0.0
                axes.barh(
                    place,
                    width,
                    height,
                    left,
                    color=colour,
                    alpha=0.55 if number_of_run < len(runs) - 1 else 1.0,
                    label=cls if (number_of_run, y) == (len(runs) - 1, 0) else None,
                    linewidth=0,
                )
                left += width
    if entries[-1]["target"]:
        border = 0.0
        for share in entries[-1]["target"][:-1]:
            border += share
            axes.axvline(border, color="black", linestyle="--", linewidth=1)
    axes.set(
        yticks=range(len(prompts)),
        yticklabels=_labels(entries[-1], prompts),
        xlim=(0, 1),
        xlabel="share of images perceived as"
        + (" (pale: before; dashed: target)" if len(runs) > 1 else ""),
    )
    axes.invert_yaxis()
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(colours), frameon=False, fontsize=9
    )
    return _svg(figure)


def _gap_plot(runs: list[tuple], attribute: str) -> str:
    """The gap of each prompt, before to after, and its mean over the chance floor."""
    entries = [report["attributes"][attribute] for _, _, report in runs]
    prompts = _plotted(entries[-1])
    split = list(entries[-1]["splits"])[0]
    figure, axes = _figure(len(prompts) + 1)
    for i, entry in enumerate(entries):
        colour = PALETTE[0] if i == len(entries) - 1 else "#999999"
        table = {p["prompt"]: p["gap"] for p in entry["prompts"]}
        points = [(table[p], y + 1) for y, p in enumerate(prompts) if table.get(p) is not None]
        axes.scatter(
            *zip(*points, strict=True), color=colour, s=36, zorder=3, label=runs[i][0] or "gap"
        ) if points else None
        mean = entry["splits"][split]["gap"]
        if mean["value"] is not None:
            error = (
                None
                if mean["low"] is None
                else [[max(mean["value"] - mean["low"], 0)], [max(mean["high"] - mean["value"], 0)]]
            )
            place = 0.3 * (i - (len(entries) - 1) / 2)
            axes.errorbar(
                mean["value"], place, xerr=error, color=colour, marker="D", capsize=4, zorder=3
            )
    if len(entries) == 2:
        tables = [{p["prompt"]: p["gap"] for p in entry["prompts"]} for entry in entries]
        for y, p in enumerate(prompts):
            if tables[0].get(p) is not None and tables[1].get(p) is not None:
                axes.plot([tables[0][p], tables[1][p]], [y + 1, y + 1], color="#bbbbbb", zorder=1)
    floor = entries[-1]["splits"][split]["gap_floor"]
    axes.axvline(
        floor, color="black", linestyle=":", linewidth=1, label=f"chance floor {floor:.2f}"
    )
    axes.set(
        yticks=range(len(prompts) + 1),
        yticklabels=["mean, 95 %", *_labels(entries[-1], prompts)],
        xlim=(-0.02, 1.02),
        xlabel=f"gap {among(entries[-1])}",
    )
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
    return _svg(figure)
