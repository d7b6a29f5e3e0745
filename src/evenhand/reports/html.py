"""Reports as files.

`report.json` and one self-contained HTML page that needs no network and no tool to read.
"""

import base64
import contextlib
import io
import itertools
import json
import os
import pathlib
from typing import Any

from evenhand.core.files import write_json, write_text
from evenhand.core.records import Record, read_run
from evenhand.reports.comparison import compare
from evenhand.reports.headlines import headlines
from evenhand.reports.plots import PALETTE, PLOTTED, _gap_plot, _shares_plot
from evenhand.reports.report import build
from evenhand.reports.tally import by_prompt

COLUMNS = 12
THUMBNAIL = 128  # pixels, at most
SHOWN = 60  # prompts whose images are shown, at most


def write_report(folder: str | os.PathLike) -> dict[str, Any]:
    """Builds the report of a run and writes `report.json` and `report.html` into it."""
    folder = pathlib.Path(folder)
    run = read_run(folder)
    report = build(run)
    write_json(folder / "report.json", report)
    _write_page(folder / "report.html", [("", folder, report)], None, [run[1]])
    return report


def write_comparison(
    before: str | os.PathLike,
    after: str | os.PathLike,
    out: str | os.PathLike,
    *,
    closeness: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compares two runs and writes `report.json` and `report.html` into `out`."""
    out = pathlib.Path(out)
    runs = read_run(before), read_run(after)
    report = compare(before, after, runs)
    report["change"]["closeness"] = closeness or {}
    write_json(out / "report.json", report)
    _write_page(
        out / "report.html",
        [
            ("before", pathlib.Path(before), report["before"]),
            ("after", pathlib.Path(after), report["after"]),
        ],
        report["change"],
        [records for _, records in runs],
    )
    return report


def _write_page(
    path: pathlib.Path,
    runs: list[tuple[str, pathlib.Path, dict[str, Any]]],
    change: dict[str, Any] | None,
    records: list[list[Record]],
) -> None:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evenhand.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    last = runs[-1][2]
    colours = {
        a: dict(zip(entry["classes"], itertools.cycle(PALETTE), strict=False))
        for a, entry in last["attributes"].items()
        if not entry["parts"]
    }
    settings, (grids, omitted) = last["run"]["settings"], _grids(runs, records)
    html = environment.get_template("report.html.j2").render(
        subject=settings.get("model") or pathlib.Path(settings["images_from"]).name,
        plotted=PLOTTED,
        omitted=omitted,
        runs=[(label, report) for label, _, report in runs],
        last=last,
        change=change,
        lines=headlines([report for _, _, report in runs], change),
        colours=colours,
        settings={"images_from": None, "until": None, **settings},
        versions=last["run"]["versions"],
        plots={
            a: {
                "shares": _shares_plot(runs, a, colours[a]) if a in colours else "",
                "gap": _gap_plot(runs, a),
            }
            for a in last["attributes"]
        },
        grids=grids,
    )
    write_text(path, html)


def number(estimate: dict[str, Any] | float | None) -> str:
    """`0.71 [0.68, 0.74]`, or a dash where there is no value."""
    if isinstance(estimate, int | float):
        return f"{estimate:.2f}"
    if estimate is None or estimate["value"] is None:
        return "–"
    interval = (
        "" if estimate["low"] is None else f" [{estimate['low']:.2f}, {estimate['high']:.2f}]"
    )
    return f"{estimate['value']:.2f}{interval}"


def _grids(runs: list[tuple], records: list[list[Record]]) -> tuple[list[dict[str, Any]], int]:
    """For each neutral, then each explicit prompt, the first images of each run, same seeds.

    Returns:
        those of at most `SHOWN` prompts, and how many were left out.
    """
    tables = [
        {p: {r.seed: r for r in rows} for p, rows in by_prompt(found).items()} for found in records
    ]
    grids = []
    prompts = sorted(tables[-1], key=lambda p: bool(next(iter(tables[-1][p].values())).states))
    for prompt in prompts[:SHOWN]:
        last, found = tables[-1][prompt], [table.get(prompt, {}) for table in tables]
        seeds = [seed for seed in last if all(seed in rows for rows in found)][:COLUMNS]
        if seeds:
            first = last[seeds[0]]
            lines = [
                (
                    label,
                    [
                        _cell(folder, rows[seed], report["run"]["settings"]["judge"])
                        for seed in seeds
                    ],
                )
                for (label, folder, report), rows in zip(runs, found, strict=True)
            ]
            grids.append(
                {"prompt": prompt, "states": first.states, "split": first.split, "lines": lines}
            )
    return grids, max(len(prompts) - SHOWN, 0)


def _cell(folder: pathlib.Path, record: Record, judge: dict[str, str]) -> dict[str, Any]:
    """One image as a data URI with what was perceived in it.

    No image where its file is gone or unreadable.
    """
    from PIL import Image

    from evenhand.images.io import Unreadable, read_image

    uri = None
    with contextlib.suppress(Unreadable):
        image = Image.fromarray(read_image(folder / record.image, side=THUMBNAIL))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    probs = [
        [a, ", ".join(f"{c} {x:.2f}" for c, x in sorted(p.items(), key=lambda item: -item[1])[:5])]
        for a, p in record.probs.items()
    ]
    facts = [
        ["prompt", record.prompt],
        ["seed", str(record.seed)],
        ["source", record.source],
        ["file", record.image],
        ["judge", f"{judge['name']}@{judge['digest']}"],
        *(probs if record.seen else [["seen", "nothing to judge"]]),
    ]
    return {
        "uri": uri,
        "facts": json.dumps(facts, ensure_ascii=False),
        "perceived": record.perceived,
        "probs": {a: max(p.values()) for a, p in record.probs.items()},
        "seen": record.seen,
    }
