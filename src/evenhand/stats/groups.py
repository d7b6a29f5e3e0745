"""Accuracies of groups and what is made of them, their intervals and differences.

Pure functions of arrays.

Notation: G groups, N test images, S trainings ("seeds") judged on the same images, Y classes of the
target, P of the protected attribute. Group `g` is class `g // P` of the target with class `g % P`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenhand.stats.shares import Estimate, score

Floats = NDArray[np.float64]


def group_accuracies(correct: ArrayLike, groups: ArrayLike, count: int) -> Floats:
    """Share of right calls in each group.

    Args:
        correct: `[..., N]` whether each image is called right.
        groups: `[N]` group of each image, 0 to count - 1.
        count: of groups.

    Returns:
        `[..., G]`; NaN for a group without an image.
    """
    correct, groups = np.asarray(correct, dtype=float), np.asarray(groups)
    sizes = np.bincount(groups, minlength=count).astype(float)
    hits = correct @ (groups[:, None] == np.arange(count)).astype(float)
    return np.divide(hits, sizes, out=np.full(hits.shape, np.nan), where=sizes > 0)


def over_seeds(
    values: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    *,
    n: int,
    within: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> Estimate:
    """Mean over trainings, with an interval for other seeds and other test images alike.

    Each training's interval says how sure its number is for other test images; all trainings are
    judged on the same ones, so that averaging does not narrow it. Student's interval of the
    trainings is for other seeds. Both are put together by their squared distances from the mean
    (the method of variance estimates recovery, Zou & Donner 2008), on each side by itself.

    Args:
        values: `[S]`, one number a training.
        lows: `[S]` lower bounds for other test images.
        highs: `[S]` upper bounds.
        n: test images behind the number.
        within: the least and the largest value possible.
        level: nominal coverage.
    """
    x, low, high = (np.asarray(a, dtype=float) for a in (values, lows, highs))
    mean, seeds = float(x.mean()), len(x)
    t = float(stats.t.ppf((1 + level) / 2, seeds - 1)) if seeds > 1 else 0.0
    of_seeds = t**2 * float(x.var(ddof=1)) / seeds if seeds > 1 else 0.0
    below = float(np.sqrt((mean - low.mean()) ** 2 + of_seeds))
    above = float(np.sqrt((high.mean() - mean) ** 2 + of_seeds))
    return Estimate(mean, max(mean - below, within[0]), min(mean + above, within[1]), n, level)


def accuracy_bounds(accuracies: ArrayLike, sizes: ArrayLike, level: float = 0.95) -> Floats:
    """Wilson's bounds of accuracies `[...]` on `sizes` `[...]` images: `[..., 2]`."""
    z = float(stats.norm.ppf((1 + level) / 2))
    p, n = np.broadcast_arrays(np.asarray(accuracies, float), np.asarray(sizes, float))
    bounds = [score(float(a), float(b), z) for a, b in zip(p.ravel(), n.ravel(), strict=True)]
    return np.array(bounds).reshape(*p.shape, 2)


def weighted_bounds(
    accuracies: ArrayLike, sizes: ArrayLike, weights: ArrayLike, level: float = 0.95
) -> Floats:
    """Bounds `[..., 2]` of a weighted mean of groups' accuracies `[..., G]`.

    Wilson's, of as many images as would vary as much as the weighted mean does; all of them, where
    every group is wholly right or wholly wrong.

    Args:
        accuracies: of independent groups.
        sizes: `[G]` images.
        weights: `[G]`, sum 1.
        level: nominal coverage.
    """
    p, n, w = (np.asarray(x, dtype=float) for x in (accuracies, sizes, weights))
    mean, variance = (p * w).sum(-1), (w**2 * p * (1 - p) / n).sum(-1)
    worth = np.divide(
        mean * (1 - mean), variance, out=np.full(mean.shape, n.sum()), where=variance > 1e-12
    )
    return accuracy_bounds(mean, np.clip(worth, 1, n.sum()), level)


def worst_bounds(accuracies: ArrayLike, sizes: ArrayLike, level: float = 0.95) -> Floats:
    """Bounds `[..., 2]` of the least accuracy among G groups `[..., G]`.

    The least of G found accuracies tends to lie below the least of the true ones, and which group
    it is in is not known. The lower bound is the least of the groups' lower bounds: the worst
    group's own is among them, so it holds with their level. The upper one is the least of their
    upper bounds, each taken at 1 - (1 - level)/(2G) instead of 1 - (1 - level)/2, so that all G
    hold at once (Bonferroni).
    """
    p = np.asarray(accuracies, dtype=float)
    together = 1 - (1 - level) / p.shape[-1]
    lows = accuracy_bounds(p, sizes, level)[..., 0].min(-1)
    highs = accuracy_bounds(p, sizes, together)[..., 1].min(-1)
    return np.stack([lows, np.maximum(highs, p.min(-1))], -1)


def interval_by_resampling(
    metric: Callable[[Floats], Floats],
    table: Floats,
    draws: Floats,
    *,
    n: int,
    within: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> Estimate:
    """Mean over trainings of a number made of confusions, for other seeds and other test images.

    Args:
        metric: of confusions `[..., Y, P, Y]` -> `[...]`.
        table: `[S, Y, P, Y]` as found.
        draws: `[DRAWS, S, Y, P, Y]`, of `resampled`.
        n: test images.
        within: the least and the largest value possible.
        level: nominal coverage.
    """
    values = metric(table)
    return _spread(values, metric(draws).mean(-1), n=n, within=within, level=level)


def paired_difference(
    metric: Callable[[Floats], Floats],
    tables: tuple[Floats, Floats],
    draws: tuple[Floats, Floats],
    *,
    n: int,
    level: float = 0.95,
) -> Estimate:
    """Mean over trainings of a number's difference, second less first, on the same test images.

    Trainings of the same seed are a pair, and both see the same images in every resample.

    Args:
        metric: as of `interval_by_resampling`.
        tables: `[S, Y, P, Y]` of both, the same seeds.
        draws: `[DRAWS, S, Y, P, Y]` of both.
        n: test images.
        level: nominal coverage.
    """
    values = metric(tables[1]) - metric(tables[0])
    over_images = (metric(draws[1]) - metric(draws[0])).mean(-1)
    return _spread(values, over_images, n=n, within=(-1.0, 1.0), level=level)


def _spread(
    values: Floats, over_images: Floats, *, n: int, within: tuple[float, float], level: float
) -> Estimate:
    """The mean of values `[S]`, with the variance of seeds and that of resampled images."""
    mean, seeds = float(values.mean()), len(values)
    t = float(stats.t.ppf((1 + level) / 2, seeds - 1)) if seeds > 1 else 0.0
    z = float(stats.norm.ppf((1 + level) / 2))
    of_seeds = t**2 * float(values.var(ddof=1)) / seeds if seeds > 1 else 0.0
    half = float(np.sqrt(of_seeds + z**2 * over_images.var(ddof=1)))
    return Estimate(mean, max(mean - half, within[0]), min(mean + half, within[1]), n, level)
