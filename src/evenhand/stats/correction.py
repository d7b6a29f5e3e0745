"""Shares corrected for the error of the classifier that judged them, with intervals.

Pure functions of arrays.

Notation: K classes; `A[i, j]` is the probability that an image of true class j is called i (Rogan &
Gladen 1978; for generators CLEAM, Teo et al., NeurIPS 2023, for K = 2). Columns may sum to less
than 1: the rest is not seen at all. `w_k` is row k of the inverse of A, q the shares of calls among
the images seen.

Where probabilities were calibrated they take the place of calls (probabilistic adjusted count:
Bella et al., ICDM 2010): an image is answered by a vector, one-hot for a call, `A[:, j]` is the
mean answer to true class j and q the mean answer. An image that is nearly a tie then no longer
counts as a whole person, and the same images tell more.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenhand.stats.confusion import Confusion
from evenhand.stats.means import change_of_means, effective_sizes, freedom, pair_noise
from evenhand.stats.shares import Estimate, shares


def corrected(counts: ArrayLike, confusion: Confusion, level: float = 0.95) -> list[Estimate]:
    """The true shares of one prompt, with score intervals that hold the error of both samples.

    The interval of class k holds each share x whose expected calls lie within t standard errors of
    those found. The variance at x is that of the n images and of the labelled images, `[q(1-q)/n +
    sum_j p_j^2 Var(A_j)] / Delta^2` for K = 2; the other classes share 1 - x as they were found.
    With a classifier that never errs this is Wilson's interval.

    The variance of the labelled images is itself estimated from few: t is Student's quantile, with
    Welch & Satterthwaite's degrees of freedom.

    Args:
        counts: `[K]` sums of the answers: images called each class, or sums of probabilities where
            the confusion knows these.
        confusion: of the classifier.
        level: nominal coverage of each interval.
    """
    counts = np.asarray(counts, dtype=float)
    n = round(counts.sum())
    if n == 0:
        return [Estimate(None, None, None, 0, level)] * len(counts)
    p = confusion.solve(counts / n)
    value, found = confusion.project(p), []
    for k in range(len(p)):
        here, labels = _variance(k, value[k : k + 1], value, n, confusion)
        t = _quantile(level, here[0], labels[0], confusion)

        def margin(x: NDArray, k: int = k, t: float = t) -> NDArray:
            images, labels = _variance(k, x, value, n, confusion)
            return t * np.sqrt(images + labels.sum(1))

        found.append(Estimate(float(value[k]), *_held(p[k], value[k], margin), n, level))
    return found


def _quantile(
    level: float, images: float, labels: NDArray, confusion: Confusion, freedom: float = np.inf
) -> float:
    """Student's, of a sum of variances (Welch & Satterthwaite).

    Args:
        level: of the interval.
        images: variance by the images, or by the prompts.
        labels: variance by the labelled images of each class, `[K]`.
        confusion: of the judge.
        freedom: degrees of freedom of the images' variance.
    """
    each = images**2 / freedom + (labels**2 / np.maximum(confusion.seen - 1, 1)).sum()
    total = images + labels.sum()
    return float(stats.t.ppf((1 + level) / 2, max(total**2 / each, 1.0) if each > 0 else np.inf))


def _held(p: float, value: float, margin: Callable[[NDArray], NDArray]) -> tuple[float, float]:
    """The least and greatest share x with `|p - x| <= margin(x)` or `|value - x| <= margin(x)`.

    `value` is the share nearest to p. They differ where no share explains the calls: all of 100
    called women, though one in ten is miscalled, says that the classifier errs less here than in
    its calibration. The interval is then that around the nearest share, too.
    """
    grid = np.linspace(0, 1, 1001)
    wide = margin(grid)
    inside = (np.abs(p - grid) <= wide) | (np.abs(value - grid) <= wide)
    held = np.append(grid[inside], value)
    return float(held.min()), float(held.max())


def _variance(
    k: int, x: NDArray, value: NDArray, n: float, confusion: Confusion
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the share of class k where its truth is x: by the images, `[G]`, and by labels.

    The second is that of the labelled images of each true class, `[G, K]`.

    The others keep their proportions.

    The corrected share minus x is `u(x) . q` with `u(x) = (w_k - x sum_j w_j) / S`, S the share of
    images with a person among those seen (1 where everything is seen), so both samples' variances
    are quadratic in x.
    """
    others = np.delete(value, k)
    others = others / others.sum() if others.sum() else np.full(len(others), 1 / len(others))
    p = np.insert(np.outer(1 - x, others), k, x, axis=1)
    called = p @ confusion.matrix.T
    q = called / called.sum(1, keepdims=True)
    r = p / called.sum(1, keepdims=True)  # persons a seen image: A r = q
    rows = np.stack([confusion.inverse[k], confusion.inverse.sum(0)])
    both = np.stack([np.ones_like(x), -x], 1) / r.sum(1, keepdims=True)  # u = both @ rows
    products = both[:, [0, 0, 1, 1]] * both[:, [0, 1, 0, 1]]

    def forms(matrices: NDArray) -> NDArray:
        """`u^T M u` for each x and each of the matrices `[K, K, K]`: `[G, K]`."""
        return products @ (rows @ matrices @ rows.T).reshape(-1, 4).T

    images = (r * forms(confusion.squares)).sum(1) - np.square((both * (q @ rows.T)).sum(1))
    return images.clip(0) / n, np.square(r) * forms(confusion.scatter)


def corrected_over_prompts(
    counts: ArrayLike, confusion: Confusion, level: float = 0.95
) -> list[Estimate]:
    """`corrected_means` of sums of answers `[m, K]`, one row a concept."""
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts.sum(-1) > 0]
    return corrected_means(shares(counts), float(counts.sum()), confusion, level)


def corrected_means(
    answers: ArrayLike, images: float, confusion: Confusion, level: float = 0.95
) -> list[Estimate]:
    """Mean true shares over prompts, with intervals for prompts like these.

    The spread between the prompts' corrected shares holds the noise of their images
    (`means.mean_shares`); the error of the calibration is common to all and added, with Welch &
    Satterthwaite's degrees of freedom.

    Args:
        answers: `[m, K]` mean answers, one row a concept.
        images: seen in all.
        confusion: of the classifier.
        level: nominal coverage of each interval.
    """
    answers = np.asarray(answers, dtype=float)
    m = len(answers)
    if m < 2:
        one = answers[0] * images if m else np.zeros(len(confusion.matrix))
        return corrected(one, confusion, level)
    each = confusion.solve(answers)
    mean, sizes = each.mean(0), effective_sizes(each, images)
    value, free, found = confusion.project(mean), freedom(each), []
    for k, n in enumerate(sizes):
        between = max(value[k] * (1 - value[k]) / n, 1e-12)
        _, labels = _variance(k, value[k : k + 1], value, np.inf, confusion)
        t = _quantile(level, between, labels[0], confusion, float(free[k]))

        def margin(x: NDArray, k: int = k, n: float = n, t: float = t) -> NDArray:
            labels = _variance(k, x, value, np.inf, confusion)[1].sum(1)
            return t * np.sqrt(x * (1 - x) / n + labels)

        found.append(Estimate(float(value[k]), *_held(mean[k], value[k], margin), m, level))
    return found


def change_of_corrected(
    before: ArrayLike,
    after: ArrayLike,
    steps: ArrayLike,
    confusion: Confusion,
    level: float = 0.95,
) -> list[Estimate]:
    """Changes of the mean corrected shares of the same prompts, as `means.change_of_means`.

    What the judge gets wrong alike before and after is not in a change. An error of the calibration
    makes the change look smaller or larger by one factor for all prompts.

    Args:
        before: `[m, K]` mean answers, one row a concept.
        after: of the same concepts.
        steps: `[N, K]` the answer after minus the answer before, of each image seen in both runs.
        confusion: of the classifier.
        level: nominal coverage of each interval.
    """
    was, now = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if not len(was):
        return change_of_means(was, now, 0.0, level=level)
    people = [x.mean(0) @ confusion.inverse.T for x in (was, now)]
    size = (people[0].sum() + people[1].sum()) / 2
    middle = (people[0] + people[1]) / (2 * size)
    rows = (confusion.inverse - np.outer(middle, confusion.inverse.sum(0))) / size
    moved = np.square(people[1] - people[0])
    labels = np.diag(rows @ np.einsum("j,jkl->kl", moved, confusion.scatter) @ rows.T)
    images = np.diag(rows @ pair_noise(steps) @ rows.T)
    return change_of_means(confusion.solve(was), confusion.solve(now), images, labels, level)
