"""The lines of a summary: what a table on the terminal, a card and the page say first. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evenhand.reports.changes import Change, Closeness, SplitChange
from evenhand.reports.models import AttributeReport, Report, SplitReport
from evenhand.stats.shares import Estimate

Found = Estimate | float | None


@dataclass(frozen=True)
class Headline:
    """One line of a summary: what was found in each run, and what to hold it against."""

    subject: str
    what: str
    found: Sequence[Found]
    change: Estimate | None = None
    target: float | None = None
    floor: float | None = None


def number(found: Found) -> str:
    """`0.71 [0.68, 0.74]`, or a dash where there is no value."""
    if isinstance(found, Estimate):
        return str(found)
    return "–" if found is None else f"{found:.2f}"


def headlines(runs: list[Report], change: Change | None = None) -> list[Headline]:
    """The lines of a summary of one report, or of two (before, after) with their change."""
    lines, last = [], runs[-1]
    for name, entry in last.attributes.items():
        for split in entry.splits:
            lines += _of_split(runs, change, name, split)
        if entry.explicit:
            found = [r.attributes[name].explicit for r in runs]
            lines.append(
                Headline(
                    f"{name}, explicit prompts",
                    "keep the class they say",
                    [e.all if e else None for e in found],
                    change.attributes[name].explicit if change else None,
                )
            )
    lines += [
        Headline(
            last.run.settings["concept"],
            f"as asked, {split}",
            [r.concept_fidelity.get(split) for r in runs],
            change.concept_fidelity.get(split) if change else None,
        )
        for split in last.concept_fidelity
    ]
    lines += [
        Headline("safety checker", f"images flagged, {split}", [r.flagged.get(split) for r in runs])
        for split in last.flagged
    ]
    for kind, near in (change.closeness if change else {}).items():
        lines += _of_images(kind, near)
    return [*_of_judges(change), *lines] if change else lines


def labels_of(runs: list[Report], change: Change | None) -> list[str]:
    """What the runs of a summary are called: found; before and after; or by their judges."""
    if change and change.agreement:
        return list(next(iter(change.agreement.values())).judges)
    return ["before", "after"] if len(runs) > 1 else ["found"]


def number_of(n: int, what: str) -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def _of_judges(change: Change) -> Iterator[Headline]:
    """How far two judges of the same images agree."""
    for name, found in change.agreement.items():
        subject = f"{name}, {number_of(found.images, 'image')} that both judges saw"
        yield Headline(subject, "both say the same (share of images)", [None, None], found.same)
        yield Headline(
            subject, "Cohen's kappa (1: always, 0: by chance)", [None, None], found.kappa
        )


def _of_split(
    runs: list[Report], change: Change | None, name: str, split: str
) -> Iterator[Headline]:
    """The lines of one attribute in one split.

    Of several prompts the gap comes first, which sees that prompts lean to different sides; of one
    the shares say all.
    """
    found = [r.attributes[name].splits[split] for r in runs]
    subject = _subject(runs, name, split)
    entry, delta = runs[-1].attributes[name], change and change.attributes[name].splits[split]
    shares = list(_shares(entry, found, subject, delta))
    gaps = list(_gaps(subject, entry.among, found, delta))
    if all(f.distance for f in found):
        gaps += _distances(subject, found, delta)
    yield from shares + gaps if found[-1].prompts == 1 else gaps + shares
    yield Headline(subject, "not seen", [f.unseen for f in found])


def _shares(
    entry: AttributeReport, found: list[SplitReport], subject: str, delta: SplitChange | None
) -> Iterator[Headline]:
    """Shares, corrected ones first; these only where correcting changes something."""
    target = dict(zip(entry.classes, entry.target or [None] * len(entry.classes), strict=True))
    corrected = [f.corrected for f in found if f.corrected and _differs(f.shares, f.corrected)]
    if len(corrected) == len(found):
        for c in entry.classes:
            what, change = f"share {c}, corrected", delta and (delta.corrected or {}).get(c)
            yield Headline(subject, what, [e[c] for e in corrected], change, target[c])
    if not entry.parts:
        called = ", as called" if len(corrected) == len(found) else ""
        for c in entry.classes:
            change = delta and delta.shares.get(c)
            values = [f.shares[c] for f in found]
            yield Headline(subject, f"share {c}{called}", values, change, target[c])


def _gaps(
    subject: str, among: str, found: list[SplitReport], delta: SplitChange | None
) -> Iterator[Headline]:
    """The gap, corrected first where it is; then as found, beside what chance alone would give."""
    corrected = [f.corrected_gap for f in found if f.corrected_gap]
    if len(corrected) == len(found) and _any_differs([f.gap for f in found], corrected):
        change = delta.corrected_gap if delta else None
        yield Headline(subject, f"gap {among}, corrected", corrected, change)
    yield Headline(subject, f"gap {among}", [f.gap for f in found], delta.gap if delta else None)
    yield Headline(subject, "gap as found", [f.gap_found for f in found], floor=found[-1].gap_floor)
    if all(f.gap_worst is not None for f in found):
        yield Headline(
            subject,
            "gap as found, worst tenth of prompts",
            [f.gap_worst for f in found],
            floor=found[-1].gap_worst_floor,
        )


def _distances(
    subject: str, found: list[SplitReport], delta: SplitChange | None
) -> Iterator[Headline]:
    """The distance to the target, in the order of the gap."""
    raw = [f.distance for f in found if f.distance]
    corrected = [f.corrected_distance for f in found if f.corrected_distance]
    if len(corrected) == len(found) and _any_differs(raw, corrected):
        change = delta.corrected_distance if delta else None
        yield Headline(subject, "distance to target, corrected", corrected, change, target=0.0)
    yield Headline(
        subject, "distance to target", raw, delta.distance if delta else None, target=0.0
    )
    yield Headline(
        subject,
        "distance as found",
        [f.distance_found for f in found],
        floor=found[-1].distance_floor,
    )


def _of_images(kind: str, near: Closeness) -> Iterator[Headline]:
    """The lines of the images' comparison in one kind of features."""
    subject = f"images, in the features of {kind}"
    yield Headline(subject, "cosine to the same seed before", [None, near.same_seed])
    yield Headline(subject, "variety within a class", [near.diversity_before, near.diversity_after])
    if near.prompt_change:
        yield Headline(
            subject,
            "cosine to the prompt (CLIP-T)",
            [near.prompt_before, near.prompt_after],
            near.prompt_change,
        )
    if near.kid_after:
        yield Headline(
            subject,
            "kernel distance to the reference (KID x 1000; for these prompts)",
            [near.kid_before, near.kid_after],
        )
    if near.fid_after:
        yield Headline(
            subject,
            "Frechet distance to the reference (FID; from 2 images a feature on)",
            [near.fid_before, near.fid_after],
        )


def _differs(raw: dict[str, Estimate], corrected: dict[str, Estimate]) -> bool:
    """Whether correcting moves any share, or an end of its interval, by half a point or more."""
    return _any_differs([raw[c] for c in corrected], list(corrected.values()))


def _any_differs(raw: list[Estimate], corrected: list[Estimate]) -> bool:
    """Whether any number, or an end of its interval, differs by half a point or more."""
    pairs = [
        (getattr(a, what) or 0.0, getattr(b, what) or 0.0)
        for a, b in zip(raw, corrected, strict=True)
        for what in ("value", "low", "high")
    ]
    return any(abs(a - b) >= 0.005 for a, b in pairs)


def _subject(runs: list[Report], name: str, split: str) -> str:
    """What a line is about: the attribute, of how many images, and how often the judge is right."""
    last = runs[-1]
    entry, settings = last.attributes[name], last.run.settings
    part, by_name = entry.splits[split], settings.get("images_from") and not settings["prompts"]
    where = name if split == "all" and len(entry.splits) == 1 else f"{name}, {split}"
    rights = [r.attributes[name].calibrated for r in runs]
    known = [f"{100 * x:.0f} %" for x in dict.fromkeys(rights) if x is not None]
    right = f"; the judge's accuracy {' and '.join(known)}" if known else ""
    return (
        f"{where}: {number_of(part.prompts, 'folder' if by_name else 'prompt')}, "
        f"{number_of(part.images, 'image')}{right}"
    )
