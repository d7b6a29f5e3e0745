"""Gap and distance with chance removed: roots of mean squares, their intervals and changes.

Pure functions of arrays.

A square is `X = d^T B d`, where d is a prompt's true shares less those it is held against. Found
shares are uneven by chance even where the true ones are even, so the square of a found difference
is too large; `evenhand.stats.moments` has estimates without this bias. These are averaged over
prompts, and the root is taken last: the root mean square is 0 for an even generator, whatever the
number of images. For two classes and n images `X = (p1 - p2)^2 - 4 p1 p2/(n - 1)`.

With a calibration the shares are `R q / sum(R q)`, where R holds rows of the inverse of the judge's
confusion matrix (`evenhand.stats.correction`) and q is the mean answer; the noise of the
calibration is removed from the square and added to the interval.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evenhand.stats.confusion import Confusion
from evenhand.stats.moments import Moments


@dataclass(frozen=True)
class Form:
    """The square that is taken of shares.

    Attributes:
        weights: B, `[C, C]`.
        target: what shares are held against, `[C]`, sum 1.
        largest: the square of a prompt with one class only, the worst one.
    """

    weights: NDArray[np.float64]
    target: NDArray[np.float64]
    largest: float


def unevenness(classes: int) -> Form:
    """The mean over pairs of classes of the square of the difference of their shares.

    0: all equally often. One class only: 2/K. Its root for two classes is the gap `|p1 - p2|`.
    """
    even = np.full(classes, 1 / classes)
    return Form(2 / (classes - 1) * (np.eye(classes) - 1 / classes), even, 2 / classes)


def distance_from(target: ArrayLike) -> Form:
    """Half the sum of the squares of `p_k - t_k`: its root is the distance to a target.

    0: on target; 1: one class only, where another one only was asked for. For two classes the root
    is the total variation; times the root of 2 it is the fairness discrepancy (`||p - t||`) of
    Teo et al.
    """
    t = np.asarray(target, dtype=float)
    t = t / t.sum()
    return Form(np.eye(len(t)) / 2, t, float((1 - 2 * t.min() + np.square(t).sum()) / 2))


@dataclass(frozen=True)
class Squares:
    """A square of every prompt, and how sure their mean is.

    Attributes:
        form: which square.
        each: `[m]` without bias; single ones may be below 0.
        at_zero: variance of each prompt's square where the true one is 0 (mean over prompts).
        slope: the least by which that variance grows with the true square.
        reach: the square of a prompt whose images are all called alike, at which the images have no
            noise: the largest one possible, or beyond it where the judge errs.
        calibration: the same three of the calibration's part in the mean: its variance at 0, the
            most by which it grows with the square, and its variance here.
        gradient: `[K, K]`: row j is how the mean depends on the mean answer to class j.
        known: the confusion matrix; None where calls are taken as they are.
    """

    form: Form
    each: NDArray[np.float64]
    at_zero: float
    slope: float
    reach: float
    calibration: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gradient: NDArray[np.float64] | None = None
    known: Confusion | None = None

    @property
    def mean(self) -> float:
        """Over prompts; chance may put it below 0."""
        return float(self.each.mean())

    @property
    def spread(self) -> float:
        """Variance of the mean by the prompts' own spread."""
        m = len(self.each)
        return float(self.each.var(ddof=1) / m) if m > 1 else self.at_zero + self.slope * self.mean


def squares(
    found: Moments,
    form: Form,
    confusion: Confusion | None = None,
    among: list[int] | None = None,
) -> Squares | None:
    """The squares of prompts; None where no prompt has two images seen.

    Args:
        found: of the prompts' answers.
        form: which square.
        confusion: of the judge, if its errors are to be corrected.
        among: the classes whose shares are meant, all where None; only with a confusion, otherwise
            the answers are of these classes alone.
    """
    kept = ~np.isnan(found.pairs).any((1, 2))
    if not kept.any():
        return None
    mean, pairs = found.mean[kept], found.pairs[kept]
    once, twice = float(found.once[kept].mean()), float(found.twice[kept].mean())
    t, among = form.target, None if among is None or len(among) == mean.shape[1] else among
    if confusion is None:
        centred = np.eye(len(t)) - t[:, None]
        g = centred.T @ form.weights @ centred
        noise = g @ (np.diag(t) - np.outer(t, t))
        return Squares(
            form, np.einsum("kl,mlk->m", g, pairs), *_noise(noise, once, twice), form.largest
        )
    rows = confusion.inverse if among is None else confusion.inverse[among]
    persons = rows.sum(0)  # sum(R q): people of these classes per image seen
    centred = rows - np.outer(t, persons)
    g = centred.T @ form.weights @ centred
    bounds = confusion.people_seen if among is None else (0.05, np.inf)
    scale = np.clip(mean @ persons, *bounds) ** 2
    truths = np.einsum("jk,mkl,jl->mj", confusion.inverse, pairs, confusion.inverse)
    chance = truths.clip(0) @ np.einsum("kl,jlk->j", g, confusion.scatter)
    each = (np.einsum("kl,mlk->m", g, pairs) - chance) / scale
    gradient = np.einsum("m,jk,mkl,ln->jn", 1 / scale, confusion.inverse, pairs, g) / len(scale)
    at = _on_target(mean.mean(0), t, confusion, among)
    called = confusion.matrix @ at
    here = (persons @ called) ** 2
    images = np.einsum("j,jkl->kl", at, confusion.squares) - np.outer(called, called)
    labels = np.einsum("j,jkl->kl", at**2, confusion.scatter)
    zero, most = _noise(g @ labels / here, 1.0, 1.0)
    now = 4 * float(np.einsum("jk,jkl,jl->", gradient, confusion.scatter, gradient))
    reach = max(form.largest, float(np.diag(g).max()) / here)
    noise = _noise(g @ images / here, once, twice)
    return Squares(form, each, *noise, reach, (zero, most, now), gradient, confusion)


def _noise(noise: NDArray, once: float, twice: float) -> tuple[float, float]:
    """Variance of a square whose truth is 0, and its growth with the truth.

    Args:
        noise: `B Cov`, the form by the covariance of one answer.
        once: 1/n.
        twice: 1/(n(n-1)).
    """
    largest = max(float(np.linalg.eigvals(noise).real.max()), 0.0)
    return 2 * twice * float(np.trace(noise @ noise)), 4 * once * largest


def _on_target(
    answers: NDArray, t: NDArray, confusion: Confusion, among: list[int] | None
) -> NDArray[np.float64]:
    """People of each class per image seen, `[K]`, where the classes meant are exactly on target."""
    p = confusion.project(confusion.solve(answers))
    if among is None:
        p = t
    else:
        p = p.copy()
        p[among] = t * max(p[among].sum(), 0.05)
        p = p / p.sum()
    return p / (confusion.matrix @ p).sum()
