"""`evenhand measure`: whom does a generator draw?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from evenhand.reports.models import Report


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


def measure(
    model: Annotated[
        str | None,
        Argument(help="A model that ships (`evenhand list`), a diffusers folder or a Hub name."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        Option(
            help="Prompt set, by name, YAML file, or .txt with a prompt a line; may be "
            "repeated. With --images-from: CSV or JSONL of image and prompt."
        ),
    ] = None,
    protocol: Annotated[
        str | None, Option(help="Settings from a YAML: `full`, `quick`, yours; options go before.")
    ] = None,
    images_from: Annotated[
        Path | None, Option(help="Measure this folder of images, made by whatever.")
    ] = None,
    attributes: Annotated[
        str | None, Option(help="Comma-separated; all that the judge knows when not given.")
    ] = None,
    joint: Annotated[
        bool, Option("--joint", help="Report the combinations of the attributes as well.")
    ] = False,
    images: Annotated[int | None, Option(help="Images a neutral prompt.")] = None,
    explicit_images: Annotated[
        int | None, Option(help="Images a prompt that says a class; 0 leaves them out.")
    ] = None,
    until: Annotated[
        float | None,
        Option(help="Draw a prompt no further once each of its shares is known to +- this."),
    ] = None,
    split: Annotated[
        list[str] | None, Option(help="Only this split of the prompts; may be repeated.")
    ] = None,
    adapter: Annotated[str | None, Option(help="An adapter, by name or folder.")] = None,
    adapter_scale: Annotated[float | None, Option(help="Strength of the adapter.")] = None,
    judge: Annotated[
        str | None, Option(help="Classifier that judges; the model's own choice when not given.")
    ] = None,
    calibration: Annotated[
        Path | None, Option(help="What `evenhand calibrate` wrote, if not beside the judge.")
    ] = None,
    domain: Annotated[
        str | None, Option(help="What kind of images these are, in words, as in the calibration.")
    ] = None,
    target: Annotated[
        list[str] | None, Option(help="Shares wished for: gender=woman:.45,man:.45,person:.1")
    ] = None,
    setting: Annotated[
        list[str] | None, Option(help="Sampler setting: num_inference_steps=30; may be repeated.")
    ] = None,
    seed: Annotated[int | None, Option(help="Every image's seed follows from it.")] = None,
    batch: Annotated[int | None, Option(help="Images sampled at a time.")] = None,
    out: Annotated[
        Path | None, Option(help="Run directory; one with the same settings is continued.")
    ] = None,
    shard: Annotated[
        str | None,
        Option(
            help="Do only this part of the work, i/n; of n commands, anywhere, the last reports."
        ),
    ] = None,
    executor: Annotated[
        str | None,
        Option(
            help="Hand the work to datatrove's executor: local, slurm or ray (extra `cluster`)."
        ),
    ] = None,
    tasks: Annotated[int, Option(help="With --executor: how many.", min=1)] = 2,
    executor_option: Annotated[
        list[str] | None,
        Option(help="With --executor: an argument of it, such as partition=gpu; may be repeated."),
    ] = None,
    judge_may_be_trainer: Annotated[
        bool, Option(help="Judge even with the classifier that trained the adapter.")
    ] = False,
    dry_run: Annotated[
        bool, Option(help="Say what would run and what it will cost, from two batches.")
    ] = False,
) -> None:
    r"""Draw images of a prompt set, judge them, and report shares and gaps with intervals.

    Killed at any moment, the same command goes on where it stopped and gives the same records.

    Examples:
        evenhand measure emoji --prompts emoji-occupations --attributes gender,tone --images 32

        evenhand measure emoji --prompts emoji-occupations --split test --adapter emoji-gender

        evenhand measure emoji --prompts emoji-occupations --attributes gender --until .1

        evenhand measure sd15 --protocol full --judge siglip-faces

        torchrun --nproc_per_node 4 -m evenhand measure sd15 --protocol full --judge siglip-faces

        evenhand measure sd15 --protocol full --executor slurm --tasks 64 \
            --executor-option partition=gpu

        evenhand measure --images-from pictures --prompts prompts.csv --judge siglip-faces \
            --attributes gender
    """
    config = _configured(
        protocol,
        until=until,
        images=images,
        model=model,
        prompts=prompts,
        images_from=str(images_from) if images_from else None,
        attributes=attributes.split(",") if attributes else None,
        joint=joint or None,
        explicit_images=explicit_images,
        splits=split,
        adapter=adapter,
        adapter_scale=adapter_scale,
        judge=judge,
        domain=domain,
        seed=seed,
        batch=batch,
        calibration=str(calibration) if calibration else None,
        target=parse_target(target) if target else None,
        settings=setting,
    )
    asked = [protocol] if protocol else config.prompts
    folder = out or Path("runs/measure") / "-".join(
        Path(x).name for x in (model, config.images_from, *asked, adapter) if x
    )
    from evenhand.core.work import share_of
    from evenhand.measure import plan

    planned = plan(config)  # what is unknown is said before models are loaded
    if dry_run:
        _dry(planned, folder)
        return
    if executor:
        from evenhand.measure.executors import execute

        execute(config, folder, executor, tasks, executor_option or [])
        return
    from evenhand.cli.show import progress
    from evenhand.measure import measure as run

    share = share_of(shard)
    with progress("measuring") as update:
        report = run(
            config, folder, share=share, progress=update, judge_may_be_trainer=judge_may_be_trainer
        )
    if report:
        _tell(report, folder)
    elif share.only:
        print(
            f"shard {shard} is done; the report is made by the last of the shards to end, or by "
            "the same command without --shard"
        )


def _tell(report: "Report", folder: Path) -> None:
    """Says what was found, with its notes, and where the page is."""
    from evenhand.cli.show import console, summary

    console.print(summary([report]))
    for note in report.notes:
        print(note)
    if (known := report.stopping) and known.saved is not None:
        print(
            f"{known.drawn} images of the {known.planned} that +- {known.width:g} takes "
            "without looking: "
            f"{known.saved:.0%} saved; the widest share is known to +- {known.widest:.3f}"
        )
    print(f"report: {folder / 'report.html'}")


def _configured(protocol: str | None, **given: Any) -> Any:
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


def _dry(planned: Any, folder: Path) -> None:
    """Says what would run, and what it will cost where something is drawn."""
    import yaml

    settings = planned.settings
    shown = {
        **settings,
        "attributes": list(settings["attributes"]),
        "calibration": bool(settings["calibration"]),
    }
    print(yaml.safe_dump(shown, sort_keys=False), end="")
    if planned.config.images_from:
        texts = [picture.prompt.text for picture in planned.pictures]
    else:
        texts = [prompt.text for prompt, _ in planned.rows]
    print(f"# {len(texts)} images of {len(set(texts))} prompts into {folder}")
    if not planned.config.images_from:
        from evenhand.measure.generator import cost

        seconds, memory = cost(planned)
        print(
            f"# about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB at most (from two "
            "batches)"
        )
