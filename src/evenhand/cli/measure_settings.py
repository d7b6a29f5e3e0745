"""What `evenhand measure` was asked for: protocol and options as settings; what they would do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evenhand.cli.accept import readable

if TYPE_CHECKING:
    from evenhand.recipes.measure import Measure


def parse_target(texts: list[str]) -> dict[str, dict[str, float]]:
    """`["gender=woman:.5,man:.5"]` -> `{"gender": {"woman": 0.5, "man": 0.5}}`."""
    target: dict[str, dict[str, float]] = {}
    for text in texts:
        attribute, _, table = text.partition("=")
        try:
            pairs = [(c, float(s)) for c, s in (x.rsplit(":", 1) for x in table.split(","))]
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r}: write ATTRIBUTE=CLASS:SHARE,CLASS:SHARE"
            ) from error
        names = [c for c, _ in pairs]
        if attribute in target or len(set(names)) < len(names):
            what = "the attribute" if attribute in target else "a class"
            raise typer.BadParameter(f"{text!r}: {what} is named twice; leave one out")
        target[attribute] = dict(pairs)
    return target


def configured(given: dict[str, Any]) -> tuple["Measure", Path]:
    """The measurement asked for, and its run directory.

    Args:
        given: the command's options by name, None where one is not given. They go before the
            settings of the protocol.
    """
    from evenhand.core.errors import UserError
    from evenhand.core.resources import find_yaml
    from evenhand.core.schema import check, override, read_yaml
    from evenhand.core.weights import with_file
    from evenhand.recipes.measure import Measure
    from evenhand.stats.stopping import LOOK, images_for

    if given["executor_option"] and not given["executor"]:
        raise UserError("--executor-option is an argument of an executor: name one, --executor")
    if given["executor"] and given["shard"]:
        raise UserError("--executor cuts the work up by itself: leave --shard out")
    values = {name: given[name] for name in Measure.model_fields if name in given}
    if given.get("weight_name"):
        if not values["adapter"]:
            raise UserError("--weight-name is a file of an adapter: name one with --adapter")
        values["adapter"] = with_file(values["adapter"], given["weight_name"])
    if values["until"] and values["images"] is None and 0.005 <= values["until"] < 0.5:
        # as many as would do without looking
        values["images"] = -(-images_for(values["until"]) // LOOK) * LOOK
    for name in ("images_from", "calibration"):
        values[name] = str(values[name]) if values[name] else None
    if given["attributes"] is not None:
        values["attributes"] = [name.strip() for name in given["attributes"].split(",")]
    values["joint"] = given["joint"] or None
    values["splits"] = given["split"]
    values["target"] = parse_target(given["target"]) if given["target"] else None
    values["settings"] = override({}, given["setting"]) if given["setting"] else None
    protocol = given["protocol"]
    below = read_yaml(find_yaml("eval/protocols", protocol)) if protocol else {}
    above = {name: value for name, value in values.items() if value is not None}
    config = check(Measure, {**below, **above}, where="evenhand measure")
    if readable(config.accept) and given["executor"]:
        raise UserError("--executor writes no report here: evenhand report RUN --accept RULE")
    asked = [protocol] if protocol else config.prompts
    named = (config.model, config.images_from, *asked, config.adapter)
    default = Path("runs/measure") / "-".join(_last(x) for x in named if x)
    return config, given["out"] or default


def _last(name: str) -> str:
    """The last part of a name or path; of `.` and `..` that of the folder they mean."""
    return Path(name).name if Path(name).name not in ("", "..") else Path(name).resolve().name


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
