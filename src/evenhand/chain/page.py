"""The page of a chain: the story of its stages, and where every number comes from."""

import pathlib

from evenhand.chain.models import ChainReport, Measurement
from evenhand.core.files import write_text
from evenhand.core.records import read_run
from evenhand.reports.html import page_template
from evenhand.reports.sheets import sheet_uri
from evenhand.reports.tally import by_prompt

PROMPTS, IMAGES, SIDE = 6, 10, 72  # shown: prompts, images of each, pixels of an image


def write_page(path: pathlib.Path, report: ChainReport) -> None:
    """Writes the self-contained page; it links to the pages of the stages, which lie beside it."""
    template = page_template("chain.html.j2")
    alone = [m for m in report.measurements if not m.adapter]
    after = [m for m in report.measurements if m.adapter]
    picture = before_and_after(path.parent, [m for m in after if m.against])
    html = template.render(
        report=report, before=alone, after=after, minutes=minutes, picture=picture
    )
    write_text(path, html)


def before_and_after(folder: pathlib.Path, after: list[Measurement]) -> str | None:
    """The first images of some prompts without and with each adapter, as a data URI.

    Args:
        folder: of the chain.
        after: measurements that are held against one without an adapter; those that share it with
            the first are shown.

    Returns:
        None where nothing is held against anything, or a folder's images were measured.
    """
    against = after[0].against if after else None
    if not against:
        return None
    stages = [(against, "before"), *((m.stage, m.adapter) for m in after if m.against == against)]
    tables = []
    for stage, label in stages:
        run, records = read_run(folder / stage)
        if run["settings"].get("images_from"):
            return None
        tables.append((label, stage, by_prompt(r for r in records if not r.states)))
    rows: list[tuple[str, list[pathlib.Path]]] = []
    for prompt, first in list(tables[0][2].items())[:PROMPTS]:
        for label, stage, table in tables:
            shown = first[0].concept if stage == against else f"   {label}"
            rows.append((shown, [folder / stage / r.image for r in table[prompt][:IMAGES]]))
        rows.append(("", []))
    return sheet_uri(rows[:-1], size=SIDE)


def minutes(seconds: float) -> str:
    """`4.2 min`."""
    return f"{seconds / 60:.1f} min"
