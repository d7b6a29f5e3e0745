"""`--accept`: exit code 1 where a report does not meet a rule."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from evenhand.reports.changes import Comparison
    from evenhand.reports.models import Report


def readable(rules: list[str] | None) -> list[str]:
    """The rules, if all of them can be read; asked before anything is drawn.

    Raises:
        UserError: one of them is none.
    """
    from evenhand.reports.accept import parsed

    for rule in rules or []:
        parsed(rule)
    return rules or []


def hold(rules: list[str], report: "Report | Comparison") -> None:
    """Says of every rule whether the report meets it.

    Raises:
        Exit: code 1, if it does not meet all of them.
    """
    from evenhand.cli.show import number
    from evenhand.reports.accept import verdict

    verdicts = [verdict(rule, report) for rule in rules]
    for found in verdicts:
        what = "accepted" if found.passed else "NOT accepted"
        print(f"{what}: {found.rule} (found: {number(found.found)})")
    if not all(found.passed for found in verdicts):
        raise typer.Exit(1)
