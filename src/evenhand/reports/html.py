"""Reports as files.

`report.json` and one self-contained HTML page that needs no network and no tool to read.
"""

import functools
import itertools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import write_json, write_text
from evenhand.core.records import read_run
from evenhand.reports.accept import held
from evenhand.reports.changes import Change, Closeness, Comparison
from evenhand.reports.comparison import compare
from evenhand.reports.headlines import headlines, labels_of, number
from evenhand.reports.models import Report
from evenhand.reports.pictures import Side, grids, of_people
from evenhand.reports.plots import PALETTE, PLOTTED, gap_plot, shares_plot
from evenhand.reports.refusals import refusals
from evenhand.reports.report import build
from evenhand.reports.sentence import in_words


def write_report(
    folder: str | os.PathLike, *, pictures: bool = True, accept: Sequence[str] = ()
) -> Report:
    """Builds the report of a run and writes `report.json` and `report.html` into it.

    Args:
        folder: run directory.
        pictures: put some of the images into the page.
        accept: rules that the report is held against.

    Raises:
        UserError: a rule names no number of the report, which is written nevertheless.
    """
    folder = pathlib.Path(folder)
    run = read_run(folder)
    report = build(run)
    report = report.model_copy(update={"notes": [*report.notes, *refusals(folder, report)]})
    report, wrong = held(report, accept)
    write_json(folder / "report.json", report.as_json())
    side = Side("", folder, report, run[1])
    _write_page(folder / "report.html", [side], None, report, pictures)
    if wrong:
        raise wrong
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
    pictures: bool = True,
    accept: Sequence[str] = (),
) -> Comparison:
    """Compares two runs and writes `report.json` and `report.html` into `out`.

    Args:
        before: run directory.
        after: another.
        out: directory of the report.
        closeness: of the images, by kind of features.
        pictures: put some of the images into the page.
        accept: rules that the comparison is held against.

    Raises:
        UserError: a rule names no number of the report, which is written nevertheless.
    """
    out = pathlib.Path(out)
    may_hold_comparison(out)
    runs = read_run(before), read_run(after)
    result, wrong = held(compare(before, after, runs, closeness), accept)
    write_json(out / "report.json", result.as_json())
    reports = [result.before, result.after]
    sides = [
        Side(label, pathlib.Path(folder), report, run[1])
        for label, folder, report, run in zip(
            labels_of(reports, result.change), (before, after), reports, runs, strict=True
        )
    ]
    _write_page(out / "report.html", sides, result.change, result, pictures)
    if wrong:
        raise wrong
    return result


def _write_page(
    path: pathlib.Path,
    sides: list[Side],
    change: Change | None,
    whole: Report | Comparison,
    pictures: bool,
) -> None:
    last = sides[-1].report
    colours = {
        a: dict(zip(entry.classes, itertools.cycle(PALETTE), strict=False))
        for a, entry in last.attributes.items()
        if not entry.parts
    }
    lines = headlines([side.report for side in sides], change)
    agreed, made = bool(change and change.agreement), last.run.settings.get("images_from")
    settings, (strips, omitted) = last.run.settings, grids(sides) if pictures else ([], 0)
    html = page_template("report.html.j2").render(
        subject=settings.get("model") or pathlib.Path(settings["images_from"]).name,
        plotted=PLOTTED,
        omitted=omitted,
        sides=sides,
        last=last,
        change=change,
        notes=whole.notes,
        accepted=whole.accepted,
        words=in_words([side.report for side in sides], change),
        lines=lines,
        targets=any(line.target is not None for line in lines),
        agreed=agreed,
        judged=sides if agreed else sides[-1:],  # a side for each judge
        delta="between both" if agreed else "change, same images" if made else "change, same seeds",
        colours=colours,
        settings={"images_from": None, "until": None, **settings},
        plots={a: _plots(sides, a, colours.get(a)) for a in last.attributes},
        grids=strips,
        one=all(len(entry.prompts) == 1 for entry in last.attributes.values()),
        pictures=pictures,
        of_people=of_people(sides),
        found_by_face=any(r.faces is not None for side in sides for r in side.records),
    )
    write_text(path, html)


@functools.cache
def page_template(name: str, package: str = "evenhand.reports") -> Any:
    """A page's template, of a room; what is put into it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    return environment.get_template(name)


def _plots(sides: list[Side], attribute: str, colours: dict[str, str] | None) -> dict[str, str]:
    """The plots of an attribute as SVG, by what they show; none where nothing was perceived."""
    entries = {side.label: side.report.attributes[attribute] for side in sides}
    prompts = [p for entry in entries.values() for p in entry.prompts]
    found = {}
    if colours and any(p.seen for p in prompts):
        found["Shares"] = shares_plot(entries, colours)
    if len({p.prompt for p in prompts if p.gap is not None}) > 1:  # of one, the shares say it all
        found["Gap"] = gap_plot(entries)
    return found
