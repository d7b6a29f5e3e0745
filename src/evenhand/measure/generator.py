"""Measuring a generator: prompts x seeds -> images -> perceived classes -> records and a report."""

import os
import pathlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

from evenhand.core.attributes import attributes_of
from evenhand.core.errors import UserError
from evenhand.core.prompts import Row
from evenhand.core.records import Record, key, lines_of, read, read_parts, write_records
from evenhand.core.work import Share, work
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.diffusion.sampling import draw
from evenhand.diffusion.tokens import cut_short
from evenhand.judges.base import Judge
from evenhand.judges.perceive import judged, save_images, with_digest
from evenhand.judges.registry import load_judge
from evenhand.measure.plan import GeneratorPlan
from evenhand.measure.rows import units_of
from evenhand.reports.html import write_report
from evenhand.reports.models import Report
from evenhand.reports.tally import counts
from evenhand.stats.stopping import enough
from evenhand.training.run_directory import check_run, claim_run, peak_memory

FREE = ("batch",)  # only cuts the work up
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
    diffusion, judge = _load(plan)
    trained = _trained(plan, judge, judge_may_be_trainer)
    cut = cut_short(diffusion, (p.text for p, _ in plan.rows))
    settings = {
        **with_digest(plan.settings, judge),
        **trained,
        **({"cut": cut} if cut else {}),
        "source": diffusion.source,
    }
    folder = check_run(folder, settings, free=FREE)

    def do(rows: list[Row]) -> str:
        ((_, images),) = draw(diffusion, rows)
        flagged = diffusion.safety(images) if diffusion.safety else None
        records = judged(
            rows, images, judge, settings["attributes"], diffusion.source, flagged=flagged
        )
        claim_run(folder, settings, free=FREE)
        save_images(images, [folder / r.image for r in records])
        return lines_of(records)

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
            records[key(prompt, seed)] = drawn[key(prompt, seed)]
            of_prompt[prompt.text].append(drawn[key(prompt, seed)])
    write_records(folder, [records[key(*row)] for row in plan.rows if key(*row) in records])
    return (
        write_report(folder, pictures=pictures, accept=plan.config.accept)
        if share.only or share.rank == 0
        else None
    )


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
    diffusion, judge = _load(plan)
    rows, seconds = plan.rows[: plan.config.batch], 0.0
    for _ in range(2):  # the first time is slower than all others
        started = time.perf_counter()
        for batch, images in draw(diffusion, rows):
            judged(batch, images, judge, plan.settings["attributes"], "")
        seconds = time.perf_counter() - started
    return seconds * len(plan.rows) / len(rows), peak_memory()


def _may_stop(found: list[Record], settings: dict[str, Any]) -> bool:
    """Whether every share of a prompt is known well enough from its records."""
    if not found or "until" not in settings:
        return False
    known = attributes_of(settings["attributes"])
    return all(
        enough(counts(found, attribute), **settings["until"]) for attribute in known.values()
    )


def _trained(plan: GeneratorPlan, judge: Judge, allowed: bool) -> dict[str, bool]:
    """What the run's settings say where the judge trained the adapter; nothing where it did not.

    Raises:
        UserError: it did, and that was not allowed.
    """
    trainer = (plan.adapter.described.get("classifier") or {}) if plan.adapter else {}
    if not plan.adapter or trainer.get("digest") != judge.digest:
        return {}
    if not allowed:
        raise UserError(
            f"judge {judge.name!r} trained the adapter {plan.adapter.name!r}: its numbers would "
            "flatter. Name another "
            "with --judge, or insist with --judge-may-be-trainer"
        )
    return {"judge_is_trainer": True}


def _load(plan: GeneratorPlan) -> tuple[Diffusion, Judge]:
    """The generator and the judge of a planned measurement."""
    diffusion = load_diffusion(
        plan.model,
        adapter=plan.adapter,
        adapter_scale=plan.config.adapter_scale,
        settings=plan.settings["settings"],
    )
    return diffusion, load_judge(plan.judge, device=diffusion.pipe.device)
