"""`evenhand sweep`: an adapter at many strengths and settings of the sampler."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenhand.cli import measure_options as opt
from evenhand.cli import sweep_options as sweeps
from evenhand.cli.options import Features, RunDirectory

if TYPE_CHECKING:
    from evenhand.core.adapters import Adapter
    from evenhand.recipes.sweep import Sweep
    from evenhand.reports.sweep.models import SweepReport


def sweep(
    adapters: sweeps.Adapters,
    model: sweeps.BaseModel = None,
    prompts: sweeps.PromptSets = None,
    split: sweeps.Split = None,
    strength: sweeps.Strength = None,
    guidance: sweeps.Guidance = None,
    steps: sweeps.Steps = None,
    images: sweeps.ImagesEach = 24,
    explicit: sweeps.ExplicitImages = 8,
    margin: sweeps.Margin = 0.05,
    attributes: opt.Attributes = None,
    target: opt.Target = None,
    judge: opt.JudgeName = None,
    calibration: opt.Calibration = None,
    features: Features = None,
    setting: opt.Setting = None,
    seed: sweeps.Seed = 1,
    batch: opt.Batch = None,
    out: RunDirectory = None,
    no_card: sweeps.NoCard = False,
    judge_may_be_trainer: opt.JudgeMayBeTrainer = False,
    dry_run: opt.DryRun = False,
) -> None:
    r"""Measure an adapter over strength, guidance and sampling steps, and suggest a point.

    At every point the same seeds are drawn, and held against the model without the adapter at the
    same settings: the gap, the distance to the target, explicit prompts kept, concepts as asked,
    nearness of the images. A point is suggested by a rule that is printed, and measured again at
    fresh seeds: **that is the number to quote**. The result goes into `sweep.json`, a page,
    and the `adapter.json` of a single adapter, from where its card takes it.

    Killed at any moment, the same command goes on where it stopped.

    Examples:
        evenhand sweep emoji-gender

        evenhand sweep emoji-gender --strength .5,1 --guidance 1,2,4

        evenhand sweep emoji-gender=.5,1 emoji-tone-75-25=1

        evenhand sweep ./my-adapter --prompts occupations --guidance 2.5,5,7.5 --steps 20,50 \
            --features clip --features dino
    """
    config, found, folder = _configured(dict(locals()))
    if dry_run:
        _tell_plan(config, folder)
        return
    _run(config, found, folder, judge_may_be_trainer, keep=not no_card)


def _configured(given: dict[str, Any]) -> tuple["Sweep", "list[Adapter]", Path]:
    """The sweep asked for, its adapters, and its folder."""
    from evenhand.cli.measure_settings import parse_target
    from evenhand.cli.options import features_of
    from evenhand.core.adapters import find_mix, named_strengths
    from evenhand.core.errors import UserError
    from evenhand.core.schema import check, override
    from evenhand.recipes.measure import Measure
    from evenhand.recipes.sweep import Sweep, defaults_of, strengths_for

    named = [named_strengths(text) for text in given["adapters"]]
    names = [name for name, _ in named]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"adapter {twice[0]!r} is given twice; leave one out")
    known = {adapter.name: adapter for adapter, _ in find_mix(dict.fromkeys(names, 1.0)).parts}
    found = [known[name] for name in names]
    strengths = _numbers(given, "strength")
    texts = given["attributes"]
    values = {
        **{name: given[name] for name in ("model", "judge", "images", "seed", "batch")},
        "prompts": given["prompts"],
        "splits": given["split"] or ["test"],
        "explicit_images": given["explicit"],
        "calibration": given["calibration"],
        "attributes": [name.strip() for name in texts.split(",")] if texts else None,
        "target": parse_target(given["target"]) if given["target"] else None,
        "settings": override({}, given["setting"]) if given["setting"] else None,
    }
    config = check(
        Sweep,
        {
            "measure": check(Measure, defaults_of(found, values), where="evenhand sweep"),
            "adapters": strengths_for(found, {n: own or strengths for n, own in named}),
            "guidance": _numbers(given, "guidance"),
            "steps": _numbers(given, "steps"),
            "margin": given["margin"],
            **({"features": features_of(given["features"])} if given["features"] else {}),
        },
        where="evenhand sweep",
    )
    default = Path("runs/sweep") / "-".join(a.folder.resolve().name for a in found)
    return config, found, given["out"] or default


def _numbers(given: dict[str, Any], option: str) -> list[float]:
    """The numbers of an option, written with commas; none where it is not given."""
    from evenhand.core.errors import UserError

    try:
        return [float(x) for x in given[option].split(",")] if given[option] else []
    except ValueError as error:
        raise UserError(
            f"--{option} {given[option]!r}: write numbers with commas between them, such as 1,2.5"
        ) from error


def _tell_plan(config: "Sweep", folder: Path) -> None:
    """Says which points there are, and what they will cost."""
    from evenhand.measure.generator import cost
    from evenhand.measure.plan import GeneratorPlan, plan

    points = config.points()
    plans = {name: plan(one) for name, one in points.items()}
    known, images = {}, 0  # what a point costs, by the sampler's settings
    for name, planned in reversed(list(plans.items())):  # those with adapters first
        assert isinstance(planned, GeneratorPlan)
        print(f"{name}: {len(planned.rows)} images")
        images += len(planned.rows)
        sampler = str(planned.settings["settings"])
        known[name] = known[sampler] = known.get(sampler) or cost(planned)
    more = 2 * images // len(points)
    print(f"# {images} images at {len(points)} points into {folder}")
    print(f"# and {more} at fresh seeds, where a point is suggested")
    seconds = sum(known[name][0] for name in plans) * (images + more) / images
    memory = max(peak for _, peak in known.values())
    print(
        f"# about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB at most (from two batches)"
    )


def _run(
    config: "Sweep", found: "list[Adapter]", folder: Path, may_be_trainer: bool, *, keep: bool
) -> None:
    """Sweeps, says what was found, and puts it into the adapter's description."""
    import os

    from evenhand.cli.show import progress
    from evenhand.core.errors import UserError
    from evenhand.publish.sweep import images_of, put
    from evenhand.publish.sweep import sweep as run

    keep = keep and len(found) == 1 and bool(found[0].described)
    if keep and not os.access(found[0].folder, os.W_OK):
        raise UserError(
            f"{found[0].folder}: cannot be written, and the result goes into its adapter.json; "
            "copy the folder and name the copy, or add --no-card"
        )
    for one in config.points().values():
        images_of(one)  # what is unknown is said before a progress bar is drawn
    with progress("sweeping") as update:
        report = run(config, folder, progress=update, judge_may_be_trainer=may_be_trainer)
    if not report:
        return
    _tell(report, folder)
    if keep:
        put(found[0], report)
        print(f"into:   {found[0].folder / 'adapter.json'}, and the card where it has one")


def _tell(report: "SweepReport", folder: Path) -> None:
    """Prints the points, the suggestion and its rule, and what a reader must know."""
    from rich.table import Table
    from rich.text import Text

    from evenhand.cli.show import console
    from evenhand.reports.sweep.table import table_of

    headings, rows = table_of(report.points, report.suggested)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    for sentence in [*report.said, f"Rule: {report.rule}", *report.notes]:
        print(sentence)
    print(f"report: {folder / 'sweep.html'}")
