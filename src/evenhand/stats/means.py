"""Means over prompts, for prompts like these, and their changes.

Pure functions of arrays.

A row is a concept: prompts that word one concept are alike, so their mean counts once. In a run of
one concept a row is a wording of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenhand.stats.shares import Estimate, score, shares

FEW = 30  # concepts below which a kind of concept as common as one in ten may well be missing


def effective_sizes(table: ArrayLike, images: float) -> NDArray[np.float64]:
    """How many independent images each class's mean share over prompts is worth, `[K]`.

    `p(1-p)` by the mean's variance.

    Images of one prompt are alike, so they are worth fewer. Where a class was seen in few prompts
    its own spread says little: it is averaged (geometrically, up to half and half where it was seen
    in none) with that of all classes, Rao & Scott's mean design effect (1981). Never more than
    there are images. Where nothing varies at all it lies between the number of prompts (images of a
    prompt are all alike) and that of images (independent). The geometric mean of both is
    taken: whichever holds, it is wrong by the same factor, and no other choice is wrong by less.

    Args:
        table: shares `[m, K]`, m >= 2.
        images: in all.
    """
    table = np.asarray(table, dtype=float)
    m, p = len(table), np.clip(table.mean(0), 0, 1)
    variance, single = table.var(0, ddof=1) / m, p * (1 - p)
    if variance.sum() > 0:
        together, alone = float(single.sum() / variance.sum()), float(images)
    else:
        together = alone = float(np.sqrt(m * max(images, m)))
    own = np.divide(
        single, variance, out=np.full(len(p), alone), where=(variance > 0) & (single > 0)
    )
    weight = (1 + (table > 0).mean(0)) / 2
    return np.clip(own**weight * together ** (1 - weight), 1.0, max(images, m))


def shares_over_prompts(counts: ArrayLike, level: float = 0.95) -> list[Estimate]:
    """`mean_shares` of counts `[m, K]`, one row a concept; rows with nothing seen are left out."""
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts.sum(-1) > 0]
    return mean_shares(shares(counts), float(counts.sum()), level)


def mean_shares(table: ArrayLike, images: float, level: float = 0.95) -> list[Estimate]:
    """Mean share of each class over prompts, with score intervals for prompts like these.

    Wilson's interval of the effective sample size with Student's quantile for m - 1 degrees of
    freedom, as for shares in samples of clusters (Korn & Graubard 1998; Dean & Pagano 2015);
    `eval/bench/coverage` shows what it covers. Intervals by resampling prompts or by Student alone
    are too short and too symmetrical where shares are near 0 or 1.

    Args:
        table: `[m, K]` shares, one row a concept.
        images: seen in all.
        level: nominal coverage of each interval.

    Returns:
        one estimate a class; `n` is the number of rows. One row has Wilson's interval of its
        images.
    """
    table = np.asarray(table, dtype=float)
    m = len(table)
    if m == 0:
        return [Estimate(None, None, None, 0, level)] * table.shape[1]
    if m == 1:
        z = float(stats.norm.ppf((1 + level) / 2))
        return [
            Estimate(float(p), *score(float(p), images, z), round(images), level) for p in table[0]
        ]
    t, sizes = stats.t.ppf((1 + level) / 2, freedom(table)), effective_sizes(table, images)
    return [
        Estimate(float(p), *score(float(p), float(n), float(x)), m, level)
        for p, n, x in zip(table.mean(0), sizes, t, strict=True)
    ]


def freedom(table: ArrayLike) -> NDArray[np.float64]:
    """Degrees of freedom of the spread of each column, `[K]`: at most m - 1, at least 1.

    Where few prompts deviate from all others, the spread hangs on these few and is known badly.
    The variance of a variance grows with the kurtosis (fourth moment over squared second): the
    degrees of freedom are `2 m / (kurtosis - 1)`, about two for every prompt that deviates; m of
    normal numbers.

    Args:
        table: `[m, K]`, m >= 2.
    """
    table = np.asarray(table, dtype=float)
    m, d = len(table), table - table.mean(0)
    second, fourth = np.square(d).mean(0), (d**4).mean(0)
    excess = np.divide(fourth, second**2, out=np.full(len(second), 3.0), where=second > 1e-12) - 1
    return np.clip(2 * m / np.maximum(excess, 1e-12), 1.0, m - 1)


def mean_over_prompts(
    values: ArrayLike,
    *,
    within: tuple[float, float] = (0.0, 1.0),
    images: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean of one number a prompt, with an interval for prompts like these.

    The spread between prompts holds the sampling noise within them, so images are not looked at
    again. The interval is that of `mean_shares`: a number within bounds varies most where each
    prompt lies at one bound or the other. The number of such prompts whose mean would vary as much
    as this one is taken for the sample size (Korn & Graubard 1998). A mean beyond its bounds is set
    to the bound.

    Args:
        values: `[m]`; entries that are None or NaN (nothing seen) are left out.
        within: the least and the largest value possible.
        images: in all; how sure it is where every prompt lies at the same bound.
        level: nominal coverage.

    Returns:
        the estimate; `n` is the number of prompts used. One prompt has no interval, prompts equal
        within the bounds have one of no width.
    """
    x = np.array([v for v in np.asarray(values, dtype=float) if not np.isnan(v)])
    m = len(x)
    if m < 2:
        return Estimate(float(np.clip(x[0], *within)) if m else None, None, None, m, level)
    value, span = float(np.clip(x.mean(), *within)), within[1] - within[0]
    p, variance = (value - within[0]) / span, float(x.var(ddof=1)) / m / span**2
    if variance > 1e-12:
        worth = max(
            p * (1 - p) / variance, m - 1
        )  # the least that numbers within their bounds can be worth
    elif min(p, 1 - p) < 1e-9:
        p, worth = round(p), float(np.sqrt(m * max(images, m)))  # as in `effective_sizes`
    else:
        return Estimate(value, value, value, m, level)
    low, high = score(p, worth, float(stats.t.ppf((1 + level) / 2, m - 1)))
    return Estimate(value, within[0] + span * low, within[0] + span * high, m, level)


def change_of_means(
    before: ArrayLike,
    after: ArrayLike,
    noise: ArrayLike,
    calibration: ArrayLike = 0.0,
    level: float = 0.95,
) -> list[Estimate]:
    """Mean differences, after minus before, of the same m prompts, for prompts like these.

    Student's interval of the prompts' differences. Where prompts changed alike their spread says
    too little: it is never taken to be less than the noise of their images (`pair_noise`), so no
    interval is empty.

    Args:
        before: `[m, K]`, one row a concept.
        after: `[m, K]`, the same concepts.
        noise: `[K]` the least variance of the mean differences, that of their images.
        calibration: `[K]` variance that the calibration adds; it is common to all prompts.
        level: nominal coverage of each interval.
    """
    d = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    m, k = d.shape
    if m == 0:
        return [Estimate(None, None, None, 0, level)] * k
    least = np.broadcast_to(np.asarray(noise, dtype=float), (k,))
    between = np.maximum(d.var(0, ddof=1) / m, least) if m > 1 else least
    total = between + np.broadcast_to(calibration, (k,))
    free = freedom(d) * (total / between) ** 2 if m > 1 else np.full(k, np.inf)
    half = stats.t.ppf((1 + level) / 2, free) * np.sqrt(total)
    return [
        Estimate(float(x), float(max(x - h, -1)), float(min(x + h, 1)), m, level)
        for x, h in zip(d.mean(0), half, strict=True)
    ]


def pair_noise(steps: ArrayLike) -> NDArray[np.float64]:
    """Covariance `[K, K]` of a mean difference by the images alone, with half an image added.

    To each of the four outcomes of a pair (neither, first, second, both) half an image is added
    (Agresti & Min 2005), so that pairs of which none changed do not count as certain.

    Args:
        steps: `[N, K]` the answer after minus the answer before, of each image seen in both runs.
    """
    steps = np.asarray(steps, dtype=float)
    n, k = steps.shape
    added = k / (k - 1) * (np.eye(k) - 1 / k)  # one pair that changed
    return (steps.T @ steps + added) / (n + 2) ** 2


def within_reach(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Bounds of the mean of numbers in 0 to 1 that hold whatever other prompts are like.

    A few prompts cannot show a kind of prompt that none of them is of. These bounds allow for it:
    they suppose nothing of how prompts differ (Gaffke 2005; Learned-Miller & Thomas 2020). They are
    simulated with a fixed seed.

    Args:
        values: `[m]`, each in 0 to 1.
        level: nominal coverage.
    """
    x = np.asarray(values, dtype=float)
    weights = np.random.default_rng(0).dirichlet(np.ones(len(x) + 1), size=4_000)[:, 1:]
    tail = (1 - level) / 2
    low, high = np.quantile(weights @ x, tail), 1 - np.quantile(weights @ (1 - x), tail)
    return float(low), float(high)


def caution(table: ArrayLike, classes: Sequence[str], what: str = "concepts") -> str | None:
    """What a reader must know of intervals from few prompts, in a sentence; None from many.

    Args:
        table: `[m, K]` shares, one row a concept.
        classes: K names.
        what: the rows are called.
    """
    table = np.asarray(table, dtype=float)
    m = len(table)
    if not 1 < m < FEW:
        return None
    missing = 1 - 0.05 ** (1 / m)
    k = int(table.mean(0).argmax())
    low, high = within_reach(table[:, k])
    return (
        f"Few {what} ({m}): the intervals suppose that others differ as these do. A kind of them "
        f"that makes up {missing:.0%} of all may be missing here by chance; whatever it is like, "
        f"the mean share of {classes[k]} lies between {low:.2f} and {high:.2f}."
    )
