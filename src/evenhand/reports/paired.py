"""The same images in two runs -> paired changes, after minus before. No torch.

Both lists of records are of the same images (prompt and seed) in the same order, and say the same
of their prompts.
"""

import numpy as np

from evenhand.core.records import Record
from evenhand.reports.asked import Asked
from evenhand.reports.changes import AttributeChange, SplitChange
from evenhand.reports.evidence import Answers, Rule, calls, evidence, passes, steps
from evenhand.reports.split import evenness
from evenhand.reports.tally import Test, keeps, saying, splits_of
from evenhand.stats.correction import change_of_corrected
from evenhand.stats.means import change_of_means, pair_noise
from evenhand.stats.roots import change_of_roots
from evenhand.stats.shares import Estimate
from evenhand.stats.squares import Form


def change_that(
    before: list[Record],
    after: list[Record],
    test: Test,
    rule: Rule | None = None,
    level: float = 0.95,
) -> Estimate:
    """The change of the share of images that pass a test; at least one image."""
    return _change_of_shares(before, after, passes(test), rule, level)[0]


def attribute_change(before: list[Record], after: list[Record], asked: Asked) -> AttributeChange:
    """The paired differences of one attribute."""
    said = [saying(rows, asked.attribute) for rows in (before, after)]
    was = splits_of(before)
    return AttributeChange(
        explicit=change_that(said[0], said[1], keeps(asked.attribute.name)) if said[1] else None,
        splits={s: _split(was[s], rows, asked) for s, rows in splits_of(after).items()},
    )


def _split(before: list[Record], after: list[Record], asked: Asked) -> SplitChange:
    """The paired differences of one attribute in a split."""
    attribute, (even, among) = asked.attribute, evenness(asked)
    rows_of_form = evidence(after, calls(attribute), asked.rule).concepts
    target = asked.wish.form(rows_of_form) if asked.wish else None
    runs, known = (before, after), asked.confusion is not None

    def root(form: Form, answers: Answers) -> Estimate:
        was, now = (evidence(rows, answers, asked.rule).found for rows in runs)
        return change_of_roots(was, now, form)

    def corrected_root(form: Form, classes: list[int] | None = None) -> Estimate:
        was, now = (evidence(rows, asked.answers, asked.rule).found for rows in runs)
        return change_of_roots(was, now, form, asked.confusion, classes)

    def by_class(found: list[Estimate]) -> dict[str, Estimate]:
        return dict(zip(attribute.classes, found, strict=True))

    called = calls(attribute)
    return SplitChange(
        gap=root(even, calls(attribute, among)),
        corrected_gap=corrected_root(even, among) if known else None,
        distance=root(target, called) if target else None,
        corrected_distance=corrected_root(target) if target and known else None,
        shares=by_class(_change_of_shares(before, after, called, asked.rule)),
        corrected=by_class(_change_of_corrected(before, after, asked)) if known else None,
    )


def _tables(
    before: list[Record], after: list[Record], answers: Answers, rule: Rule | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean answers `[m, K]` before and after, of the rows in which both runs have some."""
    was, now = (evidence(rows, answers, rule).found.mean for rows in (before, after))
    both = ~np.isnan(was + now).any(1)
    return was[both], now[both]


def _change_of_shares(
    before: list[Record],
    after: list[Record],
    answers: Answers,
    rule: Rule | None,
    level: float = 0.95,
) -> list[Estimate]:
    """Changes of the mean answers."""
    was, now = _tables(before, after, answers, rule)
    noise = np.diag(pair_noise(steps(before, after, answers)))
    return change_of_means(was, now, noise, level=level)


def _change_of_corrected(before: list[Record], after: list[Record], asked: Asked) -> list[Estimate]:
    """Changes of the mean corrected shares."""
    assert asked.confusion is not None
    was, now = _tables(before, after, asked.answers, asked.rule)
    moved = steps(before, after, asked.answers)
    return change_of_corrected(was, now, moved, asked.confusion)
