"""Shares that somebody watches as they grow, and how many images are left to draw.

Pure functions of arrays.
"""

import numpy as np
from numpy.typing import ArrayLike

from evenhand.stats.shares import Estimate
from evenhand.stats.stopping import confidence_sequence

MOST = 10**6  # images; more than anybody watches


def watched(counts: ArrayLike, level: float = 0.95) -> list[Estimate]:
    """The share of each class, with an interval that holds at all times, however often one looks.

    That of `confidence_sequence` for the class against all others, so that each interval by itself
    holds its share with probability `level`.

    Args:
        counts: `[K]` so far.
        level: of each interval.
    """
    counts = np.asarray(counts, dtype=float)
    return [confidence_sequence([c, counts.sum() - c], level)[0] for c in counts]


def more_images(counts: ArrayLike, width: float, level: float = 0.95) -> int:
    """How many more images until every share is known to +- width, if the shares stay as they are.

    Known by `watched`, so whoever watches may stop there, and anywhere else. Where nothing was
    counted yet, shares that are all alike are assumed.

    Args:
        counts: `[K]` so far.
        width: half of the widest interval's width, above 0.
        level: of the intervals.

    Returns:
        0 where they are known that well; at most `MOST`.
    """
    counts = np.asarray(counts, dtype=float)
    n = int(counts.sum())
    shares = counts / n if n else np.full(len(counts), 1 / len(counts))

    def known(images: int) -> bool:
        found = watched(shares * images, level)
        return max((e.high or 0) - (e.low or 0) for e in found) <= 2 * width

    if n and known(n):
        return 0
    low, high = n, max(2 * n, 8)
    while high < MOST and not known(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if known(middle) else (middle, high)
    return min(high, MOST) - n
