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


def configured(given: dict[str, Any]) -> tuple["Measure", Path]:
    """The measurement asked for, and its run directory.

    Args:
        given: the command's options by name, None where one is not given. They go before the
            settings of the protocol.
    """
    from evenhand.core.resources import find_yaml
    from evenhand.core.schema import check, override, read_yaml
    from evenhand.recipes.measure import Measure
    from evenhand.stats.stopping import LOOK, images_for

    values = {name: given[name] for name in Measure.model_fields if name in given}
    if values["until"] and values["images"] is None and 0 < values["until"] < 0.5:
        # as many as would do without looking
        values["images"] = -(-images_for(values["until"]) // LOOK) * LOOK
    for name in ("images_from", "calibration"):
        values[name] = str(values[name]) if values[name] else None
    values["attributes"] = given["attributes"].split(",") if given["attributes"] else None
    values["joint"] = given["joint"] or None
    values["splits"] = given["split"]
    values["target"] = parse_target(given["target"]) if given["target"] else None
    values["settings"] = override({}, given["setting"]) if given["setting"] else None
    protocol = given["protocol"]
    below = read_yaml(find_yaml("eval/protocols", protocol)) if protocol else {}
    above = {name: value for name, value in values.items() if value is not None}
    config = check(Measure, {**below, **above}, where="evenhand measure")
    asked = [protocol] if protocol else config.prompts
    named = (config.model, config.images_from, *asked, config.adapter)
    default = Path("runs/measure") / "-".join(Path(x).name for x in named if x)
    return config, given["out"] or default


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
