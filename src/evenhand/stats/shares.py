"""Shares, gaps, distances and their intervals.

Pure functions of arrays; no module above is known here.

Notation: K classes, n judged images of one prompt, m prompts, `p` the shares found, `t` the shares
wished for.
"""

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


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927). n = 0 gives no value."""
    if n == 0:
        return Estimate(None, None, None, 0, level)
    return Estimate(
        successes / n, *score(successes / n, n, float(stats.norm.ppf((1 + level) / 2))), n, level
    )


def score(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's bounds of a share p of n."""
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float((centre - half) / (1 + z * z / n))), min(
        1.0, float((centre + half) / (1 + z * z / n))
    )
