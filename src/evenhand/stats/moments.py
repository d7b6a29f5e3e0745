"""What the images of prompts tell of their mean answer and of its square, free of bias.

Pure functions of arrays.

An image is answered by a vector of K numbers: one-hot for a call, or the judge's probabilities. A
prompt has a true mean answer q. The mean of n answers estimates q, but the square of that mean is
too large by chance: the product of the answers of two different images is not. So squares of shares
(`evenhand.stats.squares`) are taken from pairs of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Moments:
    """Estimates without bias of m prompts (or concepts), from the images seen.

    Attributes:
        mean: `[m, K]` of the mean answer q; NaN where nothing was seen.
        pairs: `[m, K, K]` of `q q^T`; NaN where fewer than two images were seen.
        once: `[m]`, 1/n for a prompt of n images: how the noise of the mean shrinks.
        twice: `[m]`, 1/(n(n-1)): how the noise of a square shrinks where q is even.
    """

    mean: NDArray[np.float64]
    pairs: NDArray[np.float64]
    once: NDArray[np.float64]
    twice: NDArray[np.float64]

    def of(self, which: ArrayLike) -> "Moments":
        """Those of some prompts, `[m]` true for each one kept."""
        at = np.flatnonzero(which)
        return Moments(self.mean[at], self.pairs[at], self.once[at], self.twice[at])


def moments(answers: ArrayLike) -> Moments:
    """Of one prompt: m is 1.

    Args:
        answers: `[n, K]` of the images seen.
    """
    a = np.asarray(answers, dtype=float)
    return of_sums(a.sum(0)[None], (a.T @ a)[None], np.array([len(a)]))


def of_counts(counts: ArrayLike) -> Moments:
    """Of calls: `counts` `[m, K]` are images called each class."""
    counts = np.asarray(counts, dtype=float)
    products = np.einsum("mk,kl->mkl", counts, np.eye(counts.shape[1]))
    return of_sums(counts, products, counts.sum(1))


def of_sums(sums: NDArray, products: NDArray, n: NDArray) -> Moments:
    """Of sums of answers.

    Args:
        sums: `[m, K]` of the answers.
        products: `[m, K, K]` sums of `a a^T` over the images.
        n: `[m]` images seen.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        once, twice = 1 / n, 1 / (n * (n - 1.0))
        mean = sums * once[:, None]
        pairs = (np.einsum("mk,ml->mkl", sums, sums) - products) * twice[:, None, None]
    mean[n < 1], pairs[n < 2] = np.nan, np.nan
    return Moments(mean, pairs, once, twice)


def joined(parts: Sequence[Moments]) -> Moments:
    """The prompts of all parts, one after another."""
    return Moments(
        np.concatenate([p.mean for p in parts]),
        np.concatenate([p.pairs for p in parts]),
        np.concatenate([p.once for p in parts]),
        np.concatenate([p.twice for p in parts]),
    )


def over_wordings(groups: Sequence[Moments]) -> Moments:
    """Means over the wordings of each concept: m is the number of groups.

    Wordings without an image, or without a pair of images, are left out of the mean and of the
    pairs respectively.
    """
    return Moments(
        np.stack([_mean(g.mean) for g in groups]),
        np.stack([_mean(g.pairs) for g in groups]),
        np.array([_of_mean(g.once) for g in groups]),
        np.array([_of_mean(g.twice) for g in groups]),
    )


def _mean(values: NDArray) -> NDArray:
    """Mean `[...]` of the rows `[w, ...]` that are known; NaN where none is."""
    known = values[~np.isnan(values).reshape(len(values), -1).any(1)]
    return known.mean(0) if len(known) else np.full(values.shape[1:], np.nan)


def _of_mean(variances: NDArray) -> float:
    """The variance of the mean of w numbers with these variances; infinite ones are left out."""
    known = variances[np.isfinite(variances)]
    return float(known.sum() / len(known) ** 2) if len(known) else np.inf
