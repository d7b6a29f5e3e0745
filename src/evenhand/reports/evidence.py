"""Records -> what they tell of shares and squares, one row a concept. No torch.

Here is decided what counts as one: prompts that word one concept do. Prompts that stopped early
(`measure --until`) are estimated as `evenhand.stats.after_stopping` says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.core.attributes import Attribute
from evenhand.core.records import Record
from evenhand.reports.tally import by_concept, by_prompt
from evenhand.stats.after_stopping import first_look, moments_after
from evenhand.stats.moments import Moments, joined, moments, over_wordings

Answers = Callable[
    [list[Record]], NDArray
]  # [N, K] of N records; NaN where an image is not counted


@dataclass(frozen=True)
class Rule:
    """When a prompt of a run with `until` stops: the attributes that are watched, and how."""

    attributes: Sequence[Attribute]
    until: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What the records of several prompts tell.

    Attributes:
        found: one row a concept; of one concept, one row a wording.
        images: that count, in all.
        rows_are: what a row is: `concepts`, or `wordings` of one concept.
        concepts: of each row.
    """

    found: Moments
    images: int
    rows_are: str
    concepts: list[str]

    @property
    def table(self) -> NDArray[np.float64]:
        """Mean answers `[m, K]` of the rows in which anything counts."""
        return self.found.mean[~np.isnan(self.found.mean).any(1)]


def evidence(rows: list[Record], answers: Answers, rule: Rule | None = None) -> Evidence:
    """What records tell of their answers.

    Args:
        rows: of one or more prompts, at least one record.
        answers: of the records of one prompt.
        rule: by which the prompts stopped; None where they did not.
    """
    concepts = by_concept(rows)
    groups = [list(by_prompt(group).values()) for group in concepts]
    if len(groups) == 1:
        groups = [[prompt] for prompt in groups[0]]
    found = [over_wordings([joined([_of(p, answers(p), rule) for p in g])]) for g in groups]
    images = sum(int((~np.isnan(answers(p)).any(1)).sum()) for g in groups for p in g)
    named = [g[0][0].concept for g in groups]
    return Evidence(joined(found), images, "wordings" if len(concepts) == 1 else "concepts", named)


def _of(prompt: list[Record], answers: NDArray, rule: Rule | None) -> Moments:
    """Of one prompt."""
    counted = ~np.isnan(answers).any(1)
    if rule is None:
        return moments(answers[counted])
    classes = [[_place(a, r) for r in prompt] for a in rule.attributes]
    told, kinds = np.unique(np.array([*classes, counted]).T, axis=0, return_inverse=True)
    first = first_look(np.bincount(kinds), list(told.T[:-1]), **rule.until)
    return moments_after(np.nan_to_num(answers), kinds, told[:, -1] == 1, first)


def _place(attribute: Attribute, record: Record) -> int:
    """The place of the class perceived; -1 where nothing was seen."""
    perceived = attribute.perceived(record.perceived)
    return -1 if perceived is None else attribute.classes.index(perceived)


def calls(attribute: Attribute, among: list[int] | None = None) -> Answers:
    """Each image is answered by its class as called; images of other classes do not count."""
    places = list(range(len(attribute.classes))) if among is None else among

    def answers(rows: list[Record]) -> NDArray:
        found = np.array([_place(attribute, r) for r in rows])
        table = (found[:, None] == np.array(places)).astype(float)
        table[table.sum(1) == 0] = np.nan
        return table

    return answers


def probabilities(attribute: Attribute) -> Answers:
    """Each image seen is answered by the judge's probabilities, which sum to 1."""

    def answers(rows: list[Record]) -> NDArray:
        table = np.full((len(rows), len(attribute.classes)), np.nan)
        for i, r in enumerate(rows):
            if r.seen:
                table[i] = [r.probs[attribute.name][c] for c in attribute.classes]
        return table / table.sum(1, keepdims=True)

    return answers


def passes(test: Callable[[Record], bool]) -> Answers:
    """Each image is answered by whether it passes a test: yes, no."""
    return lambda rows: np.array([[float(test(r)), float(not test(r))] for r in rows])


def steps(before: list[Record], after: list[Record], answers: Answers) -> NDArray[np.float64]:
    """Answers after minus answers before, `[N, K]`, of the images that count in both.

    Args:
        before: records.
        after: of the same images, in the same order.
        answers: of records.
    """
    difference = answers(after) - answers(before)
    return difference[~np.isnan(difference).any(1)]
