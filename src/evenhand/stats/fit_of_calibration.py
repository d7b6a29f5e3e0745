"""Does a classifier behave on these images as it did on the images of its calibration?

A correction (`evenhand.stats.correction`) takes that for granted. Pure functions of arrays.

Notation, as there: an image's answer `a` `[K]` is the classifier's probabilities; `A[:, j]` is the
mean answer to labelled images of class j, q the mean answer to the images measured. Solving
`A r = q` uses up what the mean answer tells. What is left over, and can be checked:

- the **doubt** of an answer, `1 - sum_k a_k^2`: 0 where it is sure of a class, `1 - 1/K` where it
  knows nothing. Another domain (blur, another age) makes a classifier less sure, or surer;
- the **calls**, the most probable class: shares counted by calls and shares by probabilities must
  be explained by the same r.

Both are means over images, and linear in the mixture r, so a right calibration predicts them:
`M r`, where `M[:, j]` are the labelled images' means. For each image the remainder
`e = (doubt, calls) - M A^-1 a` then has the mean 0 in each class, whatever the shares are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenhand.stats.confusion import Confusion

LEVEL = 0.01  # of right calibrations that are refused, nominally
LEAST = 0.005  # a smaller remainder moves no share by a point


@dataclass(frozen=True)
class Fit:
    """How far images are from what a calibration predicts of them.

    Attributes:
        n: images that were looked at.
        doubt: their mean doubt, 0 to `1 - 1/K`.
        expected: the mean doubt that the calibration predicts at the shares found.
        z: the distance in standard errors, as a normal deviate of the same probability; at least 0.
        holds: whether the calibration holds for these images.
    """

    n: int
    doubt: float
    expected: float
    z: float
    holds: bool


def fit_of(answers: ArrayLike, confusion: Confusion) -> Fit | None:
    """Compares the answers to images with what the calibration predicts of them.

    The remainders' covariance S is that of the images themselves. Their mean has the variance S/n
    from the images and at most `S max_j(r_j/m_j)` from the m_j labelled images of each class
    (`sum_j r_j^2 V_j/m_j`, where `sum_j r_j V_j = S`). Its squared distance from 0 in these units
    is held against chi square with K degrees of freedom, the doubt and K - 1 calls.

    The doubt is looked at alone as well: a classifier that was nearly sure of every labelled image
    has a variance of at most `(1 - 1/K)` times the doubt expected, since no doubt is larger than
    `1 - 1/K`. Where that is less than S says, a few doubtful images tell much. Of both chances the
    smaller counts, doubled (Bonferroni).

    Args:
        answers: probabilities `[N, K]` given to the images seen; rows sum to 1.
        confusion: of the classifier, in the same order of classes.

    Returns:
        None where there is no image, or the calibration knows only calls: nothing is left over
        that could be checked.
    """
    a = np.asarray(answers, dtype=float)
    if confusion.products is None or len(a) == 0:
        return None
    k, n = a.shape[1], len(a)
    doubt = 1 - np.square(a).sum(1)
    found = np.column_stack([doubt, np.eye(k)[a.argmax(1)][:, :-1]])
    rest = found - a @ _predicted(confusion).T
    mean = rest.mean(0)
    expected = max(float(doubt.mean() - mean[0]), 0.0)
    r = np.clip(confusion.inverse @ a.mean(0), 0, None)
    noise = 1 / n + float((r / r.sum() / confusion.labelled).max())
    # half an image at the end of the scale, so that a sample without doubt knows there may be some
    spread = np.cov(rest.T, bias=True).reshape(k, k) + np.eye(k) * 0.125 / n
    together = float(stats.chi2.sf(mean @ np.linalg.solve(spread * noise, mean), k))
    sure = (1 - 1 / k) * expected + 0.125 / n
    alone = 2 * float(stats.norm.sf(abs(mean[0]) / np.sqrt(min(sure, spread[0, 0]) * noise)))
    chance = min(1.0, 2 * min(together, alone))
    z = float(stats.norm.isf(max(chance, 1e-300) / 2))
    return Fit(
        n=n,
        doubt=round(float(doubt.mean()), 6),
        expected=round(expected, 6),
        z=round(max(z, 0.0), 3),
        holds=chance >= LEVEL or bool(np.abs(mean).max() < LEAST),
    )


def _predicted(confusion: Confusion) -> NDArray[np.float64]:
    """`M A^-1` `[K, K]`: doubt and all calls but the last, from an answer."""
    assert confusion.products is not None
    seen = confusion.matrix.sum(0)
    doubt = seen - np.trace(confusion.products, axis1=1, axis2=2)
    calls = confusion.counts[:-1] / confusion.labelled
    return np.vstack([doubt, calls[:-1]]) @ confusion.inverse
