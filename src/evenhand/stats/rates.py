"""How often each class is called in each group, and what is made of it.

Pure functions of arrays; notation as in `evenhand.stats.groups`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.stats.groups import group_accuracies

Floats = NDArray[np.float64]
DRAWS = 1_000  # resamples of the test images


def resampled(
    called: ArrayLike, groups: ArrayLike, shape: tuple[int, int], seed: int = 0
) -> Floats:
    """Confusions of test images drawn anew within their groups.

    The draws are the same for every classifier of the same images, so that differences are paired.

    Args:
        called: `[S, N]` class called by each training.
        groups: `[N]`.
        shape: (Y, P).
        seed: of the draws.

    Returns:
        `[DRAWS, S, Y, P, Y]`: share of each class called in each group.
    """
    called, groups = np.asarray(called), np.asarray(groups)
    y, p = shape
    rng, found = np.random.default_rng(seed), np.zeros((DRAWS, len(called), y * p, y))
    answers = (called[..., None] == np.arange(y)).astype(float)
    for g in range(y * p):
        rows = np.flatnonzero(groups == g)
        drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=DRAWS)
        of_group = answers[:, rows].swapaxes(0, 1).reshape(len(rows), -1)
        found[:, :, g] = (drawn / len(rows) @ of_group).reshape(DRAWS, len(called), y)
    return found.reshape(DRAWS, len(called), y, p, y)


def confusions(called: ArrayLike, groups: ArrayLike, shape: tuple[int, int]) -> Floats:
    """Share `[S, Y, P, Y]` of each class called in each group, of `called` `[S, N]`."""
    called = np.asarray(called)
    y, p = shape
    each = [group_accuracies(called == k, groups, y * p) for k in range(y)]
    return np.stack(each, -1).reshape(len(called), y, p, y)


def accuracies_of(table: Floats) -> Floats:
    """Accuracies `[..., G]` of confusions `[..., Y, P, Y]`."""
    right = np.einsum("...ypy->...yp", table)
    return right.reshape(*right.shape[:-2], -1)


def equalized_odds(table: Floats, sizes: ArrayLike, *, how: str) -> Floats:
    """Largest differences between protected classes in how often a class is called.

    For a class c of the target these are taken among images that are c (true positive rate) and
    among those that are not (false positive rate). 0: the same rates for all; 1: never and always.

    Args:
        table: `[..., Y, P, Y]` confusions.
        sizes: `[Y, P]` images of each group.
        how: `mean` of both differences (as AIM-Fair reports it; fairlearn's `agg="mean"`), or the
            larger one, `max` (fairlearn's default). Of two classes c is the second; of more each is
            c in turn, and the mean or the largest is taken of all.

    Source: Hardt et al., NeurIPS 2016.
    """
    y, n = table.shape[-1], np.asarray(sizes, dtype=float)
    found = []
    for c in [1] if y == 2 else range(y):
        others = [k for k in range(y) if k != c]
        called = table[..., c]  # [..., Y, P]
        negative = (called[..., others, :] * n[others]).sum(-2) / n[others].sum(0)
        rates = (called[..., c, :], negative)
        found.append(np.stack([np.ptp(rate, -1) for rate in rates], -1))
    both = np.stack(found, -2)
    return both.mean((-1, -2)) if how == "mean" else both.max((-1, -2))


def demographic_parity(table: Floats, sizes: ArrayLike) -> Floats:
    """Largest difference between protected classes in how often a class is called at all.

    0: the same for all. It is no error rate: where the classes of the target are not equally
    frequent in the protected classes, a classifier that is always right is not at 0.

    Args:
        table: `[..., Y, P, Y]` confusions.
        sizes: `[Y, P]` images of each group.
    """
    n = np.asarray(sizes, dtype=float)
    called = (table * n[..., None]).sum(-3) / n.sum(0)[:, None]
    differences = np.ptp(called, axis=-2)
    return differences[..., 1] if differences.shape[-1] == 2 else differences.max(-1)


def calibration_error(sure: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, on average.

    Images are put into bins of equal width by the probability of the class that is called; the
    difference of mean confidence and accuracy of each is weighted by its images. 0: of the images
    called with a probability of p, a share of p is right. It is never quite 0 on few images.

    Args:
        sure: `[N]` probability of the class that is called.
        correct: `[N]`.
        bins: of the probability.

    Source: Guo et al., ICML 2017 (arXiv 1706.04599), equation 5.
    """
    sure, correct = np.asarray(sure, dtype=float), np.asarray(correct, dtype=float)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    sums = [np.bincount(place, weights=x, minlength=bins) for x in (sure, correct)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(sure))
