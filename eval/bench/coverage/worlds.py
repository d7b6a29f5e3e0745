"""The simulated worlds: true shares of prompts, a judge's errors, images and labelled sets.

A world of prompts is a distribution: `PROMPTS[name](rng, m, k)` draws m of its prompts as a table
of true shares `[m, K]`. `CHANGES[name]` draws the shares of m prompts before and after.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import norm
from settings import Setting

from evenhand.stats.stopping import LOOK, enough

MANY = 20_000  # prompts whose mean is a world's truth
Draw = Callable[[np.random.Generator, int, int], NDArray]


def _split(first: NDArray, k: int) -> NDArray:
    """Shares `[m, K]` whose first class has the share given and whose others have equal parts."""
    rest = np.repeat((1 - first)[:, None] / (k - 1), k - 1, axis=1)
    return np.column_stack([first, rest])


def _constant(share: float) -> Draw:
    return lambda rng, m, k: _split(np.full(m, share), k)


def _even(rng: np.random.Generator, m: int, k: int) -> NDArray:
    return np.full((m, k), 1 / k)


def _near_even(rng: np.random.Generator, m: int, k: int) -> NDArray:
    """One class has a tenth more or less than its even share."""
    return _split((1 + rng.choice([-0.1, 0.1], size=m)) / k, k)


def _heavy_tail(rng: np.random.Generator, m: int, k: int) -> NDArray:
    """Nine prompts in ten have .97 of one class, the tenth has .2."""
    return _split(np.where(rng.random(m) < 0.1, 0.2, 0.97), k)


def _near_the_bound(rng: np.random.Generator, m: int, k: int) -> NDArray:
    return _split(rng.beta(8 * 0.99, 8 * 0.01, size=m), k)


def _all_or_nothing(rng: np.random.Generator, m: int, k: int) -> NDArray:
    """Every wording draws one class only."""
    return _split((rng.random(m) < 0.7).astype(float), k)


def mild(centre: NDArray) -> Draw:
    """Prompts whose shares vary around a centre as those of ordinary models do."""
    return lambda rng, m, k: rng.dirichlet(4 * centre + 1e-3, size=m)


PROMPTS: dict[str, Draw] = {
    "exactly even": _even,
    "near even": _near_even,
    "heavy tail": _heavy_tail,
    "near the bound": _near_the_bound,
    "all or nothing": _all_or_nothing,
    "one in ten": _constant(0.1),
}

CHANGES: dict[str, tuple[Draw, Draw]] = {
    "95 to even": (_constant(0.95), _even),
    "95 to near even": (_constant(0.95), _near_even),
    "even to even": (_even, _even),
    "95 to 95": (_constant(0.95), _constant(0.95)),
    "99 to 96": (_constant(0.99), _constant(0.96)),
    "99 to 99": (_constant(0.99), _constant(0.99)),
}


def prompts_of(s: Setting, rng: np.random.Generator) -> Draw:
    """The world of a setting; a mild one has another centre each time."""
    if s.world != "mild":
        return PROMPTS[s.world]
    return mild(rng.dirichlet(np.ones(s.classes)))


def changes_of(
    s: Setting, rng: np.random.Generator
) -> Callable[[np.random.Generator, int], tuple[NDArray, NDArray]]:
    """Draws the true shares of m prompts before and after, `[m, K]` each."""
    if s.world != "pulled to even":
        before, after = CHANGES[s.world]
        return lambda rng, m: (before(rng, m, s.classes), after(rng, m, s.classes))
    draw = mild(rng.dirichlet(np.ones(s.classes)))

    def pulled(rng: np.random.Generator, m: int) -> tuple[NDArray, NDArray]:
        truths = draw(rng, m, s.classes)
        return truths, truths + (1 / s.classes - truths) * rng.beta(4, 2, size=(m, 1))

    return pulled


def errors(s: Setting, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """The judge's `A[i, j]` = P(called i | truly j): on the images, and on the labelled set.

    Errors are of about the accuracy and uneven. A judge that `misses one class` finds nothing to
    judge in 90 % of the images of the first; one of `another domain` errs on the images thrice as
    often as on the labelled set.
    """
    if s.accuracy == 1:
        return np.eye(s.classes), np.eye(s.classes)
    matrix = _uneven(s.classes, s.accuracy, rng)
    if s.judge == "misses one class":
        matrix[:, 0] *= 0.1
    if s.judge == "another domain":
        return _uneven(s.classes, 1 - 3 * (1 - s.accuracy), rng), matrix
    return matrix, matrix


def _uneven(k: int, accuracy: float, rng: np.random.Generator) -> NDArray:
    columns = []
    for j in range(k):
        right = 1 - (1 - accuracy) * rng.uniform(0.5, 1.5)
        columns.append(np.insert(rng.dirichlet(np.ones(k - 1)) * (1 - right), j, right))
    return np.array(columns).T


def calls(truths: NDArray, matrix: NDArray, images: int, rng: np.random.Generator) -> NDArray:
    """Images called each class, `[..., K]`, of prompts with true shares `[..., K]`."""
    called = truths @ matrix.T
    missed = np.clip(1 - called.sum(-1, keepdims=True), 0, 1)
    return rng.multinomial(images, np.concatenate([called, missed], -1))[..., :-1]


def labelled(matrix: NDArray, s: Setting, rng: np.random.Generator) -> NDArray:
    """Counts `[K + 1, K]` of a labelled set; the last row counts those not seen."""
    missed = np.clip(1 - matrix.sum(0), 0, 1)
    return np.stack([rng.multinomial(s.labelled, c) for c in np.vstack([matrix, missed]).T], 1)


def until(truths: NDArray, matrix: NDArray, s: Setting, rng: np.random.Generator) -> NDArray:
    """Counts `[m, K]` of prompts that stop as `measure --until` stops them."""
    looks = s.images // LOOK
    drawn = rng.multinomial(LOOK, (truths @ matrix.T)[:, None, :], size=(len(truths), looks))
    found = np.zeros_like(drawn[:, 0])
    for i, counts in enumerate(drawn.cumsum(1)):
        last = next(
            (c for c in counts if all(_narrow(int(x), int(c.sum()), s.width) for x in c)),
            counts[-1],
        )
        found[i] = last
    return found


@functools.cache
def _narrow(k: int, n: int, width: float) -> bool:
    """Whether the share of k of n images is known to +- width."""
    return enough([k, n - k], width, every=LOOK)


def answers(s: Setting, rng: np.random.Generator) -> Callable[[int, int], NDArray]:
    """A judge with probabilities: draws those `[n, K]` of n images of a class.

    Its scores are normal; it is too sure or too unsure of itself by up to 2 and leans to some
    classes.
    """
    k, sure, lean = s.classes, rng.uniform(0.5, 2), rng.normal(0, 0.5, size=s.classes)
    distance = _distance(k, s.accuracy)

    def draw(true: int, n: int) -> NDArray:
        scores = rng.normal(size=(n, k))
        scores[:, true] += distance
        return softmax(sure * distance * scores + lean, axis=1)

    return draw


@functools.cache
def _distance(k: int, accuracy: float) -> float:
    """How far the true class's mean score is above the others', in standard deviations."""
    x = np.linspace(-9, 15, 4001)

    def right(d: float) -> float:
        return float(np.trapezoid(norm.pdf(x - d) * norm.cdf(x) ** (k - 1), x)) - accuracy

    return float(brentq(right, 0, 8))
