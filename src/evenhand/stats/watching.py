"""How many images are left to draw for somebody who watches the shares and may stop at any time.

Pure functions of arrays.
"""

import numpy as np
from numpy.typing import ArrayLike

from evenhand.stats.stopping import confidence_sequence

MOST = 10**6  # images; more than anybody watches


def widest(counts: ArrayLike, level: float = 0.95) -> float:
    """The distance of the farthest bound of `confidence_sequence` from its share; 1 without images.

    Args:
        counts: `[K]` so far.
        level: of the intervals.
    """
    found = confidence_sequence(counts, level)
    ends = [(e.value - (e.low or 0), (e.high or 0) - e.value) for e in found if e.value is not None]
    return max((max(pair) for pair in ends), default=1.0)


def more_images(counts: ArrayLike, width: float, level: float = 0.95) -> int:
    """How many more images until every share is known to +- width, if the shares stay as they are.

    Known by `confidence_sequence`, so whoever watches may stop there, and anywhere else. Where
    nothing was counted yet, shares that are all alike are assumed.

    Args:
        counts: `[K]` so far.
        width: greatest distance of a bound from its share, above 0.
        level: of the intervals.

    Returns:
        0 where they are known that well; at most `MOST`.
    """
    counts = np.asarray(counts, dtype=float)
    n = int(counts.sum())
    shares = counts / n if n else np.full(len(counts), 1 / len(counts))
    low, high = n, max(2 * n, 8)
    if n and widest(counts, level) <= width:
        return 0
    while widest(shares * high, level) > width and high < MOST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if widest(shares * middle, level) > width:
            low = middle
        else:
            high = middle
    return min(high, MOST) - n
