"""Counts -> numbers: what a run of `evenhand measure` says. No torch.

A report is a plain dictionary, written as `report.json`; `evenhand.reports.html` makes the HTML of
it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from evenhand.core.attributes import Attribute
from evenhand.core.records import Record, Run
from evenhand.reports.asked import Asked, asked_of, notes, rounded
from evenhand.reports.tally import (
    Test,
    as_asked,
    by_concept,
    by_prompt,
    counts,
    gap_of,
    keeps,
    nameable,
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


def build(read: Run, only: set[tuple[str, int]] | None = None) -> dict[str, Any]:
    """The report of one run, from its files alone.

    Args:
        read: the run's settings and records, as `read_run` returns them.
        only: (prompt, seed) of the images that count; all when None.

    Returns:
        what `report.json` holds. An estimate is `{value, low, high, n, level}`; numbers that cannot
        be had are null.

        - `run`: `settings` (everything the result depends on, the judge's calibration included) and
          `versions`;
        - `images`; `notes`, sentences on what was left out and the calibration; `stopping` of a run
          with `until`: half the `width` asked for, the `widest` share's, images `drawn` and
          `planned`, share `saved`;
        - `attributes`, by name: `classes`, `contrast`, `parts`, `target`, `calibrated` (the judge's
          accuracy in its calibration),
          - `splits`, by name: `prompts` and `images` (counts), estimates `gap`,
            `gap_without_chance`, `unseen`, `distance`, `discrepancy`, by class `shares` and
            `corrected`; the numbers `gap_floor`, `gap_worst` (worst tenth), `distance_floor`;
          - `prompts`, a list: `prompt`, `concept`, `split`, `images`, `seen`, by class `shares` and
            `corrected`, the numbers `gap`, `gap_floor`, `distance`, `discrepancy`;
          - `explicit`: of prompts that say a class, how many images keep it: `all` and, by class,
            `classes`;
        - `concept_fidelity`, by split: images whose concept is perceived as the prompt's;
        - `flagged`, by split: images at which the model's safety checker takes offence, where it
          has one.
    """
    run, records = read
    records = [r for r in records if only is None or (r.prompt, r.seed) in only]
    settings = run["settings"]
    neutral, splits = [r for r in records if not r.states], splits_of(records)
    report: dict[str, Any] = {
        "run": run,
        "images": len(records),
        "notes": notes(settings),
        "attributes": {},
        "stopping": _saved(settings, neutral),
    }
    for name, asked in asked_of(settings).items():
        attribute = asked.attribute
        report["attributes"][name] = {
            "classes": attribute.classes,
            "contrast": attribute.contrast or attribute.classes,
            "parts": attribute.parts,
            "target": asked.wished,
            "calibrated": asked.accuracy,
            "splits": {s: _summary(rows, asked) for s, rows in splits.items()},
            "prompts": [_prompt(rows, asked) for rows in by_prompt(neutral).values()],
            "explicit": _explicit(records, attribute),
        }
    concept = settings.get("concept")
    report["concept_fidelity"] = {
        s: _over_prompts(rows, as_asked(concept)).as_dict()
        for s, rows in splits_of(nameable(records, concept)).items()
    }
    shown = {**splits, "explicit prompts": [r for r in records if r.states]}
    report["flagged"] = {
        s: _over_prompts(rows, lambda r: bool(r.flagged)).as_dict()
        for s, rows in shown.items()
        if rows and all(r.flagged is not None for r in rows)
    }
    return report


def _saved(settings: dict[str, Any], neutral: list[Record]) -> dict[str, Any] | None:
    """Of a run whose prompts stop when they are known well enough.

    Images drawn, and planned without looking.
    """
    if not settings.get("until"):
        return None
    prompts = by_prompt(neutral).values()
    planned = images_for(settings["until"]["width"]) * len(prompts)
    known = [
        a.share(int(k), int(found.sum()))
        for a in asked_of(settings).values()
        if not a.attribute.parts
        for rows in prompts
        if (found := counts(rows, a.attribute)).sum()
        for k in found
    ]
    widest = max(
        (((e.high or 0.0) - (e.low or 0.0)) / 2 for e in known), default=0.5
    )  # nothing seen: nothing known
    return {
        "width": settings["until"]["width"],
        "widest": rounded(widest),
        "drawn": len(neutral),
        "planned": planned,
        "saved": rounded(1 - len(neutral) / planned) if planned else None,
    }


def _without_chance(found: np.ndarray, attribute: Attribute) -> float:
    """Gap less what chance is expected to add; NaN where no contrasted class was perceived."""
    return gap_of(found, attribute) - gap_bias(tuple(found[attribute.contrasted].tolist()))


def _prompt(rows: list[Record], asked: Asked) -> dict[str, Any]:
    """One prompt in detail."""
    attribute, wished = asked.attribute, asked.wished
    found = counts(rows, attribute)
    n, part = int(found.sum()), int(found[attribute.contrasted].sum())
    return {
        "prompt": rows[0].prompt,
        "concept": rows[0].concept,
        "split": rows[0].split,
        "images": len(rows),
        "seen": n,
        "shares": {
            c: asked.share(int(k), n).as_dict()
            for c, k in zip(attribute.classes, found, strict=True)
        },
        "corrected": asked.corrected([rows]),
        "gap": rounded(gap_of(found, attribute)),
        "gap_floor": rounded(gap_floor(len(attribute.contrasted), part)),
        "distance": rounded(float(total_variation(shares(found), wished)))
        if wished and n
        else None,
        "discrepancy": rounded(float(fairness_discrepancy(found, wished)))
        if wished and n
        else None,
    }


def _summary(rows: list[Record], asked: Asked) -> dict[str, Any]:
    """All prompts of a split.

    Means over prompts with intervals for prompts like these, wordings of a concept counted as one.
    """
    attribute, wished = asked.attribute, asked.wished
    groups = [counts(g, attribute) for g in by_prompt(rows).values()]
    concepts = by_concept(rows)
    seen, told = (
        [n for g in groups if (n := int(g.sum()))],
        [int(g[attribute.contrasted].sum()) for g in groups],
    )
    floors = [gap_floor(len(attribute.contrasted), n) for n in told]

    def over(statistic: Callable[[np.ndarray], float], most: float) -> dict[str, Any]:
        found = over_concepts(
            rows, lambda g: statistic(c) if (c := counts(g, attribute)).sum() else float("nan")
        )
        return mean_over_prompts(found, within=(0, most), images=sum(told)).as_dict()

    largest = 2 / len(attribute.contrasted)  # the gap where one class is all there is
    result: dict[str, Any] = {
        "prompts": len(groups),
        "images": len(rows),
        "unseen": _over_prompts(rows, lambda r: not r.seen).as_dict(),
        "gap": over(lambda g: gap_of(g, attribute), largest),
        "gap_without_chance": over(lambda g: _without_chance(g, attribute), largest),
        "gap_floor": rounded(float(np.mean(floors))),
        "gap_worst": _worst([gap_of(g, attribute) for g in groups]),
        "shares": {
            c: e.as_dict()
            for c, e in zip(
                attribute.classes,
                shares_over_prompts([counts(g, attribute) for g in concepts]),
                strict=True,
            )
        },
        "corrected": asked.corrected(concepts) if seen else None,
        "distance": None,
        "distance_floor": None,
        "discrepancy": None,
    }
    if wished and seen:
        result["distance"] = over(lambda g: float(total_variation(shares(g), wished)), 1.0)
        result["distance_floor"] = rounded(distance_floor(wished, int(np.mean(seen))))
        result["discrepancy"] = over(lambda g: float(fairness_discrepancy(g, wished)), 2**0.5)
    return result


def _worst(gaps: list[float]) -> float | None:
    """Mean of the largest tenth; None of fewer than ten."""
    known = sorted((g for g in gaps if not np.isnan(g)), reverse=True)
    return rounded(float(np.mean(known[: -(-len(known) // 10)]))) if len(known) >= 10 else None


def _explicit(records: list[Record], attribute: Attribute) -> dict[str, Any] | None:
    """Of prompts that say a class: how many images are perceived as it.

    None without such prompts.
    """
    asked, kept = saying(records, attribute), keeps(attribute.name)
    if not asked:
        return None
    rows = {c: [r for r in asked if r.states[attribute.name] == c] for c in attribute.classes}
    return {
        "all": _over_prompts(asked, kept).as_dict(),
        "classes": {c: _over_prompts(group, kept).as_dict() for c, group in rows.items()},
    }


def _over_prompts(rows: list[Record], test: Test) -> Estimate:
    """The share of images that pass a test, for prompts like these."""
    passed = [(sum(map(test, group)), len(group)) for group in by_concept(rows)]
    return shares_over_prompts([(k, n - k) for k, n in passed] or [(0, 0)])[0]
