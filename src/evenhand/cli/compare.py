"""`evenhand compare`: what changed between two runs?"""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def compare(
    before: Annotated[Path, Argument(help="Run directory of `evenhand measure`.")],
    after: Annotated[Path, Argument(help="Another, of the same prompts and seed.")],
    out: Annotated[Path | None, Option(help="Where the report goes.")] = None,
) -> None:
    """Compare two measured runs image by image on the same seeds.

    Example:
        evenhand compare runs/measure/emoji-emoji-occupations runs/measure/emoji-emoji-occupations-emoji-gender
    """
    from evenhand.cli.show import console, summary
    from evenhand.page import write_comparison

    out = out or Path("runs/compare") / f"{before.name}-{after.name}"
    result = write_comparison(before, after, out)
    console.print(summary([result["before"], result["after"]], result["change"]))
    print(f"report: {out / 'report.html'}")
