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
        target: what shares are held against, `[T, C]`, rows sum to 1: one row for all prompts, or
            one for each of m prompts.
        bounds: `[T]`, the square of a prompt with one class only, the worst one.
    """

    weights: NDArray[np.float64]
    target: NDArray[np.float64]
    bounds: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """The largest mean square that prompts can have."""
        return float(self.bounds.mean())

    def of(self, which: ArrayLike) -> "Form":
        """That of some prompts, `[m]` true for each one kept."""
        if len(self.target) == 1:
            return self
        at = np.flatnonzero(which)
        return Form(self.weights, self.target[at], self.bounds[at])


def unevenness(classes: int) -> Form:
    """The mean over pairs of classes of the square of the difference of their shares.

    0: all equally often. One class only: 2/K. Its root for two classes is the gap `|p1 - p2|`.
    """
    even = np.full((1, classes), 1 / classes)
    weights = 2 / (classes - 1) * (np.eye(classes) - 1 / classes)
    return Form(weights, even, np.array([2 / classes]))


def distance_from(target: ArrayLike) -> Form:
    """Half the sum of the squares of `p_k - t_k`: its root is the distance to a target.

    0: on target; 1: one class only, where another one only was asked for. For two classes the root
    is the total variation; times the root of 2 it is the fairness discrepancy (`||p - t||`) of
    Teo et al.

    Args:
        target: `[C]` for all prompts, or `[m, C]`, each prompt's own.
    """
    t = np.atleast_2d(np.asarray(target, dtype=float))
    t = t / t.sum(1, keepdims=True)
    return Form(np.eye(t.shape[1]) / 2, t, (1 - 2 * t.min(1) + np.square(t).sum(1)) / 2)


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
    mean, pairs, form = found.mean[kept], found.pairs[kept], form.of(kept)
    once, twice = found.once[kept], found.twice[kept]
    t, among = form.target, None if among is None or len(among) == mean.shape[1] else among
    # below, a first axis of targets has one entry for all prompts, or one for each
    if confusion is None:
        g = _held_against(form, np.eye(t.shape[1]), np.ones(t.shape[1]))
        covariance = np.einsum("tk,kl->tkl", t, np.eye(t.shape[1])) - np.einsum("tk,tl->tkl", t, t)
        noise = _noise(g @ covariance, once, twice)
        return Squares(form, np.einsum("tkl,tlk->t", g, pairs), *noise, form.largest)
    rows = confusion.inverse if among is None else confusion.inverse[among]
    persons = rows.sum(0)  # sum(R q): people of these classes per image seen
    g = _held_against(form, rows, persons)
    bounds = confusion.people_seen if among is None else (0.05, np.inf)
    scale = np.clip(mean @ persons, *bounds) ** 2
    truths = np.einsum("jk,mkl,jl->mj", confusion.inverse, pairs, confusion.inverse)
    chance = (truths.clip(0) * np.einsum("tkl,jlk->tj", g, confusion.scatter)).sum(1)
    each = (np.einsum("tkl,tlk->t", g, pairs) - chance) / scale
    answered = np.einsum("m,jk,mkl->mjl", 1 / scale, confusion.inverse, pairs)
    gradient = (answered @ g).mean(0)
    at = _on_target(mean.mean(0), t, confusion, among)
    called = at @ confusion.matrix.T
    here = ((called @ persons) ** 2)[:, None, None]
    images = np.einsum("tj,jkl->tkl", at, confusion.squares) - np.einsum(
        "tk,tl->tkl", called, called
    )
    labels = np.einsum("tj,jkl->tkl", at**2, confusion.scatter)
    calibrated = _noise(g @ labels / here, np.ones(1), np.ones(1))
    now = 4 * float(np.einsum("jk,jkl,jl->", gradient, confusion.scatter, gradient))
    reach = max(form.largest, float((np.einsum("tkk->tk", g).max(1) / here[:, 0, 0]).mean()))
    noise = _noise(g @ images / here, once, twice)
    return Squares(form, each, *noise, reach, (*calibrated, now), gradient, confusion)


def _held_against(form: Form, rows: NDArray, persons: NDArray) -> NDArray[np.float64]:
    """The form as one of answers, `[T, K, K]`: of `R q - t sum(R q)`.

    Args:
        form: of shares.
        rows: R, `[C, K]`.
        persons: column sums of R, `[K]`.
    """
    centred = rows - np.einsum("tc,k->tck", form.target, persons)
    return np.einsum("tck,cd,tdl->tkl", centred, form.weights, centred)


def _noise(noise: NDArray, once: NDArray, twice: NDArray) -> tuple[float, float]:
    """Variance of a square whose truth is 0, and its growth with the truth; means over prompts.

    Of what all prompts have in common (the calibration) the mean is the most that it can be, which
    it is where all have one target.

    Args:
        noise: `[T, K, K]`, the form by the covariance of one answer.
        once: `[m]`, 1/n.
        twice: `[m]`, 1/(n(n-1)).
    """
    largest = np.linalg.eigvals(noise).real.max(1).clip(0)
    traces = np.einsum("tkl,tlk->t", noise, noise)
    return 2 * float((twice * traces).mean()), 4 * float((once * largest).mean())


def _on_target(
    answers: NDArray, t: NDArray, confusion: Confusion, among: list[int] | None
) -> NDArray[np.float64]:
    """People of each class per image seen, `[T, K]`, where the classes meant are on target.

    Args:
        answers: `[K]` mean ones.
        t: `[T, C]` targets.
        confusion: of the judge.
        among: the classes meant, all where None.
    """
    p = np.tile(confusion.project(confusion.solve(answers)), (len(t), 1))
    if among is None:
        p = t
    else:
        p[:, among] = t * max(p[0, among].sum(), 0.05)
        p = p / p.sum(1, keepdims=True)
    return p / (p @ confusion.matrix.T).sum(1, keepdims=True)
