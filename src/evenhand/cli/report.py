"""`evenhand report`: make a run's report anew, without models."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from evenhand.cli.accept import hold, readable
from evenhand.cli.options import Accept, NoImages


def report(
    run: Annotated[Path, Argument(help="Run directory of `evenhand measure`, finished or not.")],
    no_images: NoImages = False,
    accept: Accept = None,
) -> None:
    """Recompute report.json and report.html from the records of a run.

    Examples:
        evenhand report runs/measure/emoji-emoji-occupations

        evenhand report runs/measure/photographs --no-images

        evenhand report runs/measure/sd15-occupations --accept "gap.gender.upper < .3"
    """
    from evenhand.cli.show import tell, tell_page
    from evenhand.reports.html import write_report

    rules = readable(accept)
    found = write_report(run, pictures=not no_images, accept=rules)
    tell([found], None, found.notes)
    tell_page(run / "report.html", [found], not no_images)
    hold(rules, found)
