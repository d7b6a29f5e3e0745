"""The fairness card of an adapter: the same facts as in its README, in YAML for programs.

Its fields are those of the core schema of Fairness Cards.
"""

import pathlib
from dataclasses import asdict
from typing import Any

import yaml

from evenhand.core.adapters import Adapter
from evenhand.reports.changes import Comparison
from evenhand.reports.headlines import Headline, headlines
from evenhand.reports.rendering import commands, named_off_target
from evenhand.stats.shares import Estimate


def fairness_card(adapter: Adapter, comparison: Comparison) -> str:
    """The YAML, of what `adapter.json` and the report say."""
    described, after = adapter.described, comparison.after
    measured, settings = described["measured"], after.run.settings
    verified = described.get("verified")
    lines = headlines([comparison.before, after], comparison.change)
    card = {
        "card_version": 1,
        "modality": "image",
        "system": {
            "name": pathlib.PurePath(measured["folder"]).name,
            "kind": "LoRA" if adapter.is_lora else "soft tokens",
            "weights": adapter.weights.name,
            "digest": adapter.digest,
            "base_model": measured["base"]["path"],
            "licence_of_base_model": measured["base"]["licence"],
        },
        "intended_use": "to draw images whose perceived classes come near to the shares asked for; "
        "to be measured on your own prompts before you rely on it",
        "fairness_scope": {
            "asked_for": described.get("settings", {}).get("target"),
            "not_in_the_target": named_off_target(after),
            "meaning": "classes as perceived by the classifier named under `scorer`; nothing is "
            "said of who a person is",
        },
        "protected_attributes": {
            name: entry.classes for name, entry in after.attributes.items() if not entry.parts
        },
        "metrics": [_metric(line) for line in lines],
        "decision_rules": [x.model_dump() for x in comparison.accepted],
        "verification": {k: verified[k] for k in ("date", "passed", "said")} if verified else None,
        "reproducibility": {
            "code_url": None,
            "versions": after.run.versions,
            "seeds": [settings["seed"]],
            "total_samples": comparison.before.images + after.images,
            "regen_command": commands(measured, settings),
        },
        "prompt_suite": [
            {"name": name, "version": version, "licence": measured["licences"]["prompts"].get(name)}
            for name, version in settings["prompts"].items()
        ],
        "decoding": settings["settings"],
        "refusal_handling": "images in which the classifier sees nothing to judge are in no share; "
        "how many they are is among the metrics (not seen)",
        "scorer": {
            **settings["judge"],
            "licence": measured["licences"]["judges"].get(settings["judge"]["name"]),
            "trained_the_adapter": bool(settings.get("judge_is_trainer")),
        },
    }
    return yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)


def _metric(line: Headline) -> dict[str, Any]:
    """One number of the card."""
    return {
        "subject": line.subject,
        "what": line.what,
        **dict(zip(("before", "after"), map(_plain, line.found), strict=True)),
        "change": _plain(line.change),
        "target": line.target,
        "chance_floor": line.floor,
    }


def _plain(found: Estimate | float | None) -> Any:
    """The number and its interval."""
    return asdict(found) if isinstance(found, Estimate) else found
