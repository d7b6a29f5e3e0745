"""Whether a report meets a rule (`evenhand.reports.accept`), as reports hold it."""

from evenhand.core.schema import Strict


class Verdict(Strict):
    """Whether a report meets a rule.

    Attributes:
        rule: as it was written.
        found: the number that it speaks of; None where the report has none, which is no pass.
        passed: whether it holds.
    """

    rule: str
    found: float | None
    passed: bool
