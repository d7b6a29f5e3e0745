"""What a verification will do: which file, and the card's measurement from fresh seeds."""

import pathlib
from dataclasses import dataclass
from typing import Any

from evenhand.core.adapters import Adapter, find_adapter
from evenhand.core.errors import UserError
from evenhand.core.references import References, read_references
from evenhand.core.schema import check
from evenhand.measure.plan import plan
from evenhand.recipes.measure import NO_CALIBRATION, Measure
from evenhand.reports.card import read_report
from evenhand.reports.changes import Comparison


@dataclass(frozen=True)
class Verification:
    """What is going to be checked.

    Attributes:
        adapter: whose file.
        card: the comparison that its card shows; None where it has no numbers yet.
        references: its reference images; None without.
        before, after: the measurements without and with it.
        folder: of the runs.
    """

    adapter: Adapter
    card: Comparison | None
    references: References | None
    before: Measure
    after: Measure
    folder: pathlib.Path


def verification(
    name: str,
    *,
    model: str | None = None,
    prompts: list[str] | None = None,
    images: int | None = None,
    judge: str | None = None,
    seed: int | None = None,
    accept: list[str] | None = None,
    runs: pathlib.Path = pathlib.Path("runs/verify"),
) -> Verification:
    """Plans the verification of an adapter: the card's measurement, with fresh seeds.

    All attributes that the judge knows are measured, those too that the target does not name.

    Args:
        name: of an adapter that ships, or its folder.
        model: base model; the card's when None.
        prompts: prompt sets, for an adapter without numbers; the card's, or the recipe's, when
            None.
        images: of each neutral prompt; as many as for the card when None.
        judge: who judges; the card's judge when None.
        seed: from which those of the images are made; the next after the card's when None.
        accept: rules that the new numbers must meet; the card's when None.
        runs: where run directories go.

    Raises:
        UserError: there is no such adapter, nothing says of which model it is or on what it should
            be measured, or the seed is the card's.
    """
    adapter = find_adapter(name)
    card = read_report(adapter)
    asked = _of_card(card) if card else _of_recipe(adapter)
    given = {"model": model, "prompts": prompts, "images": images, "judge": judge, "seed": seed}
    asked |= {k: v for k, v in given.items() if v not in (None, [])}
    if accept is not None:
        asked["accept"] = accept
    for key, option in {"model": "--model", "prompts": "--prompts"}.items():
        if not asked.get(key):
            raise UserError(
                f"{adapter.folder}: holds no numbers, and nothing says with which {key} to measure "
                f"it: name {option}"
            )
    if card and asked["seed"] == card.after.run.settings["seed"]:
        raise UserError(
            f"--seed {asked['seed']}: the card's numbers are of these images; name another seed"
        )
    before = check(Measure, asked, where="verify")
    after = before.model_copy(update={"adapter": str(name)})
    plan(after)  # what is unknown is said before anything is loaded
    where = runs / f"{adapter.folder.resolve().name}-{adapter.digest}"
    return Verification(adapter, card, read_references(adapter.folder), before, after, where)


def _of_card(card: Comparison) -> dict[str, Any]:
    """The measurement that a card's numbers are of, with the next seed."""
    settings = card.after.run.settings
    joint = settings.get("joint")
    return {
        "model": settings["model"],
        "prompts": list(settings["prompts"]),
        "splits": settings["splits"],
        "images": settings["images"],
        "explicit_images": settings["explicit_images"],
        "seed": settings["seed"] + 1,
        "batch": settings["batch"],
        "judge": settings["judge"]["name"],
        "joint": list(settings["attributes"]) if joint is True else joint or False,
        "target": settings.get("target") or {},
        "settings": {k: v for k, v in settings["settings"].items() if v not in (None, {})},
        "calibration": NO_CALIBRATION if settings.get("calibration_left_out") else None,
        "domain": settings.get("domain") or "",
        "accept": [x.rule for x in card.accepted],
    }


def _of_recipe(adapter: Adapter) -> dict[str, Any]:
    """A measurement of held-out prompts of the recipe; empty where none is known."""
    recipe = adapter.described.get("settings") or {}
    target = recipe.get("target") or {}
    return {
        "model": recipe.get("model"),
        "prompts": adapter.prompts,
        "target": target.get("shares") or {},
        "splits": ["test"] if adapter.prompts else [],
        "seed": 1,
    }
