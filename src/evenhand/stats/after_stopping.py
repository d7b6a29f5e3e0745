"""Estimates without bias from prompts that stopped early.

Pure functions of arrays.

A prompt that stops when its shares look well known stops too often where they look extreme, so the
shares found at the stop are extreme on average. The share of the first images, drawn before
anybody looked, has no such bias, but wastes the others. Girshick, Mosteller & Savage (1946,
"Unbiased estimates for certain binomial sampling problems") take its mean over all orders in which
the images could have come without stopping earlier: all images count, and the bias is gone. The
square of a share is estimated alike, by the first two images.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from evenhand.stats.moments import Moments, moments
from evenhand.stats.stopping import known_well

PARTICLES = 2000  # orders simulated where they are not counted


@dataclass(frozen=True)
class FirstLook:
    """What the images of the first look are expected to be, over all orders that were possible.

    Images are of C kinds: what the stopping rule sees of them.

    Attributes:
        single: `[C]` images of each kind.
        pairs: `[C, C]` ordered pairs of two images.
    """

    single: NDArray[np.float64]
    pairs: NDArray[np.float64]


def first_look(
    images: ArrayLike, classes: list[NDArray], width: float, *, every: int, level: float = 0.95
) -> FirstLook:
    """What the first look at a prompt's images is expected to have shown.

    Counted exactly where the images are of two kinds and the rule follows one attribute of two
    classes, simulated with a fixed seed otherwise.

    Args:
        images: `[C]` how many of each kind there are at the stop.
        classes: for each attribute that the rule follows, to which of its classes each kind
            belongs, `[C]`; -1 where it is not seen.
        width: half the width at which a share is known well enough.
        every: images between looks.
        level: of the interval that is given at the stop.
    """
    n = np.asarray(images, dtype=int)
    if n.sum() <= every or len(n) == 1:
        return _all_orders(n, min(every, int(n.sum())))
    if len(n) == 2 and all(set(c.tolist()) == {0, 1} for c in classes):
        return _counted(int(n[0]), int(n.sum()), width, every, level)
    rule = tuple(tuple(c.tolist()) for c in classes)
    return _simulated(tuple(n.tolist()), rule, width, every, level)


def _all_orders(n: NDArray, first: int) -> FirstLook:
    """The first images where every order was possible."""
    total = n.sum()
    pairs = np.outer(n, n) - np.diag(n)
    share = first * (first - 1) / max(total * (total - 1), 1)
    return FirstLook(n * first / total, pairs * share)


@functools.cache
def _counted(successes: int, n: int, width: float, every: int, level: float) -> FirstLook:
    """Of two kinds: the orders that begin with one or two successes, over all orders."""
    p = (successes + 0.5) / (n + 1)  # any share counts the same orders; this one does so exactly
    orders, one, two = (p**k * _reach(successes, n, p, k, width, every, level) for k in (0, 1, 2))
    if not orders:  # a run of another rule: nothing can be said of the order
        return _all_orders(np.array([successes, n - successes]), every)
    s, ss = one / orders, two / orders
    pairs = np.array([[ss, s - ss], [s - ss, 1 - 2 * s + ss]])
    return FirstLook(every * np.array([s, 1 - s]), every * (every - 1) * pairs)


def _reach(
    successes: int, n: int, p: float, sure: int, width: float, every: int, level: float
) -> float:
    """P(a prompt with share p has these counts and did not stop earlier | its first are successes).

    Args:
        successes: of n images.
        n: images.
        p: share of successes.
        sure: how many of the first images are successes for certain.
        width: half the width at which a share is known well enough.
        every: images between looks.
        level: of the interval that is given at the stop.
    """
    alive = np.ones(1)
    for at in range(0, n, every):
        if at:
            alive = np.where(known_well(at, width, every, level), 0.0, alive)
        size = min(every, n - at)
        given = sure if at == 0 else 0
        batch = stats.binom.pmf(np.arange(size - given + 1), size - given, p)
        alive = np.convolve(alive, np.concatenate([np.zeros(given), batch]))
    return float(alive[successes])


@functools.cache
def _simulated(
    images: tuple[int, ...],
    belongs: tuple[tuple[int, ...], ...],
    width: float,
    every: int,
    level: float,
) -> FirstLook:
    """Of any kinds: orders drawn look by look; those that would have stopped are drawn anew.

    They are replaced by others that went on (a particle filter).
    """
    rng, n, classes = np.random.default_rng(0), np.array(images), [np.array(c) for c in belongs]
    left = np.repeat(n[None], PARTICLES, 0)
    first = drawn = np.zeros_like(left)
    for at in range(0, int(n.sum()) - every, every):
        step = _without_replacement(left, every, rng)
        left, drawn = left - step, drawn + step
        first = step if at == 0 else first
        goes_on = ~_stopped(drawn, classes, width, every, level)
        if not goes_on.any():  # so rare that no order was found: nothing can be said of the order
            return _all_orders(n, every)
        again = np.where(
            goes_on, np.arange(PARTICLES), rng.choice(np.flatnonzero(goes_on), PARTICLES)
        )
        left, drawn, first = left[again], drawn[again], first[again]
    pairs = np.einsum("rc,rd->cd", first, first) - np.diag(first.sum(0))
    return FirstLook(first.mean(0), pairs / PARTICLES)


def _without_replacement(left: NDArray, size: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Images drawn from those left, `[R, C]` (multivariate hypergeometric)."""
    step, rest = np.zeros_like(left), np.full(len(left), size)
    others = left.sum(1)
    for c in range(left.shape[1]):
        others = others - left[:, c]
        step[:, c] = rng.hypergeometric(left[:, c], others, rest)
        rest = rest - step[:, c]
    return step


def _stopped(
    drawn: NDArray, classes: list[NDArray], width: float, every: int, level: float
) -> NDArray[np.bool_]:
    """Whether each order `[R]` would have stopped with the images drawn so far, `[R, C]`."""
    stopped = np.ones(len(drawn), dtype=bool)
    for belongs in classes:
        counts = np.stack([drawn[:, belongs == k].sum(1) for k in range(belongs.max() + 1)], 1)
        seen = counts.sum(1)
        for total in np.unique(seen):
            rows = seen == total
            known = known_well(int(total), width, every, level) if total else np.zeros(1, bool)
            stopped[rows] &= known[counts[rows]].all(1) & known[0]
    return stopped


def moments_after(answers: ArrayLike, kinds: NDArray, seen: NDArray, first: FirstLook) -> Moments:
    """As `moments.moments`, of a prompt that stopped early.

    Args:
        answers: `[N, K]` of all images; rows of images not seen do not count.
        kinds: `[N]` the kind of each image, 0 to C - 1.
        seen: `[C]` whether images of a kind are seen.
        first: what their first look was like.
    """
    a = np.asarray(answers, dtype=float)
    kept = np.flatnonzero(np.asarray(seen) & (np.bincount(kinds, minlength=len(seen)) > 0))
    groups = [a[kinds == c] for c in kept]
    plain = moments(a[np.asarray(seen)[kinds]])
    single, pairs = first.single[kept], first.pairs[np.ix_(kept, kept)]
    if not single.sum() or not pairs.sum():  # at most one image was seen
        return plain
    means = np.stack([g.mean(0) for g in groups])
    products = np.einsum("ck,dl->cdkl", means, means)
    for c, g in enumerate(groups):
        size = max(len(g) * (len(g) - 1), 1)
        products[c, c] = (np.outer(g.sum(0), g.sum(0)) - g.T @ g) / size
    return Moments(
        (single @ means / single.sum())[None],
        (np.einsum("cd,cdkl->kl", pairs, products) / pairs.sum())[None],
        plain.once,
        plain.twice,
    )
