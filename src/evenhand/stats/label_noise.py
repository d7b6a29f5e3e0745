"""How many labels of a filtered set are wrong, as far as the judge's calibration tells.

Pure functions of arrays.

Notation: K classes; `A[i, j]` is the probability that an image of true class j is called i; `pi`
the true shares of the images that were drawn; `q_c` the share of them that is taken for class c.
An image taken for c is wrong with probability `sum_{j != c} pi_j r_j / q_c` (Bayes), where `r_j`
is the probability that an image of true class j is taken for c. A calibration counts calls,
whatever their confidence. It bounds `r_j` in two ways: by `A[c, j]`, since what is taken is called;
and by `E[p_c^2 | j] / t^2`, since what is taken has a probability of at least t (Markov's
inequality). The smaller bound counts. So the noise stated is an upper bound, up to the sampling
error of the calibration, which the interval holds.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.stats.confusion import Confusion
from evenhand.stats.correction import corrected
from evenhand.stats.shares import Estimate, wilson


def asked_noise(answers: ArrayLike, asked: int, confusion: Confusion) -> Estimate:
    """Share of images that do not show the class that was asked for, before any is left out.

    Args:
        answers: `[K]` sums of the judge's answers to them, as `stats.correction.corrected` takes.
        asked: index of the class.
        confusion: of the judge.
    """
    right = corrected(answers, confusion)[asked]
    if right.value is None or right.low is None or right.high is None:
        return right
    return Estimate(1 - right.value, 1 - right.high, 1 - right.low, right.n)


def taken_noise(
    answers: ArrayLike, taken: int, kept: int, confusion: Confusion, confidence: float = 0.0
) -> Estimate:
    """Share of wrong labels among the images that were taken for a class.

    Args:
        answers: `[K]` sums of the judge's answers to all images drawn.
        taken: index of the class.
        kept: number of images taken for it.
        confusion: of the judge.
        confidence: least probability of an image that is taken.
    """
    drawn, shares = float(np.sum(answers)), corrected(answers, confusion)
    if not kept or not drawn:
        return Estimate(None, None, None, kept)
    q = kept / drawn
    low, high = _bounds(taken, confusion, confidence)
    value = most = 0.0
    for j, share in enumerate(shares):
        if j != taken:
            value += (share.value or 0.0) * low[j] / q
            most += (share.high or 0.0) * high[j] / q
    return Estimate(min(value, 1.0), 0.0, min(max(most, value), 1.0), kept)


def _bounds(
    taken: int, confusion: Confusion, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each true class the chance of being taken for this one: `[K]`, and its upper end."""
    labelled = confusion.labelled
    calls = np.asarray(confusion.counts[taken], dtype=float)
    upper = np.array(
        [wilson(round(k), round(n)).high or 0.0 for k, n in zip(calls, labelled, strict=True)]
    )
    found = calls / labelled
    if confusion.products is not None and confidence:
        squares = confusion.products[:, taken, taken] / confidence**2
        found = np.minimum(found, squares)
        upper = np.minimum(upper, squares + 1.96 * np.sqrt(squares / confidence**2 / labelled))
        upper = np.maximum(upper, found)
    return found, upper


def together(noises: Sequence[Estimate]) -> Estimate:
    """Of labels of several attributes the share in which one at least is wrong.

    The attributes' errors are taken to be independent; the ends of the interval are those where all
    ends are reached together.
    """
    if any(x.value is None for x in noises):
        return Estimate(None, None, None, min((x.n for x in noises), default=0))

    def wrong(values: list[float]) -> float:
        return 1 - math.prod(1 - x for x in values)

    return Estimate(
        wrong([x.value or 0.0 for x in noises]),
        wrong([x.low or 0.0 for x in noises]),
        wrong([x.high or 0.0 for x in noises]),
        min(x.n for x in noises),
    )
