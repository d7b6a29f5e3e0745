"""Chance floors: what a generator exactly on target scores by chance, on as many images.

Numbers as they are found hold chance. A number below its floor says nothing against the generator.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import stats

from evenhand.stats.shares import gap, total_variation


@functools.cache
def gap_floor(classes: int, n: int, draws: int = 20_000) -> float:
    """The mean `gap` that an exactly even generator scores on n images of K classes (chance floor).

    Exact for K = 2, simulated with a fixed seed otherwise. `gap_floor(2, 60)` is .103.

    Args:
        classes: K.
        n: images, at least 1.
        draws: of the simulation.
    """
    if classes == 2:
        k = np.arange(n + 1)
        return float((np.abs(2 * k - n) / n * stats.binom.pmf(k, n, 0.5)).sum())
    counts = np.random.default_rng(0).multinomial(n, np.full(classes, 1 / classes), size=draws)
    return float(gap(counts / n).mean())


@functools.cache
def distance_floor(target: tuple[float, ...], n: int, draws: int = 20_000) -> float:
    """The mean `total_variation` of a generator exactly on target, on n images (simulated)."""
    t = np.asarray(target) / np.sum(target)
    counts = np.random.default_rng(0).multinomial(n, t, size=draws)
    return float(total_variation(counts / n, t).mean())


def worst_floor(classes: int, sizes: Sequence[int], draws: int = 1_000) -> float:
    """The mean of the tenth of the prompts with the largest gaps, of an exactly even generator.

    Args:
        classes: K.
        sizes: images of each prompt, at least 1 each.
        draws: of the simulation.
    """
    rng, even = np.random.default_rng(0), np.full(classes, 1 / classes)
    found = np.stack([gap(rng.multinomial(n, even, size=draws) / n) for n in sizes], 1)
    return float(np.mean([worst_tenth(row) for row in found]))


def worst_tenth(gaps: Sequence[float] | np.ndarray) -> float:
    """The mean of the tenth with the largest values, rounded up."""
    ordered = np.sort(np.asarray(gaps))[::-1]
    return float(ordered[: -(-len(ordered) // 10)].mean())
