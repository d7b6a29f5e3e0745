"""`adapters/README.md`: the adapters that ship, as a table written from their folders."""

import pathlib
from typing import Any

from evenhand.core.adapters import Adapter, find_adapter, shipped_adapters
from evenhand.core.files import write_text
from evenhand.core.resources import ROOT
from evenhand.reports.headlines import number
from evenhand.reports.rendering import code, markdown
from evenhand.stats.shares import Estimate

HEAD = """# Adapters that ship

Each folder holds the weights, a card (`README.md`, and `fairness_card.yaml` for programs), the
report that the numbers are from (`report.json`), and reference images. Classes are *as perceived by
a named judge*; gaps are root mean squares over held-out prompts with chance removed.
`evenhand verify NAME` loads a file by diffusers alone, measures its numbers anew, and writes this
table.

| adapter | | for | asked for | | before | after | measured from seed | verified |
|---|---|---|---|---|---|---|---|---|
"""


def table() -> str:
    """The text of the file."""
    rows = [row for name in shipped_adapters() for row in _rows(find_adapter(name))]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_table(folder: pathlib.Path = ROOT / "adapters") -> None:
    """Writes `README.md` of the folder of the adapters that ship."""
    write_text(folder / "README.md", table())


def _rows(adapter: Adapter) -> list[list[str]]:
    """The rows of one adapter: one a number, its own facts in the first of them."""
    described = adapter.described
    measured, verified = described.get("measured") or {}, described.get("verified") or {}
    recipe = described.get("settings") or {}
    shares = (recipe.get("target") or {}).get("shares") or {}
    asked = "; ".join(
        f"{a}: {', '.join(f'{c} {share:g}' for c, share in t.items())}" for a, t in shares.items()
    )
    stands = verified.get("passed") and verified.get("digest") == adapter.digest
    first, *more = _numbers(measured.get("numbers", [])) or [["not measured", "–", "–"]]
    return [
        [
            f"[{code(adapter.folder.name)}]({adapter.folder.name}/README.md)",
            "LoRA" if adapter.is_lora else "soft tokens",
            code(recipe.get("model") or "?"),
            markdown(asked),
            *first,
            str(measured.get("seed", "–")),
            verified["date"] if stands else "no",
        ],
        *(["", "", "", "", *row, "", ""] for row in more),
    ]


def _numbers(numbers: list[dict[str, Any]]) -> list[list[str]]:
    """Gap and distance of each attribute, in its first split, which is all of them together."""
    first: dict[tuple[str, str], list[str]] = {}
    for x in numbers:
        subject = x["subject"].partition(":")[0]
        gap = x["what"].startswith("gap ") and "as found" not in x["what"]
        if gap or x["what"] == "distance to target":
            row = [markdown(f"{subject}: {x['what']}")]
            row += [number(_estimate(x[run])) for run in ("before", "after")]
            first.setdefault((subject.partition(",")[0], x["what"]), row)
    return list(first.values())


def _estimate(found: Any) -> Estimate | float | None:
    return Estimate(**found) if isinstance(found, dict) else found
