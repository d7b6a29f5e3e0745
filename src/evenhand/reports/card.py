"""What an adapter's folder says of itself: its report, its numbers, its two cards.

`report.json` is the comparison of the base model with the adapter. The numbers in `adapter.json`
are taken from it, and both cards (`README.md` for readers, `fairness_card.yaml` for programs) from
these two files and from nothing else. So a number that somebody typed over is found by writing them
anew: `edited`.
"""

import json
import os
import pathlib
from dataclasses import asdict
from typing import Any

from evenhand.core.adapters import SCHEMA, Adapter, find_adapter, strengths_in
from evenhand.core.errors import UserError
from evenhand.core.files import digest, digest_of, write_json, write_text
from evenhand.core.prompts import load_prompts
from evenhand.core.records import read_run
from evenhand.core.resources import ROOT
from evenhand.core.schema import check, read_json
from evenhand.core.settings import flat
from evenhand.recipes.judge import find_judge
from evenhand.recipes.model import load_model
from evenhand.reports.changes import Comparison
from evenhand.reports.fairness import fairness_card
from evenhand.reports.headlines import Found, headlines
from evenhand.reports.rendering import readme
from evenhand.stats.shares import Estimate

REPORT, README, FAIRNESS = "report.json", "README.md", "fairness_card.yaml"
KEPT = ("prompts", "splits", "images", "explicit_images", "seed", "judge", "settings")


def write_card(folder: str | os.PathLike, comparison: Comparison, **entries: Any) -> None:
    """Writes an adapter's report, the numbers in its `adapter.json`, and its cards.

    Args:
        folder: of the adapter.
        comparison: of the base model with the adapter; the adapter was loaded from its file.
        entries: of `adapter.json`, to be written as well; others stay as they are.
    """
    folder = pathlib.Path(folder)
    adapter = find_adapter(folder)
    run = comparison.after.run
    settings = {**run.settings, "adapter": f"{_shown(folder)}@{adapter.digest}"}
    after = {"run": run.model_copy(update={"settings": settings})}
    comparison = comparison.model_copy(update={"after": comparison.after.model_copy(update=after)})
    write_json(folder / REPORT, comparison.as_json())
    model = load_model(settings["model"])
    trainer = adapter.described.get("classifier") or {}
    measured = {
        **_measured(comparison),
        "report": digest(folder / REPORT),
        "folder": _shown(folder),
        "base": {"path": model.path, "revision": model.revision, "licence": model.licence},
        "licences": {
            "prompts": {name: _licence(load_prompts, name) for name in settings["prompts"]},
            "judges": {
                name: _licence(find_judge, name)
                for name in dict.fromkeys([settings["judge"]["name"], trainer.get("name")])
                if name
            },
        },
    }
    describe(folder, {**adapter.described, "measured": measured, **entries})
    write_cards(folder)


def describe(folder: pathlib.Path, described: dict[str, Any]) -> None:
    """Writes `adapter.json` with a seal, by which a change of it is noticed."""
    facts = {"schema": SCHEMA, **described} if "recipe" not in described else described
    values = {k: v for k, v in facts.items() if k != "seal"}
    write_json(folder / "adapter.json", {**values, "seal": _seal(values)})


def write_cards(folder: pathlib.Path) -> None:
    """Writes the cards anew, of what the folder holds.

    Raises:
        UserError: it holds no report.
    """
    for name, text in cards(find_adapter(folder)).items():
        write_text(folder / name, text)


def cards(adapter: Adapter) -> dict[str, str]:
    """The texts of both cards by the names of their files.

    Raises:
        UserError: the folder holds no report.
    """
    comparison = read_report(adapter)
    if comparison is None:
        raise UserError(f"{adapter.folder}: holds no {REPORT}, of which its card could be written")
    return {README: readme(adapter, comparison), FAIRNESS: fairness_card(adapter, comparison)}


def read_report(adapter: Adapter) -> Comparison | None:
    """The comparison that the adapter's numbers are of; None where its folder holds none.

    Raises:
        UserError: the file is damaged.
    """
    path = adapter.folder / REPORT
    if not path.is_file() or "measured" not in adapter.described:
        return None
    values = read_json(path, what="an adapter's report", advice="verify the adapter anew")
    return check(Comparison, values, where=str(path))


def edited(adapter: Adapter) -> list[str]:
    """What in an adapter's folder is not as it was written, in one phrase each."""
    described, comparison = adapter.described, read_report(adapter)
    if comparison is None:
        return [f"{REPORT} is not there, so nothing shows where the numbers are from"]
    measured, found = described["measured"], []
    if measured.get("report") != digest(adapter.folder / REPORT):
        found.append(f"{REPORT} is another than the one that was measured")
    old, new = (flat(_by_name(x)) for x in (measured, _measured(comparison)))
    found += [
        f"adapter.json says {old.get(k)} for {k}, its report {value}"
        for k, value in new.items()
        if old.get(k) != value
    ]
    if not found and described.get("seal") != _seal(described):
        found.append("adapter.json was changed after it was written (its seal is of other values)")
    return found or [
        phrase for name, text in cards(adapter).items() for phrase in _other(adapter, name, text)
    ]


def card_of(
    folder: pathlib.Path, before: str | os.PathLike, after: str | os.PathLike
) -> pathlib.Path:
    """The folder of an adapter, if a comparison of these two runs can be its card.

    Raises:
        UserError: the first run has an adapter, the second has not this one at full strength, or
            one of them measured no generator.
    """
    adapter = find_adapter(str(folder))
    runs = [read_run(run)[0]["settings"] for run in (before, after)]
    none, loaded = (strengths_in(r) for r in runs)
    if none or list(loaded) != [adapter.digest]:
        names = [r.get("adapter") or "none" for r in runs]
        raise UserError(
            f"--card {folder}: the first run must be without an adapter, the second with this one "
            f"(digest {adapter.digest}) alone; they have {names[0]} and {names[1]}"
        )
    if loaded[adapter.digest] != 1:
        raise UserError(
            f"--card {folder}: the second run has it at strength {loaded[adapter.digest]}, not 1"
        )
    return adapter.folder


def _other(adapter: Adapter, name: str, text: str) -> list[str]:
    """The first line in which a card is another than the text that it should be."""
    path = adapter.folder / name
    if not path.is_file():
        return [f"{name} is not there"]
    there, right = path.read_text(encoding="utf-8").split("\n"), text.split("\n")
    pairs = zip([*there, ""], [*right, ""], strict=False)
    line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), None)
    return [f"{name}, line {line}, is not what its numbers say"] if there != right else []


def _measured(comparison: Comparison) -> dict[str, Any]:
    """The settings and numbers of a comparison, as `adapter.json` holds them."""
    settings = comparison.after.run.settings
    trained = {"judge_is_trainer": True} if settings.get("judge_is_trainer") else {}
    lines = headlines([comparison.before, comparison.after], comparison.change)
    return {
        **{k: settings[k] for k in KEPT},
        **trained,
        "numbers": [
            {
                "subject": x.subject,
                "what": x.what,
                "before": _plain(x.found[0]),
                "after": _plain(x.found[1]),
                "change": _plain(x.change),
            }
            for x in lines
        ],
    }


def _by_name(measured: dict[str, Any]) -> dict[str, Any]:
    """The measured entry, its numbers by what they are of."""
    numbers = measured.get("numbers") or []
    return {**measured, "numbers": {f"{x['subject']}, {x['what']}": x for x in numbers}}


def _plain(found: Found) -> Any:
    """The number as JSON."""
    return asdict(found) if isinstance(found, Estimate) else found


def _seal(described: dict[str, Any]) -> str:
    """A digest of all that `adapter.json` says."""
    values = {k: v for k, v in described.items() if k != "seal"}
    return digest_of(json.dumps(values, sort_keys=True))


def _licence(find: Any, name: str) -> str | None:
    """The licence of a prompt set or a judge; None where it is not known."""
    try:
        return find(name).licence or None
    except UserError:  # the file of somebody else
        return None


def _shown(folder: pathlib.Path) -> str:
    """The folder as a reader would name it: no paths of this machine."""
    outside = folder.name if folder.is_absolute() else folder.as_posix()
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else outside
