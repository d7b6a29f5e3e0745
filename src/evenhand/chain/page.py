"""The page of a chain: the story of its stages, and where every number comes from."""

import pathlib

from evenhand.chain.models import ChainReport
from evenhand.core.files import write_text
from evenhand.reports.html import page_template


def write_page(path: pathlib.Path, report: ChainReport) -> None:
    """Writes the self-contained page; it links to the pages of the stages, which lie beside it."""
    template = page_template("chain.html.j2")
    told = [m for m in report.measurements if not m.adapter]
    after = [m for m in report.measurements if m.adapter]
    write_text(path, template.render(report=report, before=told, after=after, minutes=minutes))


def minutes(seconds: float) -> str:
    """`4.2 min`."""
    return f"{seconds / 60:.1f} min"
