"""The runs of a sweep -> its points, each against the model without adapters. No torch."""

import json
from collections.abc import Mapping
from typing import Any

from evenhand.core.adapters import strengths_in
from evenhand.core.records import Record, Run
from evenhand.reports.asked import Asked, asked_of, notes, unheard
from evenhand.reports.evidence import calls, evidence
from evenhand.reports.paired import change_that
from evenhand.reports.split import evenness, over_prompts
from evenhand.reports.sweep.models import Point, PointAttribute
from evenhand.reports.tally import Test, as_asked, keeps, nameable, saying
from evenhand.stats.moments import Moments
from evenhand.stats.roots import change_of_roots, root
from evenhand.stats.shares import Estimate
from evenhand.stats.squares import Form, squares


def level_of(points: int) -> float:
    """The level of each of so many intervals that hold together at 95 % (Bonferroni)."""
    return 1 - 0.05 / max(points, 1)


def points_of(runs: Mapping[str, Run], names: Mapping[str, str], level: float) -> list[Point]:
    """The points of runs of the same prompts and seeds.

    Args:
        runs: by folder; among them that of the model without adapters at each of the sampler's
            settings.
        names: of the adapters, by the digest of their weights.
        level: of every interval.
    """
    asked = asked_of(next(iter(runs.values()))[0]["settings"], *(rows for _, rows in runs.values()))
    alone = {
        _sampler(run): rows for run, rows in runs.values() if not strengths_in(run["settings"])
    }
    return [
        _point(folder, run, alone[_sampler(run[0])], asked, names, level)
        for folder, run in runs.items()
    ]


def notes_of(runs: Mapping[str, Run]) -> list[str]:
    """What a reader must know of the runs of a sweep: who corrects, how few concepts there are."""
    run, rows = next(iter(runs.values()))
    asked = asked_of(run["settings"], *(records for _, records in runs.values()))
    neutral = [r for r in rows if not r.states]
    cautions = [
        f"{name}: {sentence}"
        for name, one in asked.items()
        if neutral
        for sentence in one.cautions(evidence(neutral, calls(one.attribute)))
    ]
    return [*dict.fromkeys(cautions), *notes(run["settings"], asked), *unheard(rows, asked)]


def _sampler(run: dict[str, Any]) -> str:
    """The sampler's settings, as a key."""
    return json.dumps(run["settings"]["settings"], sort_keys=True)


def _point(
    folder: str,
    run: Run,
    alone: list[Record],
    asked: dict[str, Asked],
    names: Mapping[str, str],
    level: float,
) -> Point:
    """One point; `alone` are the records of the model without adapters, in the same order."""
    settings, rows = run[0]["settings"], run[1]
    loaded, concept = strengths_in(settings), settings.get("concept")
    before = alone if any(loaded.values()) else None
    named = nameable([r for r in rows if not r.states], concept)
    named_before = before and nameable([r for r in before if not r.states], concept)
    fidelity, change = _share(named, named_before, as_asked(concept), level)
    return Point(
        strengths={name: loaded.get(digest, 0.0) for digest, name in names.items()},
        guidance_scale=settings["settings"].get("guidance_scale"),
        num_inference_steps=settings["settings"].get("num_inference_steps"),
        folder=folder,
        images=len(rows),
        attributes={name: _attribute(rows, before, one, level) for name, one in asked.items()},
        concept=fidelity,
        concept_change=change,
    )


def _attribute(
    rows: list[Record], before: list[Record] | None, asked: Asked, level: float
) -> PointAttribute:
    """One attribute at a point, and against the model without adapters."""
    name, (even, among) = asked.attribute.name, evenness(asked)
    gap, gap_change = _root(rows, before, asked, even, among, level)
    distance = distance_change = None
    neutral = [r for r in rows if not r.states]
    if asked.wish and neutral:
        target = asked.wish.form(evidence(neutral, calls(asked.attribute)).concepts)
        distance, distance_change = _root(rows, before, asked, target, None, level)
    said = (saying(rows, asked.attribute), before and saying(before, asked.attribute))
    explicit, explicit_change = _share(*said, keeps(name), level)
    return PointAttribute(
        gap=gap,
        gap_change=gap_change,
        distance=distance,
        distance_change=distance_change,
        explicit=explicit,
        explicit_change=explicit_change,
    )


def _root(
    rows: list[Record],
    before: list[Record] | None,
    asked: Asked,
    form: Form,
    among: list[int] | None,
    level: float,
) -> tuple[Estimate, Estimate | None]:
    """Root mean square over the prompts that say no class, and its change."""
    if not any(not r.states for r in rows):
        return Estimate(None, None, None, 0, level), None
    known = asked.confusion
    answers, inside = (asked.answers, among) if known else (calls(asked.attribute, among), None)

    def moments(records: list[Record]) -> Moments:
        return evidence([r for r in records if not r.states], answers).found

    now = moments(rows)
    value = root(squares(now, form, known, inside), level)
    change = change_of_roots(moments(before), now, form, known, inside, level) if before else None
    return value, change


def _share(
    rows: list[Record], before: list[Record] | None, test: Test, level: float
) -> tuple[Estimate | None, Estimate | None]:
    """The share of images that pass a test, and its change; None of no images."""
    if not rows:
        return None, None
    change = change_that(before, rows, test, level=level) if before else None
    return over_prompts(rows, test, level=level), change
