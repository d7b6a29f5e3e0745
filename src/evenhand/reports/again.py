"""Does a second measurement of the same prompts, from other seeds, agree with the first? No torch.

Prompts are the same in both, so only the images can have made a difference: every interval here is
of images alone. To the estimators the prompts are wordings of one concept, which is the only one.
The intervals hold together (Bonferroni): where one excludes 0, the numbers do not agree.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evenhand.core.records import Record
from evenhand.core.schema import Strict
from evenhand.reports.changes import Comparison
from evenhand.reports.models import AttributeReport, Measured, Number, PromptReport, Report
from evenhand.reports.tally import splits_of
from evenhand.stats.means import change_of_means
from evenhand.stats.moments import Moments, joined, of_counts, over_wordings
from evenhand.stats.roots import change_of_roots
from evenhand.stats.shares import Estimate
from evenhand.stats.squares import distance_from, unevenness

LEVEL = 0.95  # of all intervals together
Difference = Callable[[float], Estimate]  # of its level
Texts = dict[str, set[str]]  # the prompts of each split


class Again(Strict):
    """One number, measured twice.

    Attributes:
        subject, what: which.
        run: `after` (with the adapter) or `before` (of the base model).
        first, second: what was found.
        difference: second less first, with its interval.
    """

    subject: str
    what: str
    run: str
    first: Number | None
    second: Number | None
    difference: Measured

    @property
    def agrees(self) -> bool:
        """Whether chance explains the difference; a number that one of them lacks does not."""
        found = self.difference
        if self.first is None or self.second is None:
            return self.first == self.second
        return found.low is None or found.high is None or found.low <= 0 <= found.high


def again(first: Comparison, second: Comparison, records: list[Record]) -> list[Again]:
    """Compares what both have: gaps, distances, shares, what explicit prompts keep, and the rest.

    Numbers "as found" hold chance, which depends on how many images there are; the same numbers
    without it are compared. A change is the difference of two that are.

    Args:
        first: a comparison of a model without and with an adapter.
        second: another of the same prompts and the same judge, from other seeds.
        records: of one of the runs of the second.
    """
    texts = {s: {r.prompt for r in rows} for s, rows in splits_of(records).items()}
    found = [("before", twice) for twice in _numbers(first.before, second.before, texts)]
    found += [("after", twice) for twice in _numbers(first.after, second.after, texts)]
    level = 1 - (1 - LEVEL) / max(len(found), 1)
    return [
        Again(
            subject=twice.subject,
            what=twice.what,
            run=run,
            first=twice.values[0],
            second=twice.values[1],
            difference=twice.difference(level),
        )
        for run, twice in found
    ]


@dataclass(frozen=True)
class _Twice:
    """A number of two reports, and its difference."""

    subject: str
    what: str
    values: Sequence[float | None]
    difference: Difference


def _numbers(a: Report, b: Report, texts: Texts) -> Iterator[_Twice]:
    """Every number that both reports have."""
    for name, old in a.attributes.items():
        new = b.attributes.get(name)
        if new is None or old.classes != new.classes or old.contrast != new.contrast:
            continue
        for split, prompts in texts.items():
            if split in old.splits and split in new.splits:
                yield from _of_split(name, split, old, new, prompts)
        if old.explicit and new.explicit:
            sizes = _explicit_images(old, a), _explicit_images(new, b)
            kept = old.explicit.all.value, new.explicit.all.value
            what = "keep the class they say"
            yield _Twice(f"{name}, explicit prompts", what, kept, _rate(kept, sizes))
    for split in (s for s in a.concept_fidelity if s in b.concept_fidelity):
        asked = a.concept_fidelity[split].value, b.concept_fidelity[split].value
        sizes = _images(a, split), _images(b, split)
        concept = str(a.run.settings.get("concept"))
        yield _Twice(concept, f"as asked, {split}", asked, _rate(asked, sizes))


def _of_split(
    name: str, split: str, old: AttributeReport, new: AttributeReport, texts: set[str]
) -> Iterator[_Twice]:
    """Those of one attribute in one split."""
    subject, entries = f"{name}, {split}", (old.splits[split], new.splits[split])
    both = texts & {p.prompt for p in old.prompts} & {p.prompt for p in new.prompts}
    among = [old.classes.index(c) for c in old.contrast]
    was, now = (_moments(x, both) for x in (old, new))
    even = [_moments(x, both, among) for x in (old, new)]

    def gap(level: float) -> Estimate:
        return change_of_roots(even[0], even[1], unevenness(len(among)), level=level)

    yield _Twice(subject, f"gap {old.among}", [x.gap.value for x in entries], gap)
    distances = [x.distance.value for x in entries if x.distance]
    if old.target and old.target == new.target and len(distances) == 2:
        target = distance_from(old.target)

        def distance(level: float) -> Estimate:
            return change_of_roots(was, now, target, level=level)

        yield _Twice(subject, "distance to target", distances, distance)
    noise = _noise(was, now)
    for i, c in enumerate(old.classes):

        def share(level: float, i: int = i) -> Estimate:
            return change_of_means(was.mean, now.mean, noise, level=level)[i]

        yield _Twice(subject, f"share {c}", [x.shares[c].value for x in entries], share)
    unseen, sizes = [x.unseen.value for x in entries], [x.images for x in entries]
    yield _Twice(subject, "not seen", unseen, _rate(unseen, sizes))


def _moments(entry: AttributeReport, texts: set[str], among: list[int] | None = None) -> Moments:
    """Of the calls in the images of some prompts, one row: its interval is of images alone."""
    concepts: dict[str, list[Moments]] = {}
    for prompt in entry.prompts:
        if prompt.prompt in texts:
            found = _counts(prompt, entry.classes)
            found = found if among is None else found[among]
            concepts.setdefault(prompt.concept, []).append(of_counts(found[None]))
    wordings = [over_wordings([joined(found)]) for found in concepts.values()]
    return over_wordings([joined(wordings)])


def _counts(prompt: PromptReport, classes: list[str]) -> NDArray[np.float64]:
    """How many of a prompt's images were called each class."""
    return np.array([round((prompt.shares[c].value or 0.0) * prompt.seen) for c in classes], float)


def _noise(was: Moments, now: Moments) -> NDArray[np.float64]:
    """Variance `[K]` of the difference of two mean shares by their images, half an image added.

    A prompt's images vary by `p (1 - p)`, whose mean over prompts both runs tell: they are held to
    be alike.
    """
    of_one = [
        np.clip(x.mean[0] - np.diagonal(np.nan_to_num(x.pairs[0])), 0, None) for x in (was, now)
    ]
    sizes = np.array([was.once[0], now.once[0]])
    both = np.average(of_one, axis=0, weights=1 / np.maximum(sizes, 1e-12))
    return (both + sizes.min() / 2) * sizes.sum()


def _rate(pair: Sequence[float | None], sizes: Sequence[int]) -> Difference:
    """The difference of two shares of images, half an image added."""
    p, n = [x or 0.0 for x in pair], [max(size, 1) for size in sizes]
    both = (p[0] * n[0] + p[1] * n[1] + 0.5) / (sum(n) + 1)
    noise = [both * (1 - both) * (1 / n[0] + 1 / n[1])]
    return lambda level: change_of_means([[p[0]]], [[p[1]]], noise, level=level)[0]


def _images(report: Report, split: str) -> int:
    """How many images a split has."""
    return max(x.splits[split].images for x in report.attributes.values() if split in x.splits)


def _explicit_images(entry: AttributeReport, report: Report) -> int:
    """Images of prompts that say a class; older reports only say how many of each prompt."""
    assert entry.explicit
    if entry.explicit.images is not None:
        return entry.explicit.images
    said = [x for x in entry.explicit.classes.values() if x.value is not None]
    return sum(x.n for x in said) * report.run.settings["explicit_images"]
