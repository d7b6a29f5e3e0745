"""`evenhand chain`: from whom a generator draws to a classifier that is told by group."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evenhand.cli.options import Overrides, RunDirectory, again, named_and_placed

if TYPE_CHECKING:
    from evenhand.chain.models import ChainReport
    from evenhand.recipes.chain import Chain


def chain(
    recipe: Annotated[str, Argument(help="A chain that ships (`evenhand list`), or a YAML file.")],
    overrides: Overrides = None,
    out: RunDirectory = None,
    start: Annotated[
        str | None,
        Option(
            "--from",
            metavar="STAGE",
            help="Make this stage and those that build on it anew; what they made is removed. "
            "After a cut go on without it.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Option("--dry-run", help="Say what each stage would do, which are done, and the cost."),
    ] = False,
) -> None:
    """Measure a generator, adapt it, draw balanced sets and train classifiers: one run, one page.

    A chain names its stages and the recipe of each; what is done is not done again. Killed at any
    moment, the same command goes on. Stages lie in folders of their names, as their own verbs would
    make them.

    Examples:
        evenhand chain emoji

        evenhand chain emoji --dry-run

        evenhand chain my-chain.yaml --from classifiers
    """
    from evenhand.recipes.chain import load_chain

    config = load_chain(recipe, overrides)
    name, folder = named_and_placed("chain", recipe, out)
    if dry_run:
        _dry(config, folder)
        return
    run(config, folder, name, start, command=again("chain", recipe, overrides))


def run(
    config: "Chain", folder: Path, name: str, start: str | None = None, *, command: str
) -> "ChainReport":
    """Does what is left of a chain, and says what was found."""
    from evenhand.chain import chain as run_it
    from evenhand.cli.show import progress

    report = run_it(config, folder, name=name, start=start, progress=progress, command=command)
    tell(report)
    print(f"page: {folder / 'chain.html'}")
    return report


def _dry(config: "Chain", folder: Path) -> None:
    """Says what each stage would do, and what it costs as far as that can be known."""
    from evenhand.chain.cost import costs
    from evenhand.cli.show import progress

    total = 0.0
    with progress("trying"):
        found = list(costs(config, folder))
    for cost in found:
        print(f"{cost.name}: evenhand {cost.verb} {cost.recipe} {' '.join(cost.changed)}".rstrip())
        print(f"  {cost.words}")
        total += cost.seconds
    print(f"# into {folder}: about {total / 60:.1f} minutes, stages of unknown cost not counted")


def tell(report: "ChainReport") -> None:
    """The routes beside each other, and what each stage took; the page has all numbers."""
    from rich.table import Table
    from rich.text import Text

    from evenhand.cli.show import console
    from evenhand.reports.headlines import number

    for found in report.measurements[:1]:
        for sentence in found.words:
            print(sentence)
    for classifiers in report.classifiers:
        first = classifiers.arms[0]
        print(f"{classifiers.stage}: worst group of {first.name}, {number(first.worst)}")
    shown = Table(box=None, header_style="bold", pad_edge=False)
    headings = ["route", "gap before", "gap after", "accepted", "worst group", "less without"]
    headings.append("minutes")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "route" else "right", no_wrap=True)
    for route in report.routes:
        gap, made = route.gap, route.set
        cells = [
            number(gap.before) if gap else "",
            number(gap.found) if gap else "",
            number(made.accepted) if made else "",
            "\n".join(number(arm.worst) for arm in route.arms),
            "\n".join(number(a.worst_change) if a.worst_change else "" for a in route.arms),
            f"{route.seconds / 60:.1f}",
        ]
        shown.add_row(Text(route.name), *cells)
    console.print(shown)
    seconds = sum(stage.seconds for stage in report.stages)
    parts = ", ".join(f"{stage.name} {stage.seconds / 60:.1f}" for stage in report.stages)
    print(f"minutes: {seconds / 60:.1f} in all ({parts})")
