"""`evenhand measure`: whom does a generator draw?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.cli.measure_settings import configured, tell_plan
from evenhand.cli.options import RunDirectory

if TYPE_CHECKING:
    from evenhand.recipes.measure import Measure
    from evenhand.reports.models import Report

ModelName = Annotated[
    str | None,
    Argument(help="A model that ships (`evenhand list`), a diffusers folder or a Hub name."),
]
PromptSets = Annotated[
    list[str] | None,
    Option(
        help="Prompt set, by name, YAML file, or .txt with a prompt a line; may be "
        "repeated. With --images-from: CSV or JSONL of image and prompt."
    ),
]
ProtocolName = Annotated[
    str | None, Option(help="Settings from a YAML: `full`, `quick`, yours; options go before.")
]
ImagesFrom = Annotated[Path | None, Option(help="Measure this folder of images, made by whatever.")]
Attributes = Annotated[
    str | None, Option(help="Comma-separated; all that the judge knows when not given.")
]
Joint = Annotated[
    bool, Option("--joint", help="Report the combinations of the attributes as well.")
]
ImagesEach = Annotated[int | None, Option(help="Images a neutral prompt.")]
ExplicitImages = Annotated[
    int | None, Option(help="Images a prompt that says a class; 0 leaves them out.")
]
Until = Annotated[
    float | None,
    Option(help="Draw a prompt no further once each of its shares is known to +- this."),
]
Split = Annotated[list[str] | None, Option(help="Only this split of the prompts; may be repeated.")]
AdapterName = Annotated[str | None, Option(help="An adapter, by name or folder.")]
AdapterScale = Annotated[float | None, Option(help="Strength of the adapter.")]
JudgeName = Annotated[
    str | None, Option(help="Classifier that judges; the model's own choice when not given.")
]
Calibration = Annotated[
    Path | None, Option(help="What `evenhand calibrate` wrote, if not beside the judge.")
]
Domain = Annotated[
    str | None, Option(help="What kind of images these are, in words, as in the calibration.")
]
Target = Annotated[
    list[str] | None, Option(help="Shares wished for: gender=woman:.45,man:.45,person:.1")
]
Setting = Annotated[
    list[str] | None, Option(help="Sampler setting: num_inference_steps=30; may be repeated.")
]
Seed = Annotated[int | None, Option(help="Every image's seed follows from it.")]
Batch = Annotated[int | None, Option(help="Images sampled at a time.")]
Shard = Annotated[
    str | None,
    Option(help="Do only this part of the work, i/n; of n commands, anywhere, the last reports."),
]
Executor = Annotated[
    str | None,
    Option(help="Hand the work to datatrove's executor: local, slurm or ray (extra `cluster`)."),
]
Tasks = Annotated[int, Option(help="With --executor: how many.", min=1)]
ExecutorOption = Annotated[
    list[str] | None,
    Option(help="With --executor: an argument of it, such as partition=gpu; may be repeated."),
]
JudgeMayBeTrainer = Annotated[
    bool, Option(help="Judge even with the classifier that trained the adapter.")
]
DryRun = Annotated[bool, Option(help="Say what would run and what it will cost, from two batches.")]


def measure(
    model: ModelName = None,
    prompts: PromptSets = None,
    protocol: ProtocolName = None,
    images_from: ImagesFrom = None,
    attributes: Attributes = None,
    joint: Joint = False,
    images: ImagesEach = None,
    explicit_images: ExplicitImages = None,
    until: Until = None,
    split: Split = None,
    adapter: AdapterName = None,
    adapter_scale: AdapterScale = None,
    judge: JudgeName = None,
    calibration: Calibration = None,
    domain: Domain = None,
    target: Target = None,
    setting: Setting = None,
    seed: Seed = None,
    batch: Batch = None,
    out: RunDirectory = None,
    shard: Shard = None,
    executor: Executor = None,
    tasks: Tasks = 2,
    executor_option: ExecutorOption = None,
    judge_may_be_trainer: JudgeMayBeTrainer = False,
    dry_run: DryRun = False,
) -> None:
    r"""Draw images of a prompt set, judge them, and report shares and gaps with intervals.

    Killed at any moment, the same command goes on where it stopped and gives the same records.

    Examples:
        evenhand measure emoji --prompts emoji-occupations --attributes gender,tone --images 32

        evenhand measure emoji --prompts emoji-occupations --attributes gender --until .1

        evenhand measure sd15 --protocol full --judge siglip-faces

        torchrun --nproc_per_node 4 -m evenhand measure sd15 --protocol full --judge siglip-faces

        evenhand measure sd15 --protocol full --executor slurm --tasks 64 \
            --executor-option partition=gpu

        evenhand measure --images-from pictures --prompts prompts.csv --judge siglip-faces \
            --attributes gender
    """
    given = dict(locals())
    config, folder = configured(given)
    if dry_run:
        tell_plan(config, folder)
    elif executor:
        from evenhand.measure.executors import execute

        execute(config, folder, executor, tasks, executor_option or [])
    else:
        _run(config, folder, shard, judge_may_be_trainer)


def _run(config: "Measure", folder: Path, shard: str | None, judge_may_be_trainer: bool) -> None:
    """Measures, or does a shard of it, and says what was found."""
    from evenhand.cli.show import progress
    from evenhand.core.work import share_of
    from evenhand.measure import measure as run
    from evenhand.measure import plan

    share = share_of(shard)
    plan(config)  # what is unknown is said before a progress bar is drawn
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
