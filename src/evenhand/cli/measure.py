"""`evenhand measure`: whom does a generator draw?"""

from pathlib import Path
from typing import TYPE_CHECKING

from evenhand.cli import measure_options as opt
from evenhand.cli.accept import hold
from evenhand.cli.measure_settings import configured, tell_plan
from evenhand.cli.options import Accept, NoImages, RunDirectory

if TYPE_CHECKING:
    from evenhand.recipes.measure import Measure
    from evenhand.reports.models import Report


def measure(
    model: opt.ModelName = None,
    prompts: opt.PromptSets = None,
    protocol: opt.ProtocolName = None,
    images_from: opt.ImagesFrom = None,
    attributes: opt.Attributes = None,
    joint: opt.Joint = False,
    images: opt.ImagesEach = None,
    explicit_images: opt.ExplicitImages = None,
    until: opt.Until = None,
    split: opt.Split = None,
    adapter: opt.AdapterNames = None,
    adapter_scale: opt.AdapterScale = None,
    weight_name: opt.WeightName = None,
    judge: opt.JudgeName = None,
    calibration: opt.Calibration = None,
    domain: opt.Domain = None,
    target: opt.Target = None,
    setting: opt.Setting = None,
    seed: opt.Seed = None,
    batch: opt.Batch = None,
    out: RunDirectory = None,
    accept: Accept = None,
    no_images: NoImages = False,
    shard: opt.Shard = None,
    executor: opt.Executor = None,
    tasks: opt.Tasks = 2,
    executor_option: opt.ExecutorOption = None,
    judge_may_be_trainer: opt.JudgeMayBeTrainer = False,
    dry_run: opt.DryRun = False,
) -> None:
    r"""Draw images of a prompt set, judge them, and report shares and gaps with intervals.

    Killed at any moment, the same command goes on where it stopped and gives the same records.

    Examples:
        evenhand measure emoji --prompts emoji-occupations --attributes gender,tone --images 32

        evenhand measure emoji --prompts emoji-occupations --attributes gender --until .1

        evenhand measure sdxl --protocol full --judge siglip-faces --adapter user/repo

        torchrun --nproc_per_node 4 -m evenhand measure sd15 --protocol full --judge siglip-faces

        evenhand measure sd15 --protocol full --executor slurm --executor-option partition=gpu

        evenhand measure --images-from pictures --prompts prompts.csv --judge siglip-faces \
            --attributes gender
    """
    config, folder = configured(dict(locals()))
    how = {"judge_may_be_trainer": judge_may_be_trainer, "pictures": not no_images}
    if dry_run:
        tell_plan(config, folder)
    elif executor:
        from evenhand.measure.executors import execute

        execute(config, folder, executor, tasks, executor_option or [], **how)
    else:
        _run(config, folder, shard, **how)


def _run(config: "Measure", folder: Path, shard: str | None, **how: bool) -> None:
    """Measures, or does a shard of it, and says what was found."""
    from evenhand.cli.show import progress
    from evenhand.core.work import share_of
    from evenhand.measure import measure as run
    from evenhand.measure import plan

    share = share_of(shard)
    plan(config)  # what is unknown is said before a progress bar is drawn
    with progress("measuring") as update:
        report = run(config, folder, share=share, progress=update, **how)
    if report:
        _tell(report, folder, how["pictures"])
        hold(config.accept, report)
    elif share.only:
        print(
            f"shard {shard} is done; the report is made by the last of the shards to end, or by "
            "the same command without --shard"
        )


def _tell(report: "Report", folder: Path, pictures: bool) -> None:
    """Says what was found, with its notes, and where the page is."""
    from evenhand.cli.show import tell, tell_page

    tell([report], None, report.notes)
    if (known := report.stopping) and known.saved is not None:
        print(
            f"{known.drawn} images of the {known.planned} that +- {known.width:g} takes "
            "without looking: "
            f"{known.saved:.0%} saved; the widest share is known to +- {known.widest:.3f}"
        )
    tell_page(folder / "report.html", [report], pictures)
