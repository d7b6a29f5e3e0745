"""What `evenhand measure` was asked for: protocol and options as settings; what they would do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from evenhand.recipes.measure import Measure


def parse_target(texts: list[str]) -> dict[str, dict[str, float]]:
    """`["gender=woman:.5,man:.5"]` -> `{"gender": {"woman": 0.5, "man": 0.5}}`."""
    target: dict[str, dict[str, float]] = {}
    for text in texts:
        attribute, _, table = text.partition("=")
        try:
            target[attribute] = {
                c: float(s) for c, s in (part.split(":") for part in table.split(","))
            }
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r}: write ATTRIBUTE=CLASS:SHARE,CLASS:SHARE"
            ) from error
    return target


def configured(protocol: str | None, **given: Any) -> "Measure":
    """The measurement asked for: the protocol's settings, and the options given over them."""
    from evenhand.core.resources import find_yaml
    from evenhand.core.schema import check, override, read_yaml
    from evenhand.recipes.measure import Measure
    from evenhand.stats.stopping import LOOK, images_for

    if given["until"] and given["images"] is None and 0 < given["until"] < 0.5:
        given["images"] = (
            -(-images_for(given["until"]) // LOOK) * LOOK
        )  # as many as would do without looking
    given["settings"] = override({}, given["settings"]) if given["settings"] else None
    settings = read_yaml(find_yaml("eval/protocols", protocol)) if protocol else {}
    return check(
        Measure,
        {**settings, **{k: v for k, v in given.items() if v is not None}},
        where="evenhand measure",
    )


def tell_plan(config: "Measure", folder: Path) -> None:
    """Says what would run, and what it will cost where something is drawn."""
    import yaml

    from evenhand.measure.plan import FolderPlan, plan

    planned = plan(config)
    settings = planned.settings
    shown = {
        **settings,
        "attributes": list(settings["attributes"]),
        "calibration": bool(settings["calibration"]),
    }
    print(yaml.safe_dump(shown, sort_keys=False), end="")
    made = isinstance(planned, FolderPlan)
    texts = [x.prompt.text for x in planned.pictures] if made else [p.text for p, _ in planned.rows]
    print(f"# {len(texts)} images of {len(set(texts))} prompts into {folder}")
    if not made:
        from evenhand.measure.generator import cost

        seconds, memory = cost(planned)
        print(
            f"# about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB at most (from two "
            "batches)"
        )
