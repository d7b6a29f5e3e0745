"""How many images: planning, stopping early, and intervals that may be looked at any time.

Pure functions of arrays.
"""

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from evenhand.stats.shares import Estimate

LOOK = 8  # images between two looks


def half_width(successes: ArrayLike, n: int, level: float = 0.95) -> NDArray[np.float64]:
    """Half the width of Wilson's interval, for an array of successes of n."""
    z, p = stats.norm.ppf((1 + level) / 2), np.asarray(successes, dtype=float) / n
    return z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)


@functools.cache
def images_for(width: float, level: float = 0.95) -> int:
    """The least number of images whose Wilson interval is at most +- width, whatever the share."""
    n = max(1, int((stats.norm.ppf((1 + level) / 2) / (2 * width)) ** 2) - 10)
    while half_width([n // 2], n, level)[0] > width:
        n += 1
    return n


def enough(counts: ArrayLike, width: float, *, every: int, level: float = 0.95) -> bool:
    """Whether a prompt with counts `[K]` may stop: every share is known to +- width.

    Looking often and stopping at a favourable moment costs coverage, so the interval held to
    `width`, and given at the stop, has a stricter level inside (`stopping_level`).
    """
    counts = np.asarray(counts)
    n = int(counts.sum())
    if n == 0:
        return False
    low, high = _exact(counts, n, stopping_level(width, every, level))
    return bool((high - low).max() <= 2 * width)


def at_the_stop(
    successes: int, n: int, width: float, *, every: int, level: float = 0.95
) -> Estimate:
    """The share of successes, with the interval that covers `level` after `enough`'s rule."""
    if n == 0:
        return Estimate(None, None, None, 0, level)
    low, high = _exact(np.array([successes]), n, stopping_level(width, every, level))
    return Estimate(successes / n, float(low[0]), float(high[0]), n, level)


@functools.cache
def stopping_level(width: float, every: int, level: float = 0.95) -> float:
    """The inner level at which the interval at the stop covers `level`, whatever the share.

    Exact for two classes, by recursion over all ways in which the counts can run (Frey 2010,
    "Fixed-width sequential confidence intervals for a proportion", The American Statistician 64),
    here with Clopper & Pearson's interval.

    Args:
        width: half of the interval's width at which a prompt stops.
        every: images between looks.
        level: coverage wished for.
    """
    truths, inner = (
        np.concatenate([np.geomspace(1e-4, 0.05, 60), np.linspace(0.051, 0.5, 200)]),
        level,
    )
    while coverage_of_stopping(truths, width, every, inner).min() < level:
        inner += (1 - level) / 50
    return inner


def coverage_of_stopping(
    truths: ArrayLike, width: float, every: int, inner: float
) -> NDArray[np.float64]:
    """P(the interval at the stop holds the truth), for each truth `[G]`, with two classes."""
    return _run(np.asarray(truths, dtype=float), width, every, inner)[0]


def _run(truths: NDArray, width: float, every: int, inner: float) -> tuple[NDArray, NDArray]:
    """Coverage and mean number of images at the stop, for each truth `[G]`.

    They are summed by recursion over all ways in which the counts can run.
    """
    batch = stats.binom.pmf(np.arange(every + 1)[:, None], every, truths)  # [every + 1, G]
    alive, covered, images, n = (
        np.ones((1, len(truths))),
        np.zeros(len(truths)),
        np.zeros(len(truths)),
        0,
    )
    while alive.max() > 1e-12:
        n += every
        images += every * alive.sum(0)
        after = np.zeros((n + 1, len(truths)))
        for s in range(every + 1):
            after[s : s + len(alive)] += alive * batch[s]
        low, high = _exact(np.arange(n + 1), n, inner)
        stops = high - low <= 2 * width
        held = (low[stops, None] <= truths) & (truths <= high[stops, None])
        covered += (after[stops] * held).sum(0)
        after[stops] = 0
        alive = after
    return covered, images


def _exact(
    successes: NDArray, n: int, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clopper & Pearson's bounds (1934) for an array of successes of n."""
    tail = (1 - level) / 2
    low = np.where(
        successes > 0, special.betaincinv(np.maximum(successes, 1), n - successes + 1, tail), 0.0
    )
    high = np.where(
        successes < n,
        special.betaincinv(successes + 1, np.maximum(n - successes, 1), 1 - tail),
        1.0,
    )
    return low, high


def confidence_sequence(counts: ArrayLike, level: float = 0.95) -> list[Estimate]:
    """Shares with intervals that hold at all times at once, however often one looks.

    Robbins' mixture: the truths p at which the Dirichlet-multinomial (prior 1/2) explains the
    counts no more than 1/(1 - level) times better than p does; each class's interval is that set's
    shadow. For K = 2 the beta-binomial one. For counts pooled over prompts it holds after every
    full round of the prompts as well: by the inequality of arithmetic and geometric means the ratio
    stays a supermartingale under the mean of the prompts' shares.

    Args:
        counts: `[K]` so far.
        level: P(the true shares are never outside).
    """
    counts = np.asarray(counts, dtype=float)
    n, k = counts.sum(), len(counts)
    if n == 0:
        return [Estimate(None, None, None, 0, level)] * k
    mixture = special.gammaln(counts + 0.5).sum() - special.gammaln(n + k / 2)
    mixture += special.gammaln(k / 2) - k * special.gammaln(0.5)
    found = []
    for c in counts:
        others = special.xlogy(counts, counts / max(n - c, 1)).sum() - special.xlogy(
            c, c / max(n - c, 1)
        )
        limit = mixture + math.log(1 - level) - others

        def excess(p: float, c: float = c, limit: float = limit) -> float:
            return float(special.xlogy(c, p) + special.xlogy(n - c, 1 - p)) - limit

        share = c / n
        low = optimize.root_scalar(excess, bracket=(1e-300, share)).root if c > 0 else 0.0
        high = optimize.root_scalar(excess, bracket=(share, 1 - 1e-16)).root if c < n else 1.0
        found.append(Estimate(float(share), float(low), float(high), int(n), level))
    return found


def typical_stop(truth: float, width: float, *, every: int, level: float = 0.95) -> float:
    """The mean number of images at which `enough` stops, for a share of two classes (exact)."""
    return float(_run(np.array([truth]), width, every, stopping_level(width, every, level))[1][0])


def half_width_over_prompts(spread: float, prompts: int, level: float = 0.95) -> float:
    """Half the width of the mean's Student interval for prompts like these, images without end."""
    return (
        float(stats.t.ppf((1 + level) / 2, prompts - 1) * spread / math.sqrt(prompts))
        if prompts > 1
        else math.inf
    )


def prompts_for(width: float, spread: float, level: float = 0.95) -> int:
    """The least number of prompts at which `half_width_over_prompts` is at most `width`."""
    prompts = 2
    while half_width_over_prompts(spread, prompts, level) > width:
        prompts += 1
    return prompts
