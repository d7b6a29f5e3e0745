"""`evenhand generate`: balanced image sets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from evenhand.cli.measure_options import (
    MANY,
    Executor,
    ExecutorOption,
    JudgeMayBeTrainer,
    Tasks,
)
from evenhand.cli.options import NoImages, Overrides, RunDirectory, again, named_and_placed
from evenhand.core.errors import UserError

if TYPE_CHECKING:
    from evenhand.generate.report import SetReport
    from evenhand.recipes.generate import Generate


RecipeName = Annotated[str, Argument(help="A recipe that ships (`evenhand list`), or a YAML file.")]
Preview = Annotated[
    int | None,
    Option(min=1, help="Only draw so many images of each cell, into a page to look at."),
]
FromImages = Annotated[
    Path | None, Option(help="Draw nothing: make the set of the images in this folder.")
]
Table = Annotated[Path | None, Option(help="With --from-images: CSV or JSONL of image and prompt.")]
Shard = Annotated[
    str | None,
    Option(
        help="i/n: begin with the i-th of n parts of the work, counted from 0, and help the others "
        "then. The n commands may run anywhere they reach the folder.",
        rich_help_panel=MANY,
    ),
]
DryRun = Annotated[
    bool,
    Option("--dry-run", help="Say what would be drawn and what it costs; draw two batches."),
]


def generate(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: RunDirectory = None,
    preview: Preview = None,
    from_images: FromImages = None,
    table: Table = None,
    no_images: NoImages = False,
    shard: Shard = None,
    executor: Executor = None,
    tasks: Tasks = 2,
    executor_option: ExecutorOption = None,
    judge_may_be_trainer: JudgeMayBeTrainer = False,
    dry_run: DryRun = False,
) -> None:
    """Make a balanced image set: so many images of each cell, each judged, with its card.

    A cell is a combination of classes, such as woman/dark, in a group of contexts. Images are drawn
    until every cell is full or the budget is spent. Killed at any moment, the same command goes on
    and makes the same set, in any number of processes. Asked for more of each cell, it adds to the
    set that is there.

    Examples:
        evenhand generate emoji-balanced --preview 4

        evenhand generate emoji-balanced

        evenhand generate emoji-balanced per_cell=200

        evenhand generate celeba-smiling out=[parquet,webdataset] --executor slurm --tasks 16

        evenhand generate emoji-balanced --from-images pictures --table prompts.csv --out runs/set
    """
    if executor_option and not executor:
        raise UserError("--executor-option is an argument of an executor: name one, --executor")
    if executor and shard:
        raise UserError("--executor cuts the work up by itself: leave --shard out")
    config, folder, command = _configured(recipe, overrides or [], out, from_images, table)
    how = {"judge_may_be_trainer": judge_may_be_trainer}
    made = {"command": command, "pictures": not no_images, **how}
    if dry_run:
        _dry(config, folder)
    elif preview:
        _preview(config, folder, preview, **how)
    elif executor:
        from evenhand.generate.executors import execute

        execute(config, folder, executor, tasks, executor_option or [], **made)
    else:
        _run(config, folder, shard, **made)


def _configured(
    recipe: str,
    overrides: list[str],
    out: Path | None,
    from_images: Path | None,
    table: Path | None,
) -> tuple["Generate", Path, str]:
    """The recipe with its changes, the run directory, and the command for the card."""
    from evenhand.recipes.generate import load_generate

    if table and not from_images:
        raise UserError("--table lists the images of a folder: name it with --from-images")
    given = {"from_images": from_images, "table": table}
    words = [f"{name}={json.dumps(str(path))}" for name, path in given.items() if path]
    config = load_generate(recipe, [*overrides, *words])
    _, folder = named_and_placed("generate", recipe, out)
    made = ["--from-images", from_images.name] if from_images else []
    made += ["--table", table.name] if table else []
    return config, folder, again("generate", recipe, overrides, made)


def _run(config: "Generate", folder: Path, shard: str | None, **how: Any) -> None:
    """Makes the set, or helps to, and says what it holds."""
    from evenhand.cli.show import progress
    from evenhand.core.work import share_of
    from evenhand.generate import generate as run

    share = share_of(shard)
    with progress("generating") as update:
        report = run(config, folder, share=share, progress=update, **how)
    _tell(report, folder)


def _tell(report: "SetReport", folder: Path) -> None:
    """Says what a set holds, what must be known of it, and where it is."""
    from evenhand.generate.card import percent

    size = report.sizes[-1]
    print(f"{report.images} of {size.wished} images, taken of {report.drawn} drawn")
    for why, n in report.rejected.items():
        print(f"  {n} not taken: {why}")
    if report.wrong:
        print(f"wrong labels expected: {percent(report.wrong)}")
    for note in report.notes:
        print(note)
    print(f"set: {folder}, digest {report.digest}; page: {folder / 'dataset.html'}")


def _preview(config: "Generate", folder: Path, images: int, *, judge_may_be_trainer: bool) -> None:
    """Draws a few images of each cell into a page."""
    from evenhand.cli.show import progress
    from evenhand.core.files import digest_of
    from evenhand.generate import preview

    # each change of the recipe, and each number, has its own: a set may grow, and never shrinks
    own = digest_of([config.model_dump(mode="json"), images])
    beside = folder.with_name(f"{folder.name}-preview") / own
    with progress("previewing") as update:
        page = preview(
            config,
            beside,
            images,
            progress=update,
            judge_may_be_trainer=judge_may_be_trainer,
        )
    print(f"preview: {page}")


def _dry(config: "Generate", folder: Path) -> None:
    """Says what would be drawn, and what it will cost."""
    import yaml

    from evenhand.generate.cost import planned_cost

    found = planned_cost(config, folder)
    print(yaml.safe_dump(found.settings, sort_keys=False, allow_unicode=True), end="")
    print(f"# {found.wished} images of {found.places} cells into {folder}, budget {found.budget}")
    for text in found.examples:
        print(f"# {text}")
    if found.seconds:
        print(
            f"# about {found.seconds / 60:.1f} minutes if every image is taken, "
            f"{found.memory / 2**30:.1f} GiB at most (from two batches)"
        )
