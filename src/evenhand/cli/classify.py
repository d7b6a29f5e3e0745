"""`evenhand classify`: classifiers, compared group by group."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.cli.options import LabelledData, Overrides, RunDirectory, named_and_placed

if TYPE_CHECKING:
    from evenhand.classify.experiment import Experiment
    from evenhand.reports.classify_models import ClassifyReport


def classify(
    recipe: Annotated[str, Argument(help="A recipe that ships (`evenhand list`), or a YAML file.")],
    data: LabelledData,
    overrides: Overrides = None,
    out: RunDirectory = None,
    dry_run: Annotated[
        bool,
        Option(
            "--dry-run",
            help="Print the recipe, the groups, what their counts give away, and the cost.",
        ),
    ] = False,
) -> None:
    r"""Train classifiers on real and generated images and compare how they treat every group.

    A group is a class of the target with a class of the protected attribute. `arm` says which
    images are trained on (real, synthetic, usb, asb, ffr, aim_fair, two_stage), `objective` what is
    made of their losses (erm, reweighting, resampling, subg, group_dro, cvar, jtt, lff),
    `refit=dfr` fits the last layer anew, `select` chooses the epoch. A recipe's `variants` are
    trained one after the other and compared on the same test images.

    Killed at any moment, the same command goes on where it stopped.

    Examples:
        evenhand classify emoji real.parquet synthetic.path=synthetic.parquet

        evenhand classify folder people.csv arm=ffr objective=resampling \
            synthetic.path=generated --dry-run

        evenhand classify celeba-ffr celeba.csv synthetic.path=generated bias.ratio=.99
    """
    import yaml

    from evenhand.classify.experiment import prepare
    from evenhand.classify.run import run
    from evenhand.cli.show import progress
    from evenhand.recipes.classify import load_classify
    from evenhand.training.fit import refuse_several_processes

    refuse_several_processes()
    settings = load_classify(recipe, overrides)
    _, folder = named_and_placed("classify", recipe, out)
    experiment = prepare(settings, data, folder)
    if dry_run:
        print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
    _tell_groups(experiment)
    if dry_run:
        _tell_cost(experiment, folder)
        return
    with progress("training") as update:
        report = run(experiment, folder, progress=update)
    tell(report)
    print(f"classifiers: {folder}/VARIANT/seed-N/classifier")
    print(f"report: {folder / 'report.html'}")


def _tell_groups(experiment: "Experiment") -> None:
    """The images of each group, and what counts give away before anything is trained."""
    from rich.table import Table
    from rich.text import Text

    from evenhand.classify.tables import SPLITS, shape_of
    from evenhand.cli.show import console
    from evenhand.stats.shortcut import shortcut

    shape, arms = shape_of(experiment.recipe), experiment.arms
    first = next(iter(arms.values()))
    columns = {
        split: experiment.real[split].counts(shape, experiment.rows(first, split)).ravel()
        for split in SPLITS
    }
    for path, table in experiment.synthetic.items():
        columns[f"synthetic, {Path(path).name}"] = table.counts(shape).ravel()
    shown = Table(box=None, header_style="bold")
    shown.add_column(Text("group"))
    for heading in columns:
        shown.add_column(Text(heading), justify="right")
    for g, name in enumerate(experiment.recipe.groups):
        shown.add_row(Text(name), *(str(int(counts[g])) for counts in columns.values()))
    console.print(shown)
    for name, arm in arms.items():
        table, real = experiment.synthetic_of(arm), experiment.real["train"].counts(shape, arm.real)
        if table and arm.recipe.arm in {"usb", "asb"}:
            found = shortcut(real, table.counts(shape, arm.synthetic))
            if found.warning:
                print(f"{name}: {found.warning}")


def _tell_cost(experiment: "Experiment", folder: Path) -> None:
    """What all trainings will take."""
    from evenhand.classify.cost import cost

    seconds, memory = cost(experiment)
    print(
        f"# into {folder}: {len(experiment.arms)} variants, {len(experiment.seeds)} seeds, "
        f"{experiment.steps} steps\n# about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB "
        "at most (from three steps of each kind; stages that variants share are trained once)"
    )


def tell(report: "ClassifyReport") -> None:
    """The variants beside each other, and the differences from the first."""
    from rich.table import Table
    from rich.text import Text

    from evenhand.cli.show import console
    from evenhand.reports.headlines import number

    shown = Table(box=None, header_style="bold", pad_edge=False)
    headings = ["", "worst group", "mean of groups", "adjusted accuracy", "equalized odds, mean"]
    if len(report.variants) > 1:
        headings.append(f"worst, less {report.reference}'s")
    for heading in headings:
        shown.add_column(
            Text(heading), justify="right" if heading else "left", no_wrap=bool(heading)
        )
    for name, one in report.variants.items():
        found = [one.worst_group, one.balanced, one.adjusted_accuracy]
        cells = [number(x) for x in [*found, one.equalized_odds_mean]]
        if len(report.variants) > 1:
            other = report.differences.get(name)
            cells.append(number(other["worst_group"]) if other else "")
        shown.add_row(Text(name), *cells)
    console.print(shown)
    for note in report.notes:
        print(note)
