"""How many images: planning, stopping early, and intervals that may be looked at any time.

Pure functions of arrays.
"""

import bisect
import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from evenhand.stats.shares import Estimate

LOOK = 8  # images between two looks
FINEST = 0.03  # the least width whose ways are counted; `stopping_level` says why that is enough


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
    inner = stopping_level(width, every, level)
    return n > 0 and bool(_width(counts, n, inner).max() <= 2 * width)


@functools.cache
def known_well(n: int, width: float, every: int, level: float = 0.95) -> NDArray[np.bool_]:
    """Whether a share of k of n images is known to +- width at a look, for each k, `[n + 1]`."""
    return _width(np.arange(n + 1), n, stopping_level(width, every, level)) <= 2 * width


def at_the_stop(
    successes: int, n: int, width: float, *, every: int, level: float = 0.95
) -> Estimate:
    """The share of successes, with the interval that covers `level` after `enough`'s rule."""
    if n == 0:
        return Estimate(None, None, None, 0, level)
    low, high = _exact(np.array([successes]), n, stopping_level(width, every, level))
    return Estimate(successes / n, float(low[0]), float(high[0]), n, level)


@dataclass(frozen=True)
class Stops:
    """The states in which a prompt of two classes may stop, S of them.

    Attributes:
        n: images, `[S]`.
        successes: of the first class, `[S]`.
        ways: logarithm of the number of orders of images that lead there, `[S]`.
        low, high: bounds of the share that are given there, `[S]`.
    """

    n: NDArray[np.int_]
    successes: NDArray[np.int_]
    ways: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def chances(self, truths: NDArray) -> NDArray[np.float64]:
        """P(the prompt stops there), `[G, S]`, for true shares `[G]` between 0 and 1."""
        yes = np.log(truths)[:, None] * self.successes
        no = np.log1p(-truths)[:, None] * (self.n - self.successes)
        return np.exp(self.ways + yes + no)


@functools.cache
def _stops(width: float, every: int, inner: float) -> Stops:
    """Every way in which the counts of two classes can run, by recursion over the looks.

    Args:
        width: half of the interval's width at which a prompt stops.
        every: images between looks.
        inner: level of the interval that is held to the width.
    """
    batch = stats.binom.pmf(np.arange(every + 1), every, 0.5)
    alive, n, found = np.ones(1), 0, []
    while alive.any():
        n += every
        alive = np.convolve(alive, batch)  # share of all 2^n orders that are still going on
        states = np.flatnonzero(alive[: n // 2 + 1])  # the others are their mirror image
        narrow = _width(states[: 2 * every], n, inner) <= 2 * width
        if narrow.all():  # they stop from the outermost inwards
            narrow = _width(states, n, inner) <= 2 * width
        here = states[: len(narrow)][narrow]
        here = np.unique(np.concatenate([here, n - here]))
        found.append((np.full(len(here), n), here, np.log(alive[here]) + n * math.log(2)))
        alive[here] = 0
    sizes, successes, ways = (np.concatenate(x) for x in zip(*found, strict=True))
    return Stops(sizes, successes, ways, *_exact(successes, sizes, inner))


@functools.cache
def stopping_level(width: float, every: int, level: float = 0.95) -> float:
    """The inner level at which the interval at the stop covers `level`, whatever the share.

    Exact for two classes, by counting all ways in which the counts can run (Frey 2010, "Fixed-width
    sequential confidence intervals for a proportion", The American Statistician 64), here with
    Clopper & Pearson's interval. Coverage jumps down only where the true share leaves one of the
    intervals, so it is least beside an end of one of them: it is taken there and nowhere else.

    The finer the width, the more images a prompt has at its stop and the less its moment matters:
    below +- 0.03 the level of +- 0.03 is taken. At +- 0.02 that level covers .953 at the least.

    Args:
        width: half of the interval's width at which a prompt stops.
        every: images between looks.
        level: coverage wished for.
    """
    width, inner = max(width, FINEST), level
    while least_coverage(width, every, inner) < level:
        inner += (1 - level) / 50
    return inner


def least_coverage(width: float, every: int, inner: float) -> float:
    """The least P(the interval at the stop holds the truth) of all true shares, two classes."""
    stops = _stops(width, every, inner)
    least = 1.0
    for ends, beside in ((stops.low, "below"), (stops.high, "above")):
        truths = np.unique(ends[(ends > 0) & (ends <= 0.5)])
        if not len(truths):
            continue
        p = truths[:, None]
        held = (
            (stops.low < p) & (p <= stops.high)
            if beside == "below"
            else (stops.low <= p) & (p < stops.high)
        )
        least = min(least, float((stops.chances(truths) * held).sum(1).min()))
    return least


def coverage_of_stopping(
    truths: ArrayLike, width: float, every: int, inner: float
) -> NDArray[np.float64]:
    """P(the interval at the stop holds the truth), for each truth `[G]`, with two classes."""
    stops, p = _stops(width, every, inner), np.asarray(truths, dtype=float)
    held = (stops.low <= p[:, None]) & (p[:, None] <= stops.high)
    return (stops.chances(p) * held).sum(1)


def typical_stop(truth: float, width: float, *, every: int, level: float = 0.95) -> float:
    """The mean number of images at which `enough` stops, for a share of two classes.

    Exact; for widths below `FINEST`, whose stops vary little, the look at which a prompt whose
    images show the share exactly would stop.
    """
    inner = stopping_level(width, every, level)
    if width < FINEST:
        looks = -(-images_for(width, inner) // every) + 2  # by then any prompt has stopped

        def wide(look: int) -> bool:
            n = look * every
            return bool(_width(np.array([round(truth * n)]), n, inner)[0] > 2 * width)

        return float(
            every * bisect.bisect_left(range(1, looks), True, key=lambda x: not wide(x)) + every
        )
    stops = _stops(width, every, inner)
    return float((stops.chances(np.array([truth])) * stops.n).sum())


def _width(successes: NDArray, n: int, level: float) -> NDArray[np.float64]:
    low, high = _exact(successes, n, level)
    return high - low


def _exact(
    successes: NDArray, n: int | NDArray, level: float
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


def half_width_over_prompts(spread: float, prompts: int, level: float = 0.95) -> float:
    """Half the width of the mean's Student interval for prompts like these.

    That is with so many images of each prompt that its share is known exactly.
    """
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
