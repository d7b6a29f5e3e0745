"""Reports as files.

`report.json` and one self-contained HTML page that needs no network and no tool to read.
"""

import base64
import io
import itertools
import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import write_json, write_text
from evenhand.core.records import Record, read_run
from evenhand.images.io import Unreadable, read_image
from evenhand.reports.changes import Change, Closeness, Comparison
from evenhand.reports.comparison import compare
from evenhand.reports.headlines import headlines, number
from evenhand.reports.models import Report
from evenhand.reports.plots import PALETTE, PLOTTED, gap_plot, shares_plot
from evenhand.reports.report import build
from evenhand.reports.tally import by_prompt, once

COLUMNS = 12
THUMBNAIL = 128  # pixels, at most
SHOWN = 60  # prompts whose images are shown, at most


@dataclass(frozen=True)
class Side:
    """A run on a page; its label is `before` or `after`, or nothing where it is alone."""

    label: str
    folder: pathlib.Path
    report: Report
    records: list[Record]


def write_report(folder: str | os.PathLike) -> Report:
    """Builds the report of a run and writes `report.json` and `report.html` into it."""
    folder = pathlib.Path(folder)
    run = read_run(folder)
    report = build(run)
    write_json(folder / "report.json", report.as_json())
    _write_page(folder / "report.html", [Side("", folder, report, run[1])], None, report.notes)
    return report


def may_hold_comparison(out: str | os.PathLike) -> None:
    """Refuses a folder in which a comparison's report would replace something else.

    Raises:
        UserError: it is a run directory, or its report is no comparison's.
    """
    out = pathlib.Path(out)
    report = out / "report.json"
    other = (out / "run.json").exists() or (not report.exists() and (out / "report.html").exists())
    if report.exists() and not other:
        try:
            other = "change" not in json.loads(report.read_text(encoding="utf-8"))
        except (ValueError, TypeError, RecursionError):
            other = True
    if other:
        raise UserError(f"{out}: holds another report; name another directory with --out")


def write_comparison(
    before: str | os.PathLike,
    after: str | os.PathLike,
    out: str | os.PathLike,
    *,
    closeness: dict[str, Closeness] | None = None,
) -> Comparison:
    """Compares two runs and writes `report.json` and `report.html` into `out`."""
    out = pathlib.Path(out)
    may_hold_comparison(out)
    runs = read_run(before), read_run(after)
    result = compare(before, after, runs, closeness)
    write_json(out / "report.json", result.as_json())
    sides = [
        Side("before", pathlib.Path(before), result.before, runs[0][1]),
        Side("after", pathlib.Path(after), result.after, runs[1][1]),
    ]
    _write_page(out / "report.html", sides, result.change, result.notes)
    return result


def _write_page(
    path: pathlib.Path, sides: list[Side], change: Change | None, notes: list[str]
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
    last = sides[-1].report
    colours = {
        a: dict(zip(entry.classes, itertools.cycle(PALETTE), strict=False))
        for a, entry in last.attributes.items()
        if not entry.parts
    }
    settings, (grids, omitted) = last.run.settings, _grids(sides)
    html = environment.get_template("report.html.j2").render(
        subject=settings.get("model") or pathlib.Path(settings["images_from"]).name,
        plotted=PLOTTED,
        omitted=omitted,
        sides=sides,
        last=last,
        change=change,
        notes=notes,
        lines=headlines([side.report for side in sides], change),
        colours=colours,
        settings={"images_from": None, "until": None, **settings},
        plots={a: _plots(sides, a, colours.get(a)) for a in last.attributes},
        grids=grids,
    )
    write_text(path, html)


def _plots(sides: list[Side], attribute: str, colours: dict[str, str] | None) -> dict[str, str]:
    """The plots of an attribute as SVG, by what they show; none where nothing was perceived."""
    entries = {side.label: side.report.attributes[attribute] for side in sides}
    prompts = [p for entry in entries.values() for p in entry.prompts]
    found = {}
    if colours and any(p.seen for p in prompts):
        found["Shares"] = shares_plot(entries, colours)
    if any(p.gap is not None for p in prompts):
        found["Gap"] = gap_plot(entries)
    return found


def _grids(sides: list[Side]) -> tuple[list[dict[str, Any]], int]:
    """For each neutral, then each explicit prompt, the first images of each run, same seeds.

    Returns:
        those of at most `SHOWN` prompts, and how many were left out.
    """
    tables = [
        {p: {r.seed: r for r in rows} for p, rows in by_prompt(once(side.records)).items()}
        for side in sides
    ]
    grids = []
    prompts = sorted(tables[-1], key=lambda p: bool(next(iter(tables[-1][p].values())).states))
    for prompt in prompts[:SHOWN]:
        last, found = tables[-1][prompt], [table.get(prompt, {}) for table in tables]
        seeds = [seed for seed in last if all(seed in rows for rows in found)][:COLUMNS]
        if seeds:
            first = last[seeds[0]]
            lines = [
                (side.label, [_cell(side, rows[seed]) for seed in seeds])
                for side, rows in zip(sides, found, strict=True)
            ]
            grids.append(
                {"prompt": prompt, "states": first.states, "split": first.split, "lines": lines}
            )
    return grids, max(len(prompts) - SHOWN, 0)


def _cell(side: Side, record: Record) -> dict[str, Any]:
    """One image as a data URI with what was perceived in it.

    No image where its file is gone or unreadable, or none of the run's own.
    """
    judge = side.report.run.settings["judge"]
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
    path = _file(side, record)
    return {
        "uri": _thumbnail(path) if path else None,
        "facts": json.dumps(facts, ensure_ascii=False),
        "perceived": record.perceived,
        "probs": {a: max(p.values()) for a, p in record.probs.items()},
        "seen": record.seen,
    }


def _file(side: Side, record: Record) -> pathlib.Path | None:
    """The image's file; None where it lies outside of the run's folder.

    Images made elsewhere lie in the folder that was measured. A journal that was made by somebody
    else may name any file, which the page would show to whoever it is sent to.
    """
    made_elsewhere = side.report.run.settings.get("images_from")
    root = pathlib.Path(made_elsewhere) if made_elsewhere else side.folder
    path = root / record.image
    if path.resolve().is_relative_to(root.resolve()):
        return path
    # a link inside of the measured folder may lead out of it; `..` may not
    linked = made_elsewhere and ".." not in path.parts and path.is_relative_to(root)
    return path if linked else None


def _thumbnail(path: pathlib.Path) -> str | None:
    """The image as it was judged, small, as a data URI."""
    from PIL import Image

    try:
        image = Image.fromarray(read_image(path, side=THUMBNAIL))
    except Unreadable:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
