"""Measuring a generator: prompts x seeds -> images -> perceived classes -> records and a report."""

import os
import pathlib
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

from evenhand.core.attributes import attributes_of
from evenhand.core.prompts import Row
from evenhand.core.records import (
    Record,
    key,
    lines_of,
    read,
    read_parts,
    skipped_in_parts,
    skipped_lines,
    write_records,
)
from evenhand.core.work import Share, work
from evenhand.diffusion.generators import Generator, load_generator
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.sampling import draw
from evenhand.diffusion.tokens import cut_short
from evenhand.judges.base import Judge
from evenhand.judges.perceive import judge_is_trainer, judged, save_images, with_digest
from evenhand.judges.registry import load_judge
from evenhand.measure.plan import GeneratorPlan
from evenhand.measure.rows import units_of
from evenhand.reports.html import write_report
from evenhand.reports.models import Report
from evenhand.reports.tally import counts
from evenhand.stats.stopping import enough
from evenhand.training.run_directory import check_run, claim_run, peak_memory

FREE = ("batch",)  # only cuts the work up
ANSWERS = ".answers"  # folder of a run: what a service answered, until all is drawn
Records = dict[tuple[str, int], Record]  # by prompt and seed


def measure_generator(
    plan: GeneratorPlan,
    folder: str | os.PathLike,
    *,
    share: Share = Share(),
    progress: Callable[[int, int], None] | None = None,
    judge_may_be_trainer: bool = False,
    pictures: bool = True,
) -> Report | None:
    """As `evenhand.measure.measure`, of a generator.

    The plan's rows are cut into units. A unit is a batch whose images are fixed before anything is
    drawn, and any number of processes share the units. So the records are the same, however often
    the run is cut and however many processes do it.
    """
    generator, judge = _load(plan, pathlib.Path(folder) / ANSWERS)
    adapters = [adapter for adapter, _ in plan.adapters.parts]
    trained = judge_is_trainer(judge, adapters, allowed=judge_may_be_trainer)
    texts = (p.text for p, _ in plan.rows)
    cut = cut_short(generator, texts) if isinstance(generator, Diffusion) else []
    settings = {
        **with_digest(plan.settings, judge),
        **trained,
        **({"cut": cut} if cut else {}),
        "source": generator.source,
    }
    folder = check_run(folder, settings, free=FREE)

    def do(rows: list[Row]) -> str:
        return _unit(generator, judge, rows, settings, folder)

    records: Records = {}  # of the rounds that are done
    of_prompt: dict[str, list[Record]] = defaultdict(list)  # the same; every process decides alike
    left = len(plan.rows)  # less those of prompts that stopped
    for number, rows in enumerate(plan.rounds()):
        wanted = [row for row in rows if not _may_stop(of_prompt[row[0].text], settings)]
        left -= len(rows) - len(wanted)

        def tell(done: int, before: int = len(records), left: int = left) -> None:
            if progress:
                progress(before + done, left)

        drawn = _round(folder, wanted, number, plan.config.batch, do, share=share, tell=tell)
        if drawn is None:
            return None
        for prompt, seed in wanted:
            if record := drawn.get(key(prompt, seed)):  # None where a service refused
                records[key(prompt, seed)] = record
                of_prompt[prompt.text].append(record)
    _put_together(folder, [records[key(*row)] for row in plan.rows if key(*row) in records])
    return write_report(folder, pictures=pictures) if share.only or share.rank == 0 else None


def _unit(
    generator: Generator,
    judge: Judge,
    rows: list[Row],
    settings: dict[str, Any],
    folder: pathlib.Path,
) -> str:
    """Draws, judges and keeps the images of a unit; its part."""
    found = []
    for drawn, images in draw(generator, rows):
        flagged = generator.safety(images) if generator.safety else None
        records = judged(
            drawn, images, judge, settings["attributes"], generator.source, flagged=flagged
        )
        claim_run(folder, settings, free=FREE)
        save_images(images, [folder / r.image for r in records])
        found += records
    claim_run(folder, settings, free=FREE)  # a service may have refused all
    missing = [
        {"skipped": f"{prompt.text} (request {seed})", "why": generator.missing[key(prompt, seed)]}
        for prompt, seed in rows
        if key(prompt, seed) in generator.missing
    ]
    return lines_of(found) + skipped_lines(missing)


def _put_together(folder: pathlib.Path, records: list[Record]) -> None:
    """Writes the records of a finished run, and which images a service refused to draw."""
    units = sorted(part.stem for part in (folder / "parts").glob("*.jsonl"))
    missing = {row["skipped"]: row for row in skipped_in_parts(folder, units)}
    write_records(folder, records, list(missing.values()))
    shutil.rmtree(folder / ANSWERS, ignore_errors=True)


def _round(
    folder: pathlib.Path,
    rows: list[Row],
    number: int,
    batch: int,
    do: Callable[[list[Row]], str],
    *,
    share: Share,
    tell: Callable[[int], None],
) -> Records | None:
    """Records of a round's rows: those that the run has, and the others, drawn now.

    None where this process has done its share and others have not done theirs.
    """
    had = _of_other_batches(folder, units_of(rows, batch, number))
    units = units_of([row for row in rows if key(*row) not in had], batch, number)
    before = len(rows) - sum(map(len, units.values()))
    if not work(units, folder, do, share=share, progress=lambda done: tell(before + done)):
        return None
    return had | {(r.prompt, r.seed): r for r in read_parts(folder, units)}


def _of_other_batches(folder: pathlib.Path, units: Collection[str]) -> Records:
    """Records of parts that are no units now: drawn in batches of another size; they count."""
    parts = sorted((folder / "parts").glob("*.jsonl"))
    return {(r.prompt, r.seed): r for part in parts if part.stem not in units for r in read(part)}


def cost(plan: GeneratorPlan) -> tuple[float, int]:
    """What a measurement will cost, from drawing and judging its first batch twice.

    Returns:
        seconds of the whole, and peak memory in bytes.
    """
    with tempfile.TemporaryDirectory() as answers:
        generator, judge = _load(plan, pathlib.Path(answers))
        rows = plan.rows[: plan.config.batch]
        return seconds_of(generator, judge, rows, plan.settings) * len(plan.rows), peak_memory()


def seconds_of(
    generator: Generator, judge: Judge, rows: list[Row], settings: dict[str, Any]
) -> float:
    """Seconds that drawing and judging an image takes, from doing so with some rows twice."""
    seconds = 0.0
    for _ in range(2):  # the first time is slower than all others
        started = time.perf_counter()
        for batch, images in draw(generator, rows):
            judged(batch, images, judge, settings["attributes"], "")
        seconds = time.perf_counter() - started
    return seconds / len(rows)


def _may_stop(found: list[Record], settings: dict[str, Any]) -> bool:
    """Whether every share of a prompt is known well enough from its records."""
    if not found or "until" not in settings:
        return False
    known = attributes_of(settings["attributes"])
    return all(
        enough(counts(found, attribute), **settings["until"]) for attribute in known.values()
    )


def _load(plan: GeneratorPlan, answers: pathlib.Path) -> tuple[Generator, Judge]:
    """The generator and the judge of a planned measurement."""
    generator = load_generator(
        plan.model,
        answers=answers,
        adapter=plan.adapters,
        settings=plan.settings["settings"],
    )
    return generator, load_judge(plan.judge, device=generator.device)
