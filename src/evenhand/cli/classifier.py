"""`evenhand classifier train` and `evenhand calibrate`.

Classifiers from labelled images, and how often they err.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from evenhand.cli.options import LabelledData, Overrides, RunDirectory

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Attribute classifiers of your own.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _group() -> None:
    """Keeps `train` a command of the group."""


def train(
    recipe: Annotated[
        str, Argument(help="A recipe that ships (`classifiers/utkface`), or a YAML file.")
    ],
    data: LabelledData,
    overrides: Overrides = None,
    out: RunDirectory = None,
) -> None:
    r"""Train an attribute classifier on labelled images and calibrate it on the split kept back.

    The best epoch is kept.

    Examples:
        evenhand classifier train classifiers/utkface utkface64.parquet

        evenhand classifier train classifiers/utkface utkface64.parquet config=null size=224 \
            path=timm/resnet18.a1_in1k

        evenhand measure --images-from photographs --judge runs/classifiers/utkface/classifier
    """
    from evenhand.classify.train_judge import train_judge
    from evenhand.cli.show import progress
    from evenhand.images.labelled import labelled
    from evenhand.recipes.judge_training import load_judge_training

    head = load_judge_training(recipe, overrides)
    folder = out or Path("runs/classifiers") / Path(recipe).stem
    with progress("training") as update:
        made = train_judge(head, data, folder, progress=update)
    print(f"classifier: {made}")
    kept_back = (
        "test" if "test" in labelled(data, split=head.split, seed=head.seed) else "validation"
    )
    _calibrated(
        str(made),
        data,
        head.attributes,
        made / "calibration.json",
        split=kept_back,
        column=head.split,
        seed=head.seed,
    )


def calibrate(
    classifier: Annotated[
        str, Argument(help="A classifier that ships, its YAML, or the folder of a trained one.")
    ],
    data: LabelledData,
    labels: Annotated[
        list[str] | None,
        Option(help="ATTRIBUTE=COLUMN, its values the classes' names; may be repeated."),
    ] = None,
    labels_from: Annotated[
        Path | None, Option(help="YAML of columns and what their values mean.")
    ] = None,
    split: Annotated[str | None, Option(help="Split to use; all when not given.")] = None,
    split_column: Annotated[str | None, Option(help="Column that says the split.")] = None,
    domain: Annotated[str, Option(help="What kind of images these are, in words.")] = "",
    out: Annotated[
        Path | None, Option(help="File to write; beside a trained classifier when not given.")
    ] = None,
) -> None:
    r"""Count what a classifier calls images whose labels are known; reports correct with it.

    Examples:
        evenhand calibrate siglip-faces fairface --labels gender=gender --split validation

        evenhand calibrate runs/classifiers/utkface/classifier utkface64.parquet \
            --split test --split-column split
    """
    from evenhand.core.errors import UserError
    from evenhand.core.resources import is_path
    from evenhand.core.schema import check, read_yaml
    from evenhand.recipes.judge import find_judge
    from evenhand.recipes.labels import Labels
    from evenhand.stats.calibration import read_calibration

    known = find_judge(classifier).known
    folder = Path(classifier)
    own = is_path(classifier) and folder.is_dir()  # a bare name is a judge that ships
    source = labels_from or (
        folder / "labels.yaml" if own and (folder / "labels.yaml").is_file() else None
    )
    if labels and labels_from:
        raise UserError("give either --labels or --labels-from")
    tables = _tables(labels or [], known, classifier)
    if not tables and source:
        tables = read_yaml(source)
    if not tables:
        raise UserError("name the columns that hold the labels: --labels gender=COLUMN")
    parsed = {
        name: check(Labels, table, where=f"labels of {name}") for name, table in tables.items()
    }
    target = out or (folder / "calibration.json" if own else Path(f"{folder.stem}.json"))
    target = target / "calibration.json" if target.is_dir() else target
    if target.exists():
        read_calibration(target)  # anything else is not replaced
    _calibrated(classifier, data, parsed, target, split=split, column=split_column, domain=domain)


def _tables(labels: list[str], known: dict[str, Any], classifier: str) -> dict[str, Any]:
    """What each `ATTRIBUTE=COLUMN` says: the column, whose values are the classes' names."""
    from evenhand.core.errors import UserError, unknown

    tables: dict[str, Any] = {}
    for text in labels:
        name, _, column = text.partition("=")
        if name not in known:
            raise unknown("attribute", name, known, where=f"classifier {classifier!r}")
        if name in tables:
            raise UserError(f"--labels: {name} is named twice; leave one out")
        tables[name] = {"column": column or name, "classes": {c: [c] for c in known[name].classes}}
    return tables


def _calibrated(classifier: str, data: str, labels: dict, out: Path, **how: Any) -> None:
    """Calibrates, writes the file and prints what every class was called."""
    from rich.table import Table
    from rich.text import Text

    from evenhand.cli.show import console, progress
    from evenhand.judges.calibrate import calibrate as run
    from evenhand.recipes.judge import find_judge
    from evenhand.stats.calibration import write_calibration

    with progress("calibrating") as update:
        found = run(find_judge(classifier), data, labels, progress=update, **how)
    write_calibration(out, found)
    for name, rows in found.attributes.items():
        title = Text(f"{name}: called")  # names are text, whatever signs they hold
        table = Table(box=None, header_style="bold", title=title, title_justify="left")
        for heading in ["truly", "images", *next(iter(rows.values()))]:
            table.add_column(Text(heading), justify="left" if heading == "truly" else "right")
        for truth, called in rows.items():
            n = sum(called.values())
            table.add_row(Text(truth), str(n), *(f"{k / n:.3f}" for k in called.values()))
        console.print(table)
    print(
        f"calibration: {out}"
        + ("" if out.name == "calibration.json" else f" (evenhand measure ... --calibration {out})")
    )
