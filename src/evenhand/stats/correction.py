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

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from evenhand.core.errors import UserError
from evenhand.stats.shares import Estimate, effective_sizes

WORST_CONDITION = 10.0


@dataclass(frozen=True)
class Confusion:
    """How a classifier answers labelled images of each class.

    Attributes:
        counts: `[K + 1, K]`: images of true class j that were called i; the last row counts those
            not seen.
        means: `[K, K]`: mean probability of class i given to images of true class j, 0 if not seen;
            None if only calls are known.
        products: `[K, K, K]`: for each true class the mean of `p p^T`, p the probabilities; None
            with `means`.

    Raises:
        UserError: a class without labelled images, or a classifier that confuses so much that
            nothing can be corrected (condition number of the calls' A above 10, or probabilities
            that do not depend on the class).
    """

    counts: NDArray
    means: NDArray | None = None
    products: NDArray | None = None

    def __post_init__(self) -> None:
        if not self.labelled.all():
            raise UserError(
                f"calibration: no labelled image of class {int(np.argmin(self.labelled))}; every "
                "class needs some"
            )
        calls = self.counts[:-1] / self.labelled
        if (
            any(np.linalg.matrix_rank(a) < len(a) for a in (calls, self.matrix))
            or np.linalg.cond(calls) > WORST_CONDITION
        ):
            raise UserError(
                "calibration: the classifier confuses the classes too much to correct for it "
                "(condition number "
                f"{np.linalg.cond(calls):.3g}, at most {WORST_CONDITION:g}); use a better "
                "classifier or merge classes"
            )

    @functools.cached_property
    def labelled(self) -> NDArray[np.float64]:
        """Labelled images of each class, `[K]`."""
        return np.asarray(self.counts, dtype=float).sum(0)

    @functools.cached_property
    def matrix(self) -> NDArray[np.float64]:
        """A: the mean answer to images of each true class, `[K, K]`."""
        return np.asarray(self.counts[:-1] / self.labelled if self.means is None else self.means)

    @functools.cached_property
    def inverse(self) -> NDArray[np.floating]:
        """Of A, `[K, K]`."""
        return np.linalg.inv(self.matrix)

    @functools.cached_property
    def squares(self) -> NDArray[np.float64]:
        """Mean of `a a^T` for each true class, a an image's answer, `[K, K, K]`."""
        return (
            np.stack([np.diag(c) for c in self.matrix.T])
            if self.products is None
            else self.products
        )

    @property
    def accuracy(self) -> float:
        """Mean over classes of the share of labelled images called right.

        Those not seen are wrong.
        """
        return float((np.diag(self.counts) / self.labelled).mean())

    def solve(self, q: ArrayLike) -> NDArray[np.float64]:
        """True shares `[..., K]` that explain shares of calls `[..., K]`, summing to 1.

        Noise may put some below 0 or above 1.
        """
        r = np.asarray(q, dtype=float) @ self.inverse.T
        return r / r.sum(-1, keepdims=True)

    def project(self, p: NDArray) -> NDArray[np.float64]:
        """The shares on the simplex whose calls are nearest to those of p.

        `argmin ||A x - A p||` (CLEAM's least squares).
        """
        if (p >= 0).all():
            return p
        heavy = 1e3  # holds the sum at 1
        rows = np.vstack([self.matrix, np.full(len(p), heavy)])
        found = optimize.nnls(rows, np.append(self.matrix @ p, heavy))[0]
        return found / found.sum()

    @functools.cached_property
    def scatter(self) -> NDArray[np.float64]:
        """Covariance `[K, K, K]` of the mean answer to each true class, half an image a call added.

        Without these a class that was always called right in calibration would count as known for
        certain.
        """
        m = self.labelled
        total = m + 0.5 * len(self.counts)
        a = (self.matrix * m + 0.5) / total
        squares = (self.squares * m[:, None, None] + 0.5 * np.eye(len(m))) / total[:, None, None]
        return (squares - np.einsum("ij,kj->jik", a, a)) / m[:, None, None]


def corrected(counts: ArrayLike, confusion: Confusion, level: float = 0.95) -> list[Estimate]:
    """The true shares of one prompt, with score intervals that hold the error of both samples.

    The interval of class k holds each share x whose expected calls lie within z standard errors of
    those found. The variance at x is that of the n images and of the labelled images, `[q(1-q)/n +
    sum_j p_j^2 Var(A_j)] / Delta^2` for K = 2; the other classes share 1 - x as they were found.
    With a classifier that never errs this is Wilson's interval.

    Args:
        counts: `[K]` sums of the answers: images called each class, or sums of probabilities where
            the confusion knows these.
        confusion: of the classifier.
        level: nominal coverage of each interval.
    """
    counts = np.asarray(counts, dtype=float)
    n, z = round(counts.sum()), stats.norm.ppf((1 + level) / 2)
    if n == 0:
        return [Estimate(None, None, None, 0, level)] * len(counts)
    p = confusion.solve(counts / n)
    value = confusion.project(p)
    return [
        Estimate(
            float(value[k]),
            *_held(
                p[k], value[k], lambda x, k=k: z * np.sqrt(_variance(k, x, value, n, confusion))
            ),
            n,
            level,
        )
        for k in range(len(p))
    ]


def _held(p: float, value: float, margin: Callable[[NDArray], NDArray]) -> tuple[float, float]:
    """The least and greatest share x with `|p - x| <= margin(x)`, widened to hold the value.

    Calls that no share explains (all of 100 women, where one in ten is miscalled) say that the
    classifier errs less here than in its calibration: the interval is then that around the nearest
    share.
    """
    grid = np.linspace(0, 1, 1001)
    wide = margin(grid)
    inside = np.abs(p - grid) <= wide
    held = np.append(grid[inside if inside.any() else np.abs(value - grid) <= wide], value)
    return float(held.min()), float(held.max())


def _variance(
    k: int, x: NDArray, value: NDArray, n: float, confusion: Confusion
) -> NDArray[np.float64]:
    """Variance of the share of class k where its truth is x, `[G]`.

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
    return images / n + (np.square(r) * forms(confusion.scatter)).sum(1)


def corrected_over_prompts(
    counts: ArrayLike, confusion: Confusion, level: float = 0.95
) -> list[Estimate]:
    """Mean true shares over prompts, with intervals for prompts like these.

    The spread between the prompts' corrected shares holds the noise of their images
    (`statistics.shares_over_prompts`); the error of the calibration is common to all and added,
    with Welch & Satterthwaite's degrees of freedom.

    Args:
        counts: `[m, K]` sums of the answers, as for `corrected`; prompts with nothing seen are left
            out.
        confusion: of the classifier.
        level: nominal coverage of each interval.
    """
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts.sum(-1) > 0]
    m = len(counts)
    if m < 2:
        return corrected(counts[0] if m else np.zeros(len(confusion.matrix)), confusion, level)
    each = confusion.solve(counts / counts.sum(-1, keepdims=True))
    mean, sizes = each.mean(0), effective_sizes(each, counts.sum())
    value, found = confusion.project(mean), []
    for k, n in enumerate(sizes):
        between = max(value[k] * (1 - value[k]) / n, 1e-12)
        total = between + float(_variance(k, value[k : k + 1], value, np.inf, confusion)[0])
        t = float(stats.t.ppf((1 + level) / 2, (m - 1) * (total / between) ** 2))

        def margin(x: NDArray, k: int = k, n: float = n, t: float = t) -> NDArray:
            return t * np.sqrt(x * (1 - x) / n + _variance(k, x, value, np.inf, confusion))

        found.append(Estimate(float(value[k]), *_held(mean[k], value[k], margin), m, level))
    return found
