"""A sweep as files: `sweep.json`, a picture, and a page that holds both. No torch."""

import base64
import os
import pathlib

from evenhand.core.files import write_json, write_text
from evenhand.reports.html import page_template
from evenhand.reports.sweep.models import SweepReport
from evenhand.reports.sweep.plot import write_plot
from evenhand.reports.sweep.table import table_of


def write_sweep(folder: str | os.PathLike, report: SweepReport) -> None:
    """Writes `sweep.json`, `sweep.png` and `sweep.html` into the folder that holds the runs."""
    folder = pathlib.Path(folder)
    write_json(folder / "sweep.json", report.as_json())
    write_plot(folder / "sweep.png", report)
    headings, rows = table_of(report.points, report.suggested)
    places = [p.folder for p in report.points for _ in p.attributes]
    html = page_template("sweep.html.j2").render(
        report=report,
        across=[h for h in ("guidance", "steps") if h in headings],
        picture=base64.b64encode((folder / "sweep.png").read_bytes()).decode(),
        headings=headings,
        rows=list(zip(rows, places, strict=True)),
        again=table_of(report.fresh, None) if report.fresh else None,
    )
    write_text(folder / "sweep.html", html)
