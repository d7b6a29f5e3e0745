"""How a judge errs: the matrix of its answers to labelled images.

Pure functions of arrays; `evenhand.stats.correction` says what is done with it.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from evenhand.core.errors import UserError

WORST_ERROR = 0.4  # of an even share: what is less sure is no correction
FEW_LABELLED = 50  # of a class: from fewer the intervals are known to be too narrow


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
        UserError: a class without a labelled image that was seen, or a judge that confuses so much
            that nothing can be corrected: its answers do not depend on the class, or from so few
            labelled images an even share would be known to +- 80 % of itself only.
    """

    counts: NDArray
    means: NDArray | None = None
    products: NDArray | None = None

    def __post_init__(self) -> None:
        if not self.seen.all():
            raise UserError(
                f"calibration: no labelled image of class {int(np.argmin(self.seen))} was seen; "
                "every class needs some"
            )
        calls = self.counts[:-1] / self.labelled
        alike = any(np.linalg.matrix_rank(a / a.sum(0)) < len(a) for a in (calls, self.matrix))
        if alike or self.error > WORST_ERROR:
            found = "its answers are alike" if alike else f"+- {2 * self.error:.0%} of a share"
            raise UserError(
                f"calibration: the classifier confuses the classes too much to correct for it "
                f"({found}; at most +- {2 * WORST_ERROR:.0%}); label more images, use a better "
                "classifier or merge classes"
            )

    @functools.cached_property
    def labelled(self) -> NDArray[np.float64]:
        """Labelled images of each class, `[K]`."""
        return np.asarray(self.counts, dtype=float).sum(0)

    @functools.cached_property
    def seen(self) -> NDArray[np.float64]:
        """Labelled images of each class in which the judge found something to judge, `[K]`."""
        return np.asarray(self.counts[:-1], dtype=float).sum(0)

    @functools.cached_property
    def error(self) -> float:
        """The standard error, by the calibration alone, of an even share, as a part of it.

        That of the class for which it is largest.
        """
        k = len(self.matrix)
        people = np.full(k, 1 / k)
        people = people / (self.matrix @ people).sum()
        return float(np.sqrt(np.diag(self.noise(people)).max()) * k)

    def noise(self, people: NDArray) -> NDArray[np.float64]:
        """Covariance `[K, K]` of corrected shares by the error of the calibration.

        Args:
            people: `[K]` of each class per image seen.
        """
        shares = people / people.sum()
        rows = (self.inverse - np.outer(shares, self.inverse.sum(0))) / people.sum()
        return rows @ np.einsum("j,jkl->kl", people**2, self.scatter) @ rows.T

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
        """True shares `[..., K]` that explain shares of calls `[..., K]`.

        Noise may put some below 0 or above 1. They sum to 1 but where noise would put the number
        of people per image seen beyond `people_seen`.
        """
        r = np.asarray(q, dtype=float) @ self.inverse.T
        return r / r.sum(-1, keepdims=True).clip(*self.people_seen)

    @functools.cached_property
    def people_seen(self) -> tuple[float, float]:
        """The least and the most people per image seen: of the class most and least often seen."""
        each = 1 / self.matrix.sum(0)
        return float(each.min()), float(each.max())

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
