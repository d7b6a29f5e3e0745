"""Two runs on the same seeds -> what changed. No torch."""

import dataclasses
import operator
import os
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.records import Record, Run, key, read_run
from evenhand.core.settings import flat
from evenhand.reports.asked import asked_of, rule_of
from evenhand.reports.changes import Change, Closeness, Comparison
from evenhand.reports.judges import agreement_of, judges_of
from evenhand.reports.models import Report, RunInfo
from evenhand.reports.paired import attribute_change, change_that
from evenhand.reports.report import build
from evenhand.reports.tally import as_asked, nameable, once, splits_of

DESCRIBED = ("concept", "family", "split")  # what a run says of an image's prompt


def compare(
    before: str | os.PathLike,
    after: str | os.PathLike,
    read: tuple[Run, Run] | None = None,
    closeness: dict[str, Closeness] | None = None,
) -> Comparison:
    """The reports of two runs, and the differences on the images (prompt, seed) of both.

    What the runs say differently of an image is taken from the second: split, family, concept, and
    the target. Images of which one run says that their prompt asks for a class and the other does
    not are left out. The change's notes say so.

    Args:
        before: run directory.
        after: another.
        read: what `read_run` returned of both, where that is there already.
        closeness: of the images, by kind of features.

    Raises:
        UserError: they share no image, or different images had different judges, or an attribute
            has other classes in one than in the other.
    """
    (run_a, rows_a), (run_b, rows_b) = read or (read_run(before), read_run(after))
    judges = judges_of(run_a["settings"], run_b["settings"], f"{before} and {after}")
    a, b, notes = _shared(rows_a, rows_b)
    if not b:
        raise UserError(
            f"{before} and {after} share no image (same prompt and seed): measure both with the "
            f"same prompts and --seed{''.join(f'. {note}' for note in notes)}"
        )
    target = run_b["settings"].get("target") or {}
    if (run_a["settings"].get("target") or {}) != target:
        notes.append("The target is that of the second run; the first had another or none.")
    report_a = build(({**run_a, "settings": {**run_a["settings"], "target": target}}, a))
    report_a = report_a.model_copy(update={"run": RunInfo.model_validate(run_a)})
    report_b = build((run_b, b))
    # two judges err in two ways: what lies between them is of what they called, not corrected
    corrects = {"calibration": None} if judges else {}
    known = asked_of({**run_b["settings"], **corrects}, a, b)
    # two judges may know different attributes; an intersection may be of one run only
    both = [name for name in report_b.attributes if name in report_a.attributes]
    concept = run_b["settings"].get("concept")
    named_a, named_b = (splits_of(nameable(rows, concept)) for rows in (a, b))
    return Comparison(
        before=_only(report_a, both),
        after=_only(report_b, both),
        change=Change(
            images=len(b),
            notes=[*notes, *_otherwise(run_a["settings"], run_b["settings"])],
            agreement={n: agreement_of(a, b, known[n].attribute, judges) for n in both if judges},
            attributes={n: attribute_change(a, b, known[n]) for n in both},
            concept_fidelity={
                s: change_that(named_a[s], rows, as_asked(concept), rule_of(known))
                for s, rows in named_b.items()
                if s in named_a
            },
            closeness=closeness or {},
        ),
    )


def _only(report: Report, attributes: list[str]) -> Report:
    """The report of some attributes."""
    kept = {name: report.attributes[name] for name in attributes}
    return report.model_copy(update={"attributes": kept})


def _shared(
    before: list[Record], after: list[Record]
) -> tuple[list[Record], list[Record], list[str]]:
    """The records of the images of both runs, in the second's order; and what was left out.

    The first run's say of their prompts what the second's do.
    """
    rows_a, rows_b = ({key(r, r.seed): r for r in once(rows)} for rows in (before, after))
    both = [k for k in rows_b if k in rows_a]
    kept = [k for k in both if rows_a[k].states == rows_b[k].states]
    notes = []
    alone = (len(rows_a) - len(both), len(rows_b) - len(both))
    if any(alone):
        notes.append(
            f"Left out: {alone[0]} images of the first run and {alone[1]} of the second that the "
            "other has not (same prompt and seed)."
        )
    if len(kept) < len(both):
        notes.append(
            f"Left out: {len(both) - len(kept)} images whose prompt says another class in one run "
            "than in the other (states)."
        )
    described = operator.attrgetter(*DESCRIBED)
    for what in DESCRIBED:
        other = [k for k in kept if getattr(rows_a[k], what) != getattr(rows_b[k], what)]
        if other:
            notes.append(
                f"{len({prompt for prompt, _ in other})} prompts have another {what} in the first "
                f"run, such as {getattr(rows_a[other[0]], what)!r} for "
                f"{getattr(rows_b[other[0]], what)!r}: that of the second is taken for both."
            )
    for k in kept:
        if described(rows_a[k]) != described(rows_b[k]):
            said = dict(zip(DESCRIBED, described(rows_b[k]), strict=True))
            rows_a[k] = dataclasses.replace(rows_a[k], **said)
    return [rows_a[k] for k in kept], [rows_b[k] for k in kept], notes


def _otherwise(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Says in what the images were drawn otherwise than by the adapter."""
    old, new = (
        flat({name: settings.get(name) for name in ("model", "dtype", "settings")})
        for settings in (a, b)
    )
    differing = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    return [f"The change is not the adapter's alone: {'; '.join(differing)}."] if differing else []
