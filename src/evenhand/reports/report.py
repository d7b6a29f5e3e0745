"""Counts -> numbers: what a run of `evenhand measure` says. No torch.

`evenhand.reports.html` writes it as `report.json` and as a page.
"""

from typing import Any

from evenhand.core.attributes import Attribute
from evenhand.core.records import Record, Run
from evenhand.reports.asked import Asked, asked_of, notes, rule_of, unheard
from evenhand.reports.models import (
    AttributeReport,
    ExplicitReport,
    PromptReport,
    Report,
    RunInfo,
    Stopping,
    TargetTable,
)
from evenhand.reports.split import over_prompts, split_report
from evenhand.reports.tally import (
    as_asked,
    by_prompt,
    counts,
    gap_of,
    keeps,
    nameable,
    once,
    saying,
    splits_of,
)
from evenhand.stats.floors import gap_floor
from evenhand.stats.shares import Estimate, fairness_discrepancy, shares, total_variation
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
        concept_fidelity={
            s: over_prompts(rows, as_asked(concept), rule_of(asked)) for s, rows in named.items()
        },
        flagged=_flagged({**splits, "explicit prompts": [r for r in records if r.states]}),
    )


def _attribute(
    records: list[Record], splits: dict[str, list[Record]], asked: Asked
) -> AttributeReport:
    """One attribute in all records; `splits` are the neutral ones."""
    attribute = asked.attribute
    neutral = [r for r in records if not r.states]
    tables = asked.wish.tables if asked.wish else []
    return AttributeReport(
        classes=attribute.classes,
        contrast=attribute.contrast or attribute.classes,
        parts=attribute.parts,
        target=asked.wish.same if asked.wish else None,
        target_tables=[TargetTable.of(table) for table in tables],
        calibrated=asked.accuracy,
        fit=asked.fit,
        splits={s: split_report(rows, asked) for s, rows in splits.items()},
        prompts=[_prompt(rows, asked) for rows in by_prompt(neutral).values()],
        explicit=_explicit(records, attribute),
    )


def _flagged(groups: dict[str, list[Record]]) -> dict[str, Estimate]:
    """Share of images at which the safety checker takes offence, of groups in which it looked."""
    return {
        name: over_prompts(rows, lambda r: bool(r.flagged))
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


def _prompt(rows: list[Record], asked: Asked) -> PromptReport:
    """One prompt in detail."""
    attribute, wish = asked.attribute, asked.wish
    found = counts(rows, attribute)
    seen, contrasted = int(found.sum()), int(found[attribute.contrasted].sum())
    wished = wish.of(rows[0].concept) if wish else None
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
        corrected=asked.corrected(rows),
        gap=gap_of(found, attribute) if contrasted else None,
        gap_floor=gap_floor(len(attribute.contrasted), contrasted) if contrasted else None,
        distance=float(total_variation(shares(found), on_target)) if on_target else None,
        discrepancy=float(fairness_discrepancy(found, on_target)) if on_target else None,
        target=wished if wish and wish.tables else None,
    )


def _explicit(records: list[Record], attribute: Attribute) -> ExplicitReport | None:
    """Of prompts that say a class: how many images are perceived as it.

    None without such prompts.
    """
    asked, kept = saying(records, attribute), keeps(attribute.name)
    if not asked:
        return None
    rows = {c: [r for r in asked if r.states[attribute.name] == c] for c in attribute.classes}
    return ExplicitReport(
        all=over_prompts(asked, kept),
        classes={c: over_prompts(group, kept) for c, group in rows.items()},
    )
