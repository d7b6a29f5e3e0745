"""`evenhand report`: make a run's report anew, without models."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from evenhand.cli.options import NoImages


def report(
    run: Annotated[Path, Argument(help="Run directory of `evenhand measure`, finished or not.")],
    no_images: NoImages = False,
) -> None:
    """Recompute report.json and report.html from the records of a run.

    Examples:
        evenhand report runs/measure/emoji-emoji-occupations

        evenhand report runs/measure/photographs --no-images
    """
    from evenhand.cli.show import tell, tell_page
    from evenhand.reports.html import write_report

    found = write_report(run, pictures=not no_images)
    tell([found], None, found.notes)
    tell_page(run / "report.html", [found], not no_images)
