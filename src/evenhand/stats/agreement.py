"""How far two classifiers agree about the same images. Pure functions of arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenhand.stats.means import shares_over_prompts
from evenhand.stats.shares import Estimate, wilson


def agreement(tables: Sequence[ArrayLike], level: float = 0.95) -> tuple[Estimate, Estimate]:
    """The share of images of which both say the same, and Cohen's kappa.

    Kappa is `(o - e) / (1 - e)`: o the share on which they agree, e the share on which two
    classifiers would that call as often what these do, by chance. 1: always the same. 0: no more
    than chance.

    Its variance is that of its linear part, summed within each group (one group: over images, as
    Fleiss, Cohen & Everitt, Psychological Bulletin 1969; several: groups are what was drawn), with
    Student's t. Where they always agree, or never, the interval is that of the share of agreement.

    Args:
        tables: for each group of images (those of a concept) the counts `[K, K]`, rows what the
            first calls, columns what the second does.
        level: nominal coverage.

    Returns:
        both without a value where there is no image; kappa, where both call one class only.
    """
    found = np.array([np.asarray(t, dtype=float) for t in tables if np.sum(t) > 0])
    if not len(found):
        nothing = Estimate(None, None, None, 0, level)
        return nothing, nothing
    agreed = np.trace(found, axis1=1, axis2=2)
    total = found.sum((1, 2))
    same = shares_over_prompts(np.column_stack([agreed, total - agreed]), level)[0]
    return same, _kappa(found, level)


def _kappa(tables: NDArray, level: float) -> Estimate:
    """Cohen's kappa of all images of the groups `[G, K, K]` together."""
    n, groups = float(tables.sum()), len(tables)
    p = tables.sum(0) / n
    first, second = p.sum(1), p.sum(0)
    o, e = float(np.trace(p)), float(first @ second)
    if e > 1 - 1e-12:
        return Estimate(None, None, None, int(n), level)
    value = (o - e) / (1 - e)
    if min(o, 1 - o) < 1e-12:
        bound = wilson(round(o * n), round(n), level)
        assert bound.low is not None and bound.high is not None
        low, high = ((x - e) / (1 - e) for x in (bound.low, bound.high))
        return Estimate(value, max(low, -1.0), min(high, 1.0), int(n), level)
    # what an image adds to kappa, by what it is called: first order in its weight
    chance = second[:, None] + first[None, :] - 2 * e
    linear = (np.eye(len(p)) - o) / (1 - e) - (1 - o) / (1 - e) ** 2 * chance
    if groups == 1:
        variance = float((p * linear**2).sum()) / n
        width = float(stats.norm.ppf((1 + level) / 2)) * variance**0.5
    else:
        sums = (tables * linear).sum((1, 2)) / n
        variance = float(np.square(sums).sum()) * groups / (groups - 1)
        width = float(stats.t.ppf((1 + level) / 2, groups - 1)) * variance**0.5
    return Estimate(value, max(value - width, -1.0), min(value + width, 1.0), int(n), level)
