"""Shares, gaps, distances and their intervals.

Pure functions of arrays; no module above is known here.

Notation: K classes, n judged images of one prompt, m prompts, `p` the shares found, `t` the shares
wished for.
"""

import functools
import math
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A number with its interval. `low`/`high` are None where there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    level: float = 0.95

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        interval = (
            "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        )
        return f"{self.value:.2f}{interval}"

    def rounded(self) -> "Estimate":
        """The same to six digits, as reports hold it.

        Raises:
            ValueError: a number that is not finite; what is missing is None.
        """
        numbers = {k: v for k, v in asdict(self).items() if isinstance(v, float)}
        if not all(map(math.isfinite, numbers.values())):
            raise ValueError(f"{self!r} is no estimate: a number is not finite")
        return replace(self, **{k: round(float(v), 6) for k, v in numbers.items()})


def shares(counts: ArrayLike) -> NDArray[np.float64]:
    """Counts `[..., K]` -> shares `[..., K]`.

    Each row sums to 1, or is 0 throughout where nothing was counted.
    """
    counts = np.asarray(counts, dtype=float)
    total = counts.sum(-1, keepdims=True)
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)


def gap(p: ArrayLike) -> NDArray[np.float64]:
    """Mean absolute difference of two classes' shares, `2/(K(K-1)) sum_{i<j} |p_i - p_j|`.

    0: all K classes equally often. The maximum, one class only, is 2/K. It measures distance from
    equality alone: with another target use `total_variation`. A perfectly even generator does not
    score 0 on n images: see `gap_floor`.

    Args:
        p: shares `[..., K]`.

    Source: Shen et al., ICLR 2024 (arXiv 2311.07604), section 4.
    """
    p = np.asarray(p, dtype=float)
    pairs = list(combinations(range(p.shape[-1]), 2))
    return np.mean([np.abs(p[..., i] - p[..., j]) for i, j in pairs], axis=0)


def total_variation(p: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
    """`1/2 sum_k |p_k - t_k|`: the share of images that would have to change class. 0: on target.

    1: disjoint.
    """
    return np.abs(np.asarray(p, dtype=float) - np.asarray(t, dtype=float)).sum(-1) / 2


def fairness_discrepancy(counts: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
    """`||pi - t||_2` corrected for the finite sample: `sqrt(max(FD2_u, 0))`.

    `FD2_u = sum_k (p_k - t_k)^2 - (1 - sum_k p_k^2)/(n - 1)` has mean `||pi - t||^2` for
    multinomial counts.

    Args:
        counts: `[..., K]` counts, each row of n >= 2.
        t: `[K]` target shares.
    """
    p, n = shares(counts), np.asarray(counts).sum(-1)
    squared = np.square(p - np.asarray(t)).sum(-1) - (1 - np.square(p).sum(-1)) / np.maximum(
        n - 1, 1
    )
    return np.sqrt(np.maximum(squared, 0))


@functools.cache
def gap_floor(classes: int, n: int, draws: int = 20_000) -> float:
    """The mean `gap` that an exactly even generator scores on n images of K classes (chance floor).

    Exact for K = 2, simulated with a fixed seed otherwise. `gap_floor(2, 60)` is .103.
    """
    if n <= 0:
        return float(2 / classes)
    if classes == 2:
        k = np.arange(n + 1)
        return float((np.abs(2 * k - n) / n * stats.binom.pmf(k, n, 0.5)).sum())
    counts = np.random.default_rng(0).multinomial(n, np.full(classes, 1 / classes), size=draws)
    return float(gap(counts / n).mean())


@functools.cache
def gap_bias(counts: tuple[int, ...], draws: int = 1_000) -> float:
    """By how much chance is expected to raise the `gap` of these counts: its bootstrap bias.

    The mean gap of multinomial draws from the shares found, less the gap found; exact for K = 2,
    simulated with a fixed seed otherwise. Near equality it removes a part of the bias only, since
    the shares found are themselves uneven by chance.
    """
    found, n = shares(counts), int(sum(counts))
    if n == 0:
        return 0.0
    if len(counts) == 2:
        k = np.arange(n + 1)
        return float((np.abs(2 * k - n) / n * stats.binom.pmf(k, n, found[0])).sum() - gap(found))
    again = np.random.default_rng(0).multinomial(n, found, size=draws)
    return float(gap(again / n).mean() - gap(found))


def distance_floor(t: ArrayLike, n: int, draws: int = 20_000) -> float:
    """The mean `total_variation` of a generator exactly on target t, on n images (simulated)."""
    counts = np.random.default_rng(0).multinomial(max(n, 1), np.asarray(t) / np.sum(t), size=draws)
    return float(total_variation(counts / max(n, 1), t).mean())


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927). n = 0 gives no value."""
    if n == 0:
        return Estimate(None, None, None, 0, level)
    return Estimate(
        successes / n, *_score(successes / n, n, float(stats.norm.ppf((1 + level) / 2))), n, level
    )


def _score(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's bounds of a share p of n."""
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float((centre - half) / (1 + z * z / n))), min(
        1.0, float((centre + half) / (1 + z * z / n))
    )


def effective_sizes(table: ArrayLike, images: float) -> NDArray[np.float64]:
    """How many independent images each class's mean share over prompts is worth, `[K]`.

    `p(1-p)` by the mean's variance.

    Images of one prompt are alike, so they are worth fewer. Where a class was seen in few prompts
    its own spread says little: it is averaged (geometrically, up to half and half where it was seen
    in none) with that of all classes, Rao & Scott's mean design effect (1981). Never more than
    there are images; where nothing varies at all, between the numbers of prompts and of images
    (geometric mean).

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
    """Mean share of each class over prompts, with score intervals for prompts like these.

    Wilson's interval of the effective sample size with Student's quantile for m - 1 degrees of
    freedom, as for shares in samples of clusters (Korn & Graubard 1998; Dean & Pagano 2015);
    `eval/bench/coverage.py` shows what it covers. Intervals by resampling prompts or by Student
    alone are too short and too symmetrical where shares are near 0 or 1.

    Args:
        counts: `[m, K]`; prompts with nothing seen are left out.
        level: nominal coverage of each interval.

    Returns:
        one estimate a class; `n` is the number of prompts used. One prompt has Wilson's interval of
        its images.
    """
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts.sum(-1) > 0]
    m, table = len(counts), shares(counts)
    if m < 2:
        return [
            wilson(int(c), int(counts.sum()), level)
            for c in (counts[0] if m else np.zeros(counts.shape[-1]))
        ]
    t, sizes = float(stats.t.ppf((1 + level) / 2, m - 1)), effective_sizes(table, counts.sum())
    return [
        Estimate(float(p), *_score(float(p), n, t), m, level)
        for p, n in zip(table.mean(0), sizes, strict=True)
    ]


def mean_over_prompts(
    values: ArrayLike,
    *,
    within: tuple[float, float] = (0.0, 1.0),
    images: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean of one number a prompt, with an interval for prompts like these.

    The spread between prompts holds the sampling noise within them, so images are not looked at
    again. The interval is that of `shares_over_prompts`: a number within bounds varies most where
    all prompts lie at one bound or the other, and is worth as many of such prompts as its variance
    says (Korn & Graubard 1998); `eval/bench/coverage.py` shows what it covers. A mean beyond its
    bounds, as numbers less their bias may have, is set to the bound.

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
    low, high = _score(p, worth, float(stats.t.ppf((1 + level) / 2, m - 1)))
    return Estimate(value, within[0] + span * low, within[0] + span * high, m, level)
