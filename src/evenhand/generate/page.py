"""The page of a set: what each cell looks like, and what is known of it."""

import json
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from PIL import Image

from evenhand.core.files import write_text
from evenhand.generate.card import percent
from evenhand.generate.ledger import REASONS, Entry
from evenhand.generate.report import SetReport
from evenhand.images.io import Unreadable, read_image
from evenhand.reports.html import page_template
from evenhand.reports.pictures import COLUMNS, DATA, SHOWN, THUMBNAIL, data_uri

PAGE = "dataset.html"
TWINS = 6  # pairs of near-duplicates that are shown, at most


def write_page(
    path: pathlib.Path,
    folder: pathlib.Path,
    report: SetReport,
    entries: Sequence[Entry],
    pictures: bool,
    *,
    preview: bool = False,
) -> None:
    """Writes the page.

    Args:
        path: of the page.
        folder: of the set.
        report: of the set.
        entries: of all images.
        pictures: put some of them into the page.
        preview: show what is not taken as well.
    """
    shown = [e for e in entries if (not e.why or preview) and e.drawn.digest]
    html = page_template("dataset.html.j2").render(
        name=_name(folder.resolve(), preview),
        report=report,
        settings=report.settings,
        grids=_grids(folder, shown, report, whole_cells=preview) if pictures else [],
        twins=_twins(folder, report) if pictures else [],
        reasons=REASONS,
        percent=percent,
        preview=preview,
        pictures=pictures,
        from_folder=report.settings.get("images_from"),
    )
    write_text(path, html)


def with_or_without(
    path: pathlib.Path,
    folder: pathlib.Path,
    report: SetReport,
    entries: Sequence[Entry],
    pictures: bool,
) -> None:
    """Writes the page of a finished set anew where it has pictures and shall have none, or no page.

    Arguments are those of `write_page`.
    """
    if not path.is_file() or (DATA in path.read_text(encoding="utf-8")) != pictures:
        write_page(path, folder, report, entries, pictures)


def _name(folder: pathlib.Path, preview: bool) -> str:
    """What a set is called: its folder; a preview's lies below one that ends in `-preview`."""
    return folder.parent.name.removesuffix("-preview") if preview else folder.name


def _grids(
    folder: pathlib.Path, entries: Sequence[Entry], report: SetReport, *, whole_cells: bool
) -> list[dict[str, Any]]:
    """Some images of each place or cell: those with the smallest seeds, which are hashes."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        cell = entry.cell or tuple(
            entry.drawn.record.states.get(name, "?") for name in report.settings["cells"]
        )
        groups[
            "/".join(cell) + (f", {entry.group}" if entry.group and not whole_cells else "")
        ].append(entry)
    found = []
    for name, mine in list(groups.items())[:SHOWN]:
        chosen = sorted(mine, key=lambda e: e.drawn.record.seed)[:COLUMNS]
        cells = [_cell(folder, entry) for entry in chosen]
        found.append({"name": name, "cells": cells, "images": len(mine)})
    return found


def _cell(folder: pathlib.Path, entry: Entry) -> dict[str, Any]:
    record = entry.drawn.record
    facts = [
        ["prompt", record.prompt],
        ["seed", str(record.seed)],
        ["source", record.source],
        ["file", pathlib.PurePath(record.image).name],
        *([["not taken", REASONS[entry.why]]] if entry.why else []),
        *(
            [a, ", ".join(f"{c} {x:.2f}" for c, x in sorted(p.items(), key=lambda x: -x[1])[:5])]
            for a, p in record.probs.items()
        ),
    ]
    return {
        "uri": _small(folder / record.image),
        "facts": json.dumps(facts, ensure_ascii=False),
        "what": ", ".join(record.perceived.get(a, "–") for a in record.probs) or "nothing",
        "why": entry.why,
        "prompt": record.prompt,
    }


def _small(path: pathlib.Path) -> str | None:
    try:
        return data_uri(Image.fromarray(read_image(path, side=THUMBNAIL)), THUMBNAIL)
    except Unreadable:
        return None


def _twins(folder: pathlib.Path, report: SetReport) -> list[dict[str, Any]]:
    """Pairs of near-duplicates whose files are there."""
    pairs = [
        {
            "prompt": x.prompt,
            "distance": x.distance,
            "uris": [_small(folder / name) for name in (x.first, x.second)],
        }
        for x in report.twins[:TWINS]
    ]
    return [pair for pair in pairs if all(pair["uris"])]
