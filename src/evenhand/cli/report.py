"""`evenhand report`: make a run's report anew, without models."""

from pathlib import Path
from typing import Annotated

from typer import Argument


def report(
    run: Annotated[Path, Argument(help="Run directory of `evenhand measure`, finished or not.")],
) -> None:
    """Recompute report.json and report.html from the records of a run.

    Example:
        evenhand report runs/measure/emoji-emoji-occupations
    """
    from evenhand.cli.show import console, summary
    from evenhand.reports.html import write_report

    found = write_report(run)
    console.print(summary([found]))
    for note in found.notes:
        print(note)
    print(f"report: {run / 'report.html'}")
