"""Reports as files: `report.json` and one self-contained HTML page that needs no network and no tool to read."""

import base64
import contextlib
import io
import itertools
import json
import os
import pathlib
from typing import Any

from evenhand.comparison import compare
from evenhand.counting import by_prompt
from evenhand.files import write_json, write_text
from evenhand.headlines import among, headlines
from evenhand.records import Record, read_run
from evenhand.report import build

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#666666")  # Okabe & Ito
COLUMNS = 12
THUMBNAIL = 128  # pixels, at most
PLOTTED = 40  # prompts in a plot, at most: those with the largest gap
SHOWN = 60  # prompts whose images are shown, at most


def write_report(folder: str | os.PathLike) -> dict[str, Any]:
    """Builds the report of a run and writes `report.json` and `report.html` into it."""
    folder = pathlib.Path(folder)
    run = read_run(folder)
    report = build(run)
    write_json(folder / "report.json", report)
    _write_page(folder / "report.html", [("", folder, report)], None, [run[1]])
    return report


def write_comparison(before: str | os.PathLike, after: str | os.PathLike, out: str | os.PathLike, *,
                     closeness: dict[str, Any] | None = None) -> dict[str, Any]:
    """Compares two runs and writes `report.json` and `report.html` into `out`, with what `evenhand.closeness` found, if given."""
    out = pathlib.Path(out)
    runs = read_run(before), read_run(after)
    report = compare(before, after, runs)
    report["change"]["closeness"] = closeness or {}
    write_json(out / "report.json", report)
    _write_page(out / "report.html", [("before", pathlib.Path(before), report["before"]),
                                      ("after", pathlib.Path(after), report["after"])], report["change"],
                [records for _, records in runs])
    return report


def _write_page(path: pathlib.Path, runs: list[tuple[str, pathlib.Path, dict[str, Any]]], change: dict[str, Any] | None,
                records: list[list[Record]]) -> None:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.PackageLoader("evenhand", "templates"), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = number
    last = runs[-1][2]
    colours = {a: dict(zip(entry["classes"], itertools.cycle(PALETTE), strict=False)) for a, entry in last["attributes"].items()
               if not entry["parts"]}
    settings, (grids, omitted) = last["run"]["settings"], _grids(runs, records)
    html = environment.get_template("report.html.j2").render(
        subject=settings.get("model") or pathlib.Path(settings["images_from"]).name, plotted=PLOTTED, omitted=omitted,
        runs=[(label, report) for label, _, report in runs], last=last, change=change,
        lines=headlines([report for _, _, report in runs], change), colours=colours,
        settings={"images_from": None, "until": None, **settings}, versions=last["run"]["versions"],
        plots={a: {"shares": _shares_plot(runs, a, colours[a]) if a in colours else "", "gap": _gap_plot(runs, a)}
               for a in last["attributes"]},
        grids=grids)
    write_text(path, html)


def number(estimate: dict[str, Any] | float | None) -> str:
    """`0.71 [0.68, 0.74]`, or a dash where there is no value."""
    if isinstance(estimate, int | float):
        return f"{estimate:.2f}"
    if estimate is None or estimate["value"] is None:
        return "–"
    interval = "" if estimate["low"] is None else f" [{estimate['low']:.2f}, {estimate['high']:.2f}]"
    return f"{estimate['value']:.2f}{interval}"


def _svg(figure: Any) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "evenhand"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg"):]


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
                axes.barh(place, width, height, left, color=colour, alpha=0.55 if number_of_run < len(runs) - 1 else 1.0,
                          label=cls if (number_of_run, y) == (len(runs) - 1, 0) else None, linewidth=0)
                left += width
    if entries[-1]["target"]:
        border = 0.0
        for share in entries[-1]["target"][:-1]:
            border += share
            axes.axvline(border, color="black", linestyle="--", linewidth=1)
    axes.set(yticks=range(len(prompts)), yticklabels=_labels(entries[-1], prompts), xlim=(0, 1),
             xlabel="share of images perceived as" + (" (pale: before; dashed: target)" if len(runs) > 1 else ""))
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(colours), frameon=False, fontsize=9)
    return _svg(figure)


def _gap_plot(runs: list[tuple], attribute: str) -> str:
    """The gap of each prompt, before to after, and its mean with the interval, over the chance floor."""
    entries = [report["attributes"][attribute] for _, _, report in runs]
    prompts = _plotted(entries[-1])
    split = list(entries[-1]["splits"])[0]
    figure, axes = _figure(len(prompts) + 1)
    for i, entry in enumerate(entries):
        colour = PALETTE[0] if i == len(entries) - 1 else "#999999"
        table = {p["prompt"]: p["gap"] for p in entry["prompts"]}
        points = [(table[p], y + 1) for y, p in enumerate(prompts) if table.get(p) is not None]
        axes.scatter(*zip(*points, strict=True), color=colour, s=36, zorder=3, label=runs[i][0] or "gap") if points else None
        mean = entry["splits"][split]["gap"]
        if mean["value"] is not None:
            error = None if mean["low"] is None else [[max(mean["value"] - mean["low"], 0)], [max(mean["high"] - mean["value"], 0)]]
            place = 0.3 * (i - (len(entries) - 1) / 2)
            axes.errorbar(mean["value"], place, xerr=error, color=colour, marker="D", capsize=4, zorder=3)
    if len(entries) == 2:
        tables = [{p["prompt"]: p["gap"] for p in entry["prompts"]} for entry in entries]
        for y, p in enumerate(prompts):
            if tables[0].get(p) is not None and tables[1].get(p) is not None:
                axes.plot([tables[0][p], tables[1][p]], [y + 1, y + 1], color="#bbbbbb", zorder=1)
    floor = entries[-1]["splits"][split]["gap_floor"]
    axes.axvline(floor, color="black", linestyle=":", linewidth=1, label=f"chance floor {floor:.2f}")
    axes.set(yticks=range(len(prompts) + 1), yticklabels=["mean, 95 %", *_labels(entries[-1], prompts)],
             xlim=(-0.02, 1.02), xlabel=f"gap {among(entries[-1])}")
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
    return _svg(figure)


def _grids(runs: list[tuple], records: list[list[Record]]) -> tuple[list[dict[str, Any]], int]:
    """For each neutral prompt, then for explicit ones, the first images of each run, the same seeds under each other.

    Returns:
        those of at most `SHOWN` prompts, and how many were left out.
    """
    tables = [{p: {r.seed: r for r in rows} for p, rows in by_prompt(found).items()} for found in records]
    grids = []
    prompts = sorted(tables[-1], key=lambda p: bool(next(iter(tables[-1][p].values())).states))
    for prompt in prompts[:SHOWN]:
        last, found = tables[-1][prompt], [table.get(prompt, {}) for table in tables]
        seeds = [seed for seed in last if all(seed in rows for rows in found)][:COLUMNS]
        if seeds:
            first = last[seeds[0]]
            lines = [(label, [_cell(folder, rows[seed], report["run"]["settings"]["judge"]) for seed in seeds])
                     for (label, folder, report), rows in zip(runs, found, strict=True)]
            grids.append({"prompt": prompt, "states": first.states, "split": first.split, "lines": lines})
    return grids, max(len(prompts) - SHOWN, 0)


def _cell(folder: pathlib.Path, record: Record, judge: dict[str, str]) -> dict[str, Any]:
    """One image as a data URI with what was perceived in it; no image where its file is gone or unreadable."""
    from PIL import Image

    path, uri = folder / record.image, None
    with contextlib.suppress(OSError), Image.open(path) as image:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, format="PNG", optimize=True)
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    probs = [[a, ", ".join(f"{c} {x:.2f}" for c, x in sorted(p.items(), key=lambda item: -item[1])[:5])]
             for a, p in record.probs.items()]
    facts = [["prompt", record.prompt], ["seed", str(record.seed)], ["source", record.source], ["file", record.image],
             ["judge", f"{judge['name']}@{judge['digest']}"], *(probs if record.seen else [["seen", "nothing to judge"]])]
    return {"uri": uri, "facts": json.dumps(facts, ensure_ascii=False), "perceived": record.perceived,
            "probs": {a: max(p.values()) for a, p in record.probs.items()}, "seen": record.seen}
