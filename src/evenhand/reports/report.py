"""Counts -> numbers: what a run of `evenhand measure` says. No torch.

`evenhand.reports.html` writes it as `report.json` and as a page.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from evenhand.core.attributes import Attribute
from evenhand.core.records import Record, Run
from evenhand.reports.asked import Asked, asked_of, notes, unheard
from evenhand.reports.models import (
    AttributeReport,
    ExplicitReport,
    PromptReport,
    Report,
    RunInfo,
    SplitReport,
    Stopping,
)
from evenhand.reports.tally import (
    Test,
    as_asked,
    by_concept,
    by_prompt,
    counts,
    gap_of,
    keeps,
    nameable,
    once,
    over_concepts,
    saying,
    splits_of,
)
from evenhand.stats.shares import (
    Estimate,
    distance_floor,
    fairness_discrepancy,
    gap_bias,
    gap_floor,
    mean_over_prompts,
    shares,
    shares_over_prompts,
    total_variation,
)
from evenhand.stats.stopping import images_for


def build(read: Run) -> Report:
    """The report of one run, from its files alone.

    Args:
        read: the run's settings and records, as `read_run` returns them.

    Raises:
        UserError: one image has two different records.
    """
    run, records = read
    records, settings = once(records), run["settings"]
    asked, concept = asked_of(settings, records), settings.get("concept")
    neutral, splits = [r for r in records if not r.states], splits_of(records)
    named = splits_of(nameable(records, concept))
    return Report(
        run=RunInfo.model_validate(run),
        images=len(records),
        notes=[*notes(settings, asked), *unheard(records, asked)],
        attributes={name: _attribute(records, splits, one) for name, one in asked.items()},
        stopping=_saved(settings, neutral, asked),
        concept_fidelity={s: _over_prompts(rows, as_asked(concept)) for s, rows in named.items()},
        flagged=_flagged({**splits, "explicit prompts": [r for r in records if r.states]}),
    )


def _attribute(
    records: list[Record], splits: dict[str, list[Record]], asked: Asked
) -> AttributeReport:
    """One attribute in all records; `splits` are the neutral ones."""
    attribute = asked.attribute
    neutral = [r for r in records if not r.states]
    return AttributeReport(
        classes=attribute.classes,
        contrast=attribute.contrast or attribute.classes,
        parts=attribute.parts,
        target=asked.wished,
        calibrated=asked.accuracy,
        fit=asked.fit,
        splits={s: _split(rows, asked) for s, rows in splits.items()},
        prompts=[_prompt(rows, asked) for rows in by_prompt(neutral).values()],
        explicit=_explicit(records, attribute),
    )


def _flagged(groups: dict[str, list[Record]]) -> dict[str, Estimate]:
    """Share of images at which the safety checker takes offence, of groups in which it looked."""
    return {
        name: _over_prompts(rows, lambda r: bool(r.flagged))
        for name, rows in groups.items()
        if rows and all(r.flagged is not None for r in rows)
    }


def _saved(
    settings: dict[str, Any], neutral: list[Record], asked: dict[str, Asked]
) -> Stopping | None:
    """Images drawn by a run with `until`, and planned without it; None for other runs."""
    if not settings.get("until"):
        return None
    prompts = by_prompt(neutral).values()
    planned = images_for(settings["until"]["width"]) * len(prompts)
    known = [
        a.share(int(k), int(found.sum()))
        for a in asked.values()
        if not a.attribute.parts
        for rows in prompts
        if (found := counts(rows, a.attribute)).sum()
        for k in found
    ]
    widths = [((e.high or 0.0) - (e.low or 0.0)) / 2 for e in known]
    return Stopping(
        width=settings["until"]["width"],
        widest=max(widths, default=0.5),  # nothing seen: nothing known
        drawn=len(neutral),
        planned=planned,
        saved=1 - len(neutral) / planned if planned else None,
    )


def _without_chance(found: np.ndarray, attribute: Attribute) -> float:
    """Gap less what chance is expected to add; NaN where no contrasted class was perceived."""
    return gap_of(found, attribute) - gap_bias(tuple(found[attribute.contrasted].tolist()))


def _prompt(rows: list[Record], asked: Asked) -> PromptReport:
    """One prompt in detail."""
    attribute, wished = asked.attribute, asked.wished
    found = counts(rows, attribute)
    seen, contrasted = int(found.sum()), int(found[attribute.contrasted].sum())
    on_target = wished if seen else None
    return PromptReport(
        prompt=rows[0].prompt,
        concept=rows[0].concept,
        split=rows[0].split,
        images=len(rows),
        seen=seen,
        shares={
            c: asked.share(int(k), seen) for c, k in zip(attribute.classes, found, strict=True)
        },
        corrected=asked.corrected([rows]),
        gap=gap_of(found, attribute) if contrasted else None,
        gap_floor=gap_floor(len(attribute.contrasted), contrasted),
        distance=float(total_variation(shares(found), on_target)) if on_target else None,
        discrepancy=float(fairness_discrepancy(found, on_target)) if on_target else None,
    )


def _split(rows: list[Record], asked: Asked) -> SplitReport:
    """All prompts of a split.

    Means over prompts with intervals for prompts like these, wordings of a concept counted as one.
    """
    attribute, wished = asked.attribute, asked.wished
    groups = [counts(g, attribute) for g in by_prompt(rows).values()]
    concepts = by_concept(rows)
    images_seen = [n for g in groups if (n := int(g.sum()))]
    contrasted = [int(g[attribute.contrasted].sum()) for g in groups]

    def over(statistic: Callable[[np.ndarray], float], most: float) -> Estimate:
        found = over_concepts(
            rows, lambda g: statistic(c) if (c := counts(g, attribute)).sum() else float("nan")
        )
        return mean_over_prompts(found, within=(0, most), images=sum(contrasted))

    largest = 2 / len(attribute.contrasted)  # the gap where one class is all there is
    found = shares_over_prompts([counts(g, attribute) for g in concepts])
    target = wished if images_seen else None
    return SplitReport(
        prompts=len(groups),
        images=len(rows),
        unseen=_over_prompts(rows, lambda r: not r.seen),
        gap=over(lambda g: gap_of(g, attribute), largest),
        gap_without_chance=over(lambda g: _without_chance(g, attribute), largest),
        gap_floor=float(np.mean([gap_floor(len(attribute.contrasted), n) for n in contrasted])),
        gap_worst=_worst([gap_of(g, attribute) for g in groups]),
        shares=dict(zip(attribute.classes, found, strict=True)),
        corrected=asked.corrected(concepts) if images_seen else None,
        distance=over(lambda g: float(total_variation(shares(g), target)), 1.0) if target else None,
        distance_floor=distance_floor(target, int(np.mean(images_seen))) if target else None,
        discrepancy=over(lambda g: float(fairness_discrepancy(g, target)), 2**0.5)
        if target
        else None,
    )


def _worst(gaps: list[float]) -> float | None:
    """Mean of the largest tenth; None of fewer than ten."""
    known = sorted((g for g in gaps if not np.isnan(g)), reverse=True)
    return float(np.mean(known[: -(-len(known) // 10)])) if len(known) >= 10 else None


def _explicit(records: list[Record], attribute: Attribute) -> ExplicitReport | None:
    """Of prompts that say a class: how many images are perceived as it.

    None without such prompts.
    """
    asked, kept = saying(records, attribute), keeps(attribute.name)
    if not asked:
        return None
    rows = {c: [r for r in asked if r.states[attribute.name] == c] for c in attribute.classes}
    return ExplicitReport(
        all=_over_prompts(asked, kept),
        classes={c: _over_prompts(group, kept) for c, group in rows.items()},
    )


def _over_prompts(rows: list[Record], test: Test) -> Estimate:
    """The share of images that pass a test, for prompts like these."""
    passed = [(sum(map(test, group)), len(group)) for group in by_concept(rows)]
    return shares_over_prompts([(k, n - k) for k, n in passed] or [(0, 0)])[0]
