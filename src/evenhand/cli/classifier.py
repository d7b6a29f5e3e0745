"""`evenhand classifier train` and `evenhand calibrate`.

Classifiers from labelled images, and how often they err.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from evenhand.cli.options import LabelledData, Overrides, RunDirectory, named_and_placed

FEW = 50  # labelled images of a class: with fewer, corrected intervals cover less than they say

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Train a judge of your own: evenhand classifier train classifiers/folder people.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _group() -> None:
    """Keeps `train` a command of the group."""


def train(
    recipe: Annotated[
        str,
        Argument(
            help="A recipe that ships (`classifiers/folder`, `classifiers/utkface`), or a YAML "
            "file."
        ),
    ],
    data: LabelledData,
    overrides: Overrides = None,
    domain: Annotated[
        str,
        Option(help="What kind of images these are, in words; the calibration keeps it."),
    ] = "",
    out: RunDirectory = None,
) -> None:
    r"""Train an attribute classifier on labelled images and calibrate it on the split kept back.

    The best epoch is kept. What comes out is a folder for --judge, with its calibration beside it.

    The recipe `classifiers/folder` reads a folder with a folder of photographs for each class
    (people/woman, people/man): its column is `label`; `attributes=...` sets other classes.

    With `faces={}` in a recipe the largest face is cut out, in training, calibration and judging
    alike: `faces.margin=.2` takes more around it, `-.1` less, `faces=null` the whole image.

    Examples:
        evenhand classifier train classifiers/folder people

        evenhand classifier train classifiers/folder people \
            attributes='{glasses: {column: label, classes: {without: [no], with: [yes]}}}'

        evenhand classifier train classifiers/utkface utkface64.parquet config=null size=224 \
            path=timm/resnet18.a1_in1k

        evenhand measure --images-from photographs --judge runs/classifiers/folder/classifier
    """
    from evenhand.classify.train_judge import train_judge
    from evenhand.cli.show import progress
    from evenhand.images.labelled import labelled
    from evenhand.recipes.judge_training import load_judge_training as load

    head = load(recipe, overrides)
    _, folder = named_and_placed("classifiers", recipe, out)
    with progress("training") as update:
        made = train_judge(head, data, folder, progress=update)
    print(f"classifier: {made}")
    splits = labelled(data, split=head.split, seed=head.seed)
    how = {"column": head.split, "seed": head.seed, "domain": domain}
    how["split"] = "test" if "test" in splits else "validation"
    _calibrated(str(made), data, head.attributes, made / "calibration.json", **how)
    print(f"judge with it: evenhand measure --images-from FOLDER --judge {made}")


def calibrate(
    classifier: Annotated[
        str, Argument(help="A classifier that ships, its YAML, or the folder of a trained one.")
    ],
    data: LabelledData,
    labels: Annotated[
        list[str] | None,
        Option(
            help="ATTRIBUTE=COLUMN: the column whose values are the classes' names; a folder of "
            "class folders has the column `label`. May be repeated."
        ),
    ] = None,
    labels_from: Annotated[
        Path | None,
        Option(
            help="YAML file for columns that call the classes otherwise, a line for each "
            "attribute: `gender: {column: label, classes: {woman: [female, f], man: [male, m]}}`; "
            "`bins: {young: [0, 40], old: [40, 200]}` instead of `classes` for numbers."
        ),
    ] = None,
    split: Annotated[str | None, Option(help="Split to use; all when not given.")] = None,
    split_column: Annotated[str | None, Option(help="Column that says the split.")] = None,
    domain: Annotated[str, Option(help="What kind of images these are, in words.")] = "",
    out: Annotated[
        Path | None,
        Option(
            help="File to write. Default: calibration.json beside a trained classifier; NAME.json "
            "here for one that ships: pass it on with measure --calibration NAME.json."
        ),
    ] = None,
) -> None:
    r"""Count what a classifier calls images whose labels are known; reports correct with it.

    Label some hundred images of the kind that you measure, 50 of each class at least. Images that
    the classifier was trained on are left out. Attributes that only an earlier calibration in the
    same file has are kept.

    Examples:
        evenhand calibrate runs/classifiers/folder/classifier more-people --labels gender=label

        evenhand calibrate siglip-faces people.csv --labels-from labels.yaml

        evenhand calibrate runs/classifiers/utkface/classifier utkface64.parquet \
            --split test --split-column split
    """
    from evenhand.stats.calibration import read_calibration

    folder, (own, tables) = Path(classifier), _labels(classifier, labels, labels_from)
    target = out or (folder / "calibration.json" if own else Path(f"{folder.stem}.json"))
    target = target / "calibration.json" if target.is_dir() else target
    if target.exists():
        read_calibration(target)  # anything else is not replaced
    _calibrated(classifier, data, tables, target, split=split, column=split_column, domain=domain)


def _labels(
    classifier: str, labels: list[str] | None, labels_from: Path | None
) -> tuple[bool, dict[str, Any]]:
    """Whether the classifier is a folder of one's own; and which column says which attribute."""
    from evenhand.core.errors import UserError
    from evenhand.core.resources import is_path
    from evenhand.core.schema import check, read_yaml
    from evenhand.recipes.judge import find_judge
    from evenhand.recipes.labels import Labels

    known, folder = find_judge(classifier).known, Path(classifier)
    own = is_path(classifier) and folder.is_dir()  # a bare name is a judge that ships
    trained = folder / "labels.yaml"
    words = read_yaml(trained) if own and trained.is_file() else {}
    if labels and labels_from:
        raise UserError("give either --labels or --labels-from")
    given = (
        read_yaml(labels_from) if labels_from else _tables(labels or [], known, words, classifier)
    )
    tables = given or words
    if not tables:
        raise UserError(
            f"name the column that holds the labels: --labels {next(iter(known))}=label (a folder "
            "of class folders has the column 'label'), or a YAML file with --labels-from"
        )
    return own, {
        name: check(Labels, table, where=f"labels of {name}") for name, table in tables.items()
    }


def _tables(
    labels: list[str], known: dict[str, Any], words: dict[str, Any], classifier: str
) -> dict[str, Any]:
    """What each `ATTRIBUTE=COLUMN` says: the column, whose values are the classes' names.

    Or the words that meant a class when the classifier was trained.
    """
    from evenhand.core.errors import UserError, unknown

    tables: dict[str, Any] = {}
    for text in labels:
        name, _, column = text.partition("=")
        if name not in known:
            raise unknown("attribute", name, known, where=f"classifier {classifier!r}")
        if name in tables:
            raise UserError(f"--labels: {name} is named twice; leave one out")
        own = words.get(name, {}).get("classes", {})
        tables[name] = {
            "column": column or name,
            "classes": {c: list(dict.fromkeys([c, *own.get(c, [])])) for c in known[name].classes},
        }
    return tables


def _calibrated(classifier: str, data: str, labels: dict, out: Path, **how: Any) -> None:
    """Calibrates, writes the file and prints what every class was called."""
    from rich.table import Table
    from rich.text import Text

    from evenhand.cli.show import console, progress
    from evenhand.judges.calibrate import TRAINED_ON
    from evenhand.judges.calibrate import calibrate as run
    from evenhand.recipes.judge import find_judge
    from evenhand.reports.judge_card import write_judge_card
    from evenhand.stats.calibration import read_calibration, write_calibration

    before = read_calibration(out) if out.is_file() else None
    with progress("calibrating") as update:
        found = run(find_judge(classifier), data, labels, progress=update, **how)
    kept = found.beside(before) if before else found
    write_calibration(out, kept)
    if (out.parent / TRAINED_ON).is_file():
        write_judge_card(out.parent, kept)
    for name, rows in found.attributes.items():
        title = Text(f"{name}: called")  # names are text, whatever signs they hold
        table = Table(box=None, header_style="bold", title=title, title_justify="left")
        for heading in ["truly", "images", *next(iter(rows.values()))]:
            table.add_column(Text(heading), justify="left" if heading == "truly" else "right")
        for truth, called in rows.items():
            n = sum(called.values())
            table.add_row(Text(truth), str(n), *(f"{k / n:.3f}" for k in called.values()))
        console.print(table)
        if (least := min(sum(called.values()) for called in rows.values())) < FEW:
            print(
                f"{name}: only {least} labelled images of a class; with fewer than {FEW} the "
                "intervals of corrected shares hold the truth less often than they say"
            )
    for name, origin in kept.origins.items():
        print(f"{name}: kept, of {origin.date} on {origin.domain}")
    print(
        f"calibration: {out}"
        + ("" if out.name == "calibration.json" else f" (evenhand measure ... --calibration {out})")
    )
