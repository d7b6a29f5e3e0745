"""Two runs on the same seeds -> what changed. No torch."""

import os
from collections.abc import Callable
from typing import Any

from evenhand.core.attributes import Attribute
from evenhand.core.errors import UserError
from evenhand.core.records import Record, Run, read_run
from evenhand.core.schema import flat
from evenhand.reports.asked import asked_of
from evenhand.reports.report import build
from evenhand.reports.tally import (
    Test,
    as_asked,
    by_prompt,
    counts,
    gap_of,
    keeps,
    nameable,
    over_concepts,
    saying,
    splits_of,
)
from evenhand.stats.shares import Estimate, mean_over_prompts, shares, total_variation


def compare(
    before: str | os.PathLike, after: str | os.PathLike, read: tuple[Run, Run] | None = None
) -> dict[str, Any]:
    """The reports of two runs, and the differences on the images (prompt, seed) of both.

    Args:
        before: run directory.
        after: another.
        read: what `read_run` returned of both, where that is there already.

    Returns:
        `before`, `after` (as `build`) and `change`: for each attribute and split the paired
        difference of gap and target distance; of concept and explicit-prompt fidelity; `notes` on
        what else was another. Differences are after minus before, for prompts like these.

    Raises:
        UserError: they share no image, or had different judges or attributes.
    """
    (run_a, a), (run_b, b) = read or (read_run(before), read_run(after))
    for what in ("judge", "attributes"):
        if run_a["settings"][what] != run_b["settings"][what]:
            raise UserError(
                f"{before} and {after} cannot be compared: {what} differ; measure one of them anew"
            )
    common = {(r.prompt, r.seed) for r in a} & {(r.prompt, r.seed) for r in b}
    if not common:
        raise UserError(
            f"{before} and {after} share no image (same prompt and seed): measure both with the "
            "same prompts "
            "and --seed"
        )
    before_all, after_all = a, b
    a = sorted((r for r in a if (r.prompt, r.seed) in common), key=lambda r: (r.prompt, r.seed))
    b = sorted((r for r in b if (r.prompt, r.seed) in common), key=lambda r: (r.prompt, r.seed))
    reports = {
        "before": build((run_a, before_all), common),
        "after": build((run_b, after_all), common),
    }
    for report in reports.values():  # an intersection may have been asked for in one run only
        both = set.intersection(*(set(r["attributes"]) for r in reports.values()))
        report["attributes"] = {a: e for a, e in report["attributes"].items() if a in both}
    change: dict[str, Any] = {
        "images": len(common),
        "notes": _otherwise(run_a["settings"], run_b["settings"]),
        "attributes": {},
    }
    for name, entry in reports["after"]["attributes"].items():
        attribute = asked_of(run_b["settings"])[name].attribute
        change["attributes"][name] = {
            "explicit": _paired(
                saying(a, attribute), saying(b, attribute), _share_that(keeps(name))
            ).as_dict(),
            "splits": {
                s: _paired_summary(splits_of(a)[s], splits_of(b)[s], attribute, entry["target"])
                for s in entry["splits"]
            },
        }
    concept = run_b["settings"].get("concept")
    named_a, named_b = (splits_of(nameable(rows, concept)) for rows in (a, b))
    change["concept_fidelity"] = {
        s: _paired(named_a[s], named_b[s], _share_that(as_asked(concept))).as_dict()
        for s in reports["after"]["concept_fidelity"]
    }
    return {**reports, "change": change}


def _otherwise(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Says in what the images were drawn otherwise than by the adapter."""
    old, new = (
        flat({key: settings.get(key) for key in ("model", "dtype", "settings")})
        for settings in (a, b)
    )
    differing = [
        f"{key} was {old.get(key)} and is {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return [f"The change is not the adapter's alone: {'; '.join(differing)}."] if differing else []


def _share_that(test: Test) -> Callable[[list[Record]], float]:
    """The statistic "share of images that pass the test"."""
    return lambda rows: sum(map(test, rows)) / len(rows)


def _paired(
    a: list[Record], b: list[Record], statistic: Callable[[list[Record]], float]
) -> Estimate:
    """Mean over prompts of a statistic's difference on the same images, after minus before."""
    before = by_prompt(a)
    return mean_over_prompts(
        over_concepts(b, lambda rows: statistic(rows) - statistic(before[rows[0].prompt])),
        within=(-1, 1),
    )


def _paired_summary(
    a: list[Record], b: list[Record], attribute: Attribute, wished: list[float] | None
) -> dict[str, Any]:
    def distance(rows: list[Record]) -> float:
        found = counts(rows, attribute)
        return (
            float(total_variation(shares(found), wished))
            if wished and found.sum()
            else float("nan")
        )

    return {
        "gap": _paired(a, b, lambda rows: gap_of(counts(rows, attribute), attribute)).as_dict(),
        "distance": _paired(a, b, distance).as_dict() if wished else None,
    }
