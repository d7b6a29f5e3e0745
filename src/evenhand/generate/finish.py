"""A filled set becomes a dataset: shards, card, page, and the report that says what they hold."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from evenhand.core.files import digest, write_json, write_text
from evenhand.core.locks import lease
from evenhand.core.records import write_records
from evenhand.generate.advice import notes_of
from evenhand.generate.card import write_card
from evenhand.generate.fill import Filled, redo
from evenhand.generate.ledger import Entry
from evenhand.generate.page import PAGE, with_or_without, write_page
from evenhand.generate.plan import SetPlan
from evenhand.generate.report import FILE, SetReport, Shard, read_set
from evenhand.generate.sizes import WishedSize
from evenhand.generate.summary import summary
from evenhand.generate.writers import Item, write_shards


def finish(
    plan: SetPlan,
    sizes: Sequence[WishedSize],
    filled: Filled,
    folder: pathlib.Path,
    settings: dict[str, Any],
    *,
    command: str,
    pictures: bool = True,
) -> SetReport | None:
    """Writes the dataset of a filled set; what an earlier process wrote stays.

    Args:
        plan: of the set.
        sizes: that were asked for.
        filled: what came of the rounds.
        folder: run directory.
        settings: of the run.
        command: that makes the set, for its card.
        pictures: put some of the images into the page.

    Returns:
        the report; None where images on disk were damaged: their units are to be drawn again.
    """
    with lease(folder / ".leases" / "dataset", wait=True):
        there = read_set(folder)
        if there and not all((folder / shard.path).exists() for shard in there.shards):
            there = None
        found = summary(plan, sizes, filled, settings)
        if there and _begins(found, there):
            if found.digest == there.digest:  # else the set there has grown beyond these images
                with_or_without(folder / PAGE, folder, there, filled.ledger.entries, pictures)
            return there  # another process was faster
        written = there.sizes if there and _begins(there, found) else []
        shards = list(there.shards) if there and written else []
        if not _sound(filled, written[-1].images if written else 0, folder):
            return None
        start = written[-1].images if written else 0
        for end, _ in filled.ends[len(written) :]:
            shards += _write(plan, filled.ledger.taken[start:end], folder, shards)
            start = end
        entries = filled.ledger.taken
        found = found.model_copy(update={"shards": shards, "notes": notes_of(plan, found)})
        write_records(folder, [entry.drawn.record for entry in entries])
        kept = plan.keeps
        _write_rejected(filled.ledger.entries, folder, kept)
        write_card(folder, plan, found, command)
        write_page(folder / PAGE, folder, found, filled.ledger.entries, pictures)
        write_json(folder / FILE, found.as_json())
    if not kept:
        for entry in filled.ledger.entries:
            if entry.why and entry.drawn.digest:
                (folder / entry.drawn.record.image).unlink(missing_ok=True)
    return found


def _begins(first: SetReport, second: SetReport) -> bool:
    """Whether the second set begins with all of the first."""
    digests = [s.digest for s in first.sizes]
    return digests == [s.digest for s in second.sizes[: len(digests)]]


def _sound(filled: Filled, start: int, folder: pathlib.Path) -> bool:
    """Whether the files of the images from a place on are as they were drawn.

    Units with one that is not are drawn again.
    """
    damaged = {}
    for entry in filled.ledger.taken[start:]:
        path = folder / entry.drawn.record.image
        if not path.is_file() or digest(path) != entry.drawn.digest:
            damaged[filled.part_of[entry.drawn.record.image]] = path.name
    for unit, name in damaged.items():
        redo(folder, unit, f"its image {name} is gone or damaged")
    return not damaged


def _write(
    plan: SetPlan, entries: Sequence[Entry], folder: pathlib.Path, before: Sequence[Shard]
) -> list[Shard]:
    """Writes the images by which a set grew; returns their shards."""
    found = []
    for split in plan.config.splits:
        mine = [e for e in entries if e.drawn.record.split == split]
        own, paths = plan.model is not None, [folder / e.drawn.record.image for e in mine]
        items = [Item(p, row_of(e, plan), own) for p, e in zip(paths, mine, strict=True)]
        kind = plan.config.out[0]
        first = sum(x.split == split and x.path.startswith(f"{kind}/") for x in before)
        found += [
            Shard(path=path, split=split, images=n)
            for path, n in write_shards(folder, plan.config.out, split, items, first)
        ]
    return found


def row_of(entry: Entry, plan: SetPlan) -> dict[str, Any]:
    """The metadata of an image."""
    record, cell = entry.drawn.record, entry.cell or ()
    made = plan.model is not None
    return {
        "id": pathlib.PurePath(record.image).stem if made else f"{record.seed:016x}",
        "prompt": record.prompt,
        "context": record.concept,
        "group": entry.group,
        "seed": record.seed,
        "source": record.source,
        "flagged": record.flagged,
        **dict(zip(plan.names, cell, strict=True)),
        **{
            f"{name}_confidence": record.probs[name][cls]
            for name, cls in zip(plan.names, cell, strict=True)
        },
    }


def _write_rejected(entries: Sequence[Entry], folder: pathlib.Path, kept: bool) -> None:
    """Writes `rejected.jsonl`: what was not taken, why, and the file where it was kept."""
    lines = [
        {
            "prompt": e.drawn.record.prompt,
            "seed": e.drawn.record.seed,
            "asked": e.drawn.record.states,
            "why": e.why,
            "perceived": e.drawn.record.perceived,
            "image": e.drawn.record.image if kept and e.drawn.digest else None,
            **({"twin": e.twin, "distance": e.distance} if e.twin else {}),
        }
        for e in entries
        if e.why
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(folder / "rejected.jsonl", text)
