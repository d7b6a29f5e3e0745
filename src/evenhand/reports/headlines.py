"""The lines of a summary: what a table on the terminal, a card and the page say first.

Dictionaries in, no torch.
"""

from dataclasses import dataclass
from typing import Any

DISTANCES = {
    "kid": "kernel distance to the reference (KID x 1000; for these prompts)",
    "fid": "Frechet distance to the reference (FID)",
}


@dataclass(frozen=True)
class Headline:
    """One line of a summary: what was found in each run, and what to hold it against.

    Estimates are dictionaries or numbers.
    """

    subject: str
    what: str
    found: list[Any]
    change: dict[str, Any] | None = None
    target: float | None = None
    floor: float | None = None


def among(entry: dict[str, Any]) -> str:
    """The classes between which a report's gap is taken, in words."""
    if entry["parts"]:
        return f"of {len(entry['contrast'])} combinations"
    return (
        "of all classes" if entry["contrast"] == entry["classes"] else " / ".join(entry["contrast"])
    )


def headlines(runs: list[dict[str, Any]], change: dict[str, Any] | None = None) -> list[Headline]:
    """The lines of a summary of one report, or of two (before, after) with their change."""
    lines, last = [], runs[-1]
    for a, entry in last["attributes"].items():
        for split, s in entry["splits"].items():
            subject = f"{a}, {split}: {s['prompts']} prompts, {s['images']} images"
            found = [r["attributes"][a]["splits"][split] for r in runs]
            delta = change["attributes"][a]["splits"][split] if change else {}
            lines.append(
                Headline(
                    subject,
                    f"gap {among(entry)}",
                    [f["gap"] for f in found],
                    delta.get("gap"),
                    None,
                    s["gap_floor"],
                )
            )
            lines.append(
                Headline(subject, "gap, chance removed", [f["gap_without_chance"] for f in found])
            )
            if all(f["gap_worst"] is not None for f in found):
                lines.append(
                    Headline(
                        subject, "gap, worst tenth of prompts", [f["gap_worst"] for f in found]
                    )
                )
            if all(f["distance"] for f in found):
                lines.append(
                    Headline(
                        subject,
                        "distance to target",
                        [f["distance"] for f in found],
                        delta.get("distance"),
                        0.0,
                        s["distance_floor"],
                    )
                )
            lines += [
                Headline(
                    subject,
                    f"share {c}",
                    [f["shares"][c] for f in found],
                    None,
                    entry["target"][k] if entry["target"] else None,
                )
                for k, c in enumerate(entry["classes"])
                if not entry["parts"]
            ]
            if all(_differs(f) for f in found):
                lines += [
                    Headline(
                        subject,
                        f"share {c}, corrected",
                        [f["corrected"][c] for f in found],
                        None,
                        entry["target"][k] if entry["target"] else None,
                    )
                    for k, c in enumerate(entry["classes"])
                ]
            lines.append(Headline(subject, "not seen", [f["unseen"] for f in found]))
        if entry["explicit"]:
            lines.append(
                Headline(
                    f"{a}, explicit prompts",
                    "keep the class they say",
                    [r["attributes"][a]["explicit"]["all"] for r in runs],
                    change["attributes"][a]["explicit"] if change else None,
                )
            )
    lines += [
        Headline(
            last["run"]["settings"]["concept"],
            f"as asked, {split}",
            [r["concept_fidelity"][split] for r in runs],
            change["concept_fidelity"][split] if change else None,
        )
        for split in last["concept_fidelity"]
    ]
    lines += [
        Headline(
            "safety checker", f"images flagged, {split}", [r["flagged"].get(split) for r in runs]
        )
        for split in last["flagged"]
    ]
    for kind, near in (change or {}).get("closeness", {}).items():
        subject = f"images, in the features of {kind}"
        lines.append(Headline(subject, "cosine to the same seed before", [None, near["same_seed"]]))
        lines.append(
            Headline(
                subject,
                "variety within a class",
                [near["diversity_before"], near["diversity_after"]],
            )
        )
        if "prompt_change" in near:
            lines.append(
                Headline(
                    subject,
                    "cosine to the prompt (CLIP-T)",
                    [near["prompt_before"], near["prompt_after"]],
                    near["prompt_change"],
                )
            )
        lines += [
            Headline(subject, what, [near[f"{name}_before"], near[f"{name}_after"]])
            for name, what in DISTANCES.items()
            if f"{name}_before" in near
        ]
    return lines


def _differs(summary: dict[str, Any]) -> bool:
    """Whether correcting for the judge's errors changes any share by half a point or more."""
    return bool(summary["corrected"]) and any(
        abs(e["value"] - summary["shares"][c]["value"]) >= 0.005
        for c, e in summary["corrected"].items()
    )
