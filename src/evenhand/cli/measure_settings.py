"""What `evenhand measure` was asked for: protocol and options as settings; what they would do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evenhand.cli.accept import readable

if TYPE_CHECKING:
    from evenhand.recipes.measure import Measure


def parse_target(texts: list[str]) -> dict[str, Any]:
    """`["gender=woman:.5,man:.5"]` -> `{"gender": {"woman": 0.5, "man": 0.5}}`.

    A table of targets by concept (`us-labour-2022`, `gender=counts.csv`) comes as it is.

    Raises:
        UserError: no such table, or one that names no attribute where none is given.
    """
    from evenhand.core.concept_targets import load_targets
    from evenhand.core.errors import UserError
    from evenhand.core.resources import names as shipped

    target: dict[str, Any] = {}
    known = shipped("eval/targets")
    for text in texts:
        attribute, _, table = text.rpartition("=")
        if table in known or table.lower().endswith((".csv", ".yaml", ".yml")):
            found = load_targets(table)
            attribute = attribute or found.attribute
            if not attribute:
                raise UserError(f"--target {text}: names no attribute; write ATTRIBUTE={text}")
            if attribute in target:
                raise typer.BadParameter(f"{text!r}: the attribute is named twice; leave one out")
            target[attribute] = found
            continue
        attribute, _, table = text.partition("=")
        try:
            pairs = [(c, float(s)) for c, s in (x.rsplit(":", 1) for x in table.split(","))]
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r}: write ATTRIBUTE=CLASS:SHARE,CLASS:SHARE, or the name of a table "
                f"({', '.join(known)}; or a .csv or .yaml file)"
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
    from evenhand.core.adapters import named_strengths
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
        if not values["adapter"] or len(values["adapter"]) > 1:
            raise UserError("--weight-name is a file of one adapter: name it with --adapter")
        text = values["adapter"][0]
        name = named_strengths(text)[0]  # NAME=.7 keeps its strength behind the file
        values["adapter"] = [with_file(name, given["weight_name"]) + text.removeprefix(name)]
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
    named = (config.model, config.images_from, *asked, *config.strengths)
    default = Path("runs/measure") / "-".join(_last(x) for x in named if x)
    return config, given["out"] or default


def _last(name: str) -> str:
    """The last part of a name or path; of `.` and `..` that of the folder they mean.

    Of a training's `adapter` it is the training's folder.
    """
    path = Path(name) if Path(name).name not in ("", "..") else Path(name).resolve()
    return path.parent.name if path.name == "adapter" and path.parent.name else path.name


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
    if not made and planned.model.endpoint:
        print(f"# as many questions to {planned.model.path}, of which none was asked now")
    elif not made:
        from evenhand.measure.generator import cost

        seconds, memory = cost(planned)
        print(
            f"# about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB at most (from two "
            "batches)"
        )
