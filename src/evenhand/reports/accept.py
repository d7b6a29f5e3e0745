"""Rules that a report must meet: for pipelines that shall stop where a model is too far off.

A rule is a dotted path in `report.json`, a comparison and a number: `gap.gender.upper < .3`. It
speaks of the end of an interval that is worst for it, so that "we cannot tell" is no pass: the
upper end must be below a number, or the lower end above it. No torch.
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from evenhand.core.errors import UserError, unknown
from evenhand.reports.changes import Comparison
from evenhand.reports.models import Report
from evenhand.reports.verdicts import Verdict

R = TypeVar("R", Report, Comparison)
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
ENDS = {"upper": "high", "lower": "low"}
RULE = re.compile(r"\s*(?P<path>[^<>=]+?)\s*(?P<sign><=|>=|<|>)\s*(?P<number>[^<>=\s]+)\s*")


def verdict(rule: str, report: Report | Comparison) -> Verdict:
    """Holds a rule against a report.

    `gap.gender.upper` is short for `attributes.gender.splits.all.gap.upper`, where `all` (or the
    only split) can be replaced by another: `gap.gender.test.upper`. The same with any other number
    of a split (`distance`, `unseen`, `shares.woman`: `shares.woman.gender.upper`).

    Raises:
        UserError: the rule cannot be read, names a number that the report does not hold, or the
            end of an interval that says nothing: an upper end above a number, or a lower one below.
    """
    path, sign, number = parsed(rule)
    at, found = [], report.as_json()
    for part in _full(path, found):
        at.append(part)
        if not isinstance(found, dict):
            break
        part = ENDS.get(part, part) if "high" in found else part
        if part not in found:
            known = [*ENDS] if "high" in found else found
            raise unknown("number", part, known, where=f"rule {rule!r}")
        found = found[part]
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise UserError(
            f"rule {rule!r}: {'.'.join(at)} is no number of the report; "
            "an interval's ends are .upper and .lower"
        )
    passed = found is not None and COMPARE[sign](found, number)
    return Verdict(rule=rule, found=found, passed=passed)


def held(report: R, rules: Sequence[str]) -> tuple[R, UserError | None]:
    """The report with the verdict of every rule; and what is wrong with a rule, if one is.

    A report whose images are drawn is not lost because a rule names a number that it lacks.
    """
    found, wrong = [], None
    for rule in rules:
        try:
            found.append(verdict(rule, report))
        except UserError as error:
            wrong = wrong or error
    return report.model_copy(update={"accepted": found}), wrong


def parsed(rule: str) -> tuple[list[str], str, float]:
    """The path, the comparison and the number of a rule.

    Raises:
        UserError: it has another form, or speaks of the wrong end of an interval.
    """
    match = RULE.fullmatch(rule)
    try:
        number = float(match["number"]) if match else math.nan
    except ValueError:
        number = math.nan
    if not match or not math.isfinite(number):
        raise UserError(f"rule {rule!r}: write a number of the report, < or >, and a number")
    path, sign = match["path"].split("."), match["sign"]
    right = "upper" if sign[0] == "<" else "lower"
    if path[-1] in {"upper", "lower", "value", *ENDS.values()} - {right, ENDS[right]}:
        raise UserError(
            f"rule {rule!r}: with {sign} write .{right}, the end of the interval that is worst "
            "for the rule; any other would pass where the number is not known"
        )
    return path, sign, number


def _full(path: list[str], report: dict[str, Any]) -> list[str]:
    """The whole path that a short one stands for."""
    if path[0] in report or path[0] in {"before", "after", "change"}:
        return path
    attributes = report.get("after", report)["attributes"]
    place = next((i for i, part in enumerate(path) if part in attributes), None)
    if place is None:
        return path
    name, rest = path[place], path[place + 1 :]
    end = rest[-1:] if rest and rest[-1] in ENDS else []
    split, *more = rest[: len(rest) - len(end)] or [next(iter(attributes[name]["splits"]), "")]
    whole = ["attributes", name, "splits", split, *path[:place], *more, *end]
    return ["after", *whole] if "after" in report else whole
