"""Gap and distance over prompts, with chance removed: intervals and changes.

Pure functions of arrays; `evenhand.stats.squares` says what squares are.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evenhand.stats.confusion import Confusion
from evenhand.stats.means import freedom
from evenhand.stats.moments import Moments
from evenhand.stats.shares import Estimate
from evenhand.stats.squares import Form, Squares, squares


def root(found: Squares | None, level: float = 0.95) -> Estimate:
    """The root of the mean square, with an interval for prompts like these.

    The interval holds each true mean square x whose standard error explains the mean found:
    `(mean - x)^2 <= t^2 V(x)`, as Wilson's does for a share. V(x) is the noise of even prompts at
    x = 0; it grows with x by the spread between the prompts found, at least by the noise of their
    images, and is largest halfway to the worst square possible. One prompt has the interval of its
    images.
    """
    if found is None:
        return Estimate(None, None, None, 0, level)
    low, high = _interval(found, level)
    value = np.sqrt(np.clip(found.mean, 0, found.form.largest))
    return Estimate(float(value), float(np.sqrt(low)), float(np.sqrt(high)), len(found.each), level)


def _interval(found: Squares, level: float) -> tuple[float, float]:
    """Of the mean square."""
    m, largest = len(found.each), found.form.largest
    zero, most, now = found.calibration
    at_zero = found.at_zero / m + zero
    x = float(np.clip(found.mean, 0, largest))
    near = max(x, np.sqrt(at_zero))  # nearer to 0 the spread tells nothing of the slope
    bend = max(near * (1 - near / found.reach), 1e-12)
    own = (found.spread * m - found.at_zero) / bend
    if m > 1 and found.each.var() < 1e-12 and x > largest / 2:  # all at the bound
        own = largest * np.sqrt(found.slope / 4)  # as `means.effective_sizes`: images of m prompts
    slope = float(np.clip(own, found.slope, max(largest, found.slope))) / m
    calibrated = now / near if x > near / 2 else max(now / near, most)
    t = _quantile(level, found.each, at_zero, slope * bend, calibrated * near)
    # (y - x)^2 = u^2 (at_zero + slope (y - y^2 / reach) + calibrated y)
    b, c = t * t * (slope + calibrated), t * t * slope / found.reach
    middle = x + b / 2
    low, high = (
        (middle + sign * np.sqrt(max(middle**2 - (1 + c) * (x * x - u * u * at_zero), 0))) / (1 + c)
        for sign, u in ((-1, max(t, _chance(found, level))), (1, t))
    )
    return float(np.clip(low, 0, x)), float(np.clip(high, x, largest))


def _chance(found: Squares, level: float) -> float:
    """By how many standard deviations chance lifts the mean square of even prompts above 0.

    Their squares are sums of chi squares, of the prompts and of the calibration. One of the same
    skewness stands for the sum; its quantile is larger than the normal one.
    """
    free, m = found.form.target.shape[1] - 1, len(found.each)
    parts = [(found.at_zero / m, m * free), (found.calibration[0], free)]
    total = sum(v / 2 for v, _ in parts)
    cubes = sum(n * (v / (2 * n)) ** 1.5 for v, n in parts)
    nu = total**3 / cubes**2 if cubes else np.inf
    if not np.isfinite(nu):
        return float(stats.norm.ppf((1 + level) / 2))
    return float((stats.chi2.ppf((1 + level) / 2, nu) - nu) / np.sqrt(2 * nu))


def _quantile(
    level: float, each: NDArray, known: float, spread: float, calibration: float
) -> float:
    """Of Student's distribution, by Welch & Satterthwaite's degrees of freedom.

    Args:
        level: of the interval.
        each: `[m]` squares of the prompts.
        known: variance of the mean by images of even prompts, which is known.
        spread: variance by the prompts' spread, which is estimated (`means.freedom`).
        calibration: variance by the calibration.
    """
    if len(each) < 2:
        return float(stats.norm.ppf((1 + level) / 2))
    free = float(freedom(each[:, None])[0])
    total = known + spread + calibration
    return float(stats.t.ppf((1 + level) / 2, max(free, free * (total / spread) ** 2)))


def change_of_roots(
    before: Moments,
    after: Moments,
    form: Form,
    confusion: Confusion | None = None,
    among: list[int] | None = None,
    level: float = 0.95,
) -> Estimate:
    """The root after minus the root before, of the same m prompts, with its interval.

    The two intervals are put together as Newcombe does for a difference of paired proportions
    (1998, method 10; MOVER of Zou & Donner 2008): each end's distances are added in square, less
    what prompts and calibration have in common. It has no width 0.

    Args:
        before: of the prompts' answers; a prompt counts where both have two images seen.
        after: of the same prompts, in the same order.
        form: which square.
        confusion: of the judge, as for `squares`.
        among: the classes meant, as for `squares`.
        level: nominal coverage.
    """
    both = ~np.isnan(before.pairs + after.pairs).any((1, 2))
    form = form.of(both)
    was, now = (squares(x.of(both), form, confusion, among) for x in (before, after))
    if was is None or now is None:
        return Estimate(None, None, None, 0, level)
    (a, *old), (b, *new) = (_ends(root(x, level)) for x in (was, now))
    alike = _alike(was, now) if min(old[0], new[0]) > 0 else 0.0  # a root at 0 moves with nothing
    limit = float(np.sqrt(form.largest))
    low = b - a - _together(b - new[0], old[1] - a, alike)
    high = b - a + _together(new[1] - b, a - old[0], alike)
    # an end at 0 is cut off there: how far chance lifts that root is not to be seen from it
    low, high = (
        min(low, -old[1]) if new[0] == 0 else low,
        max(high, new[1]) if old[0] == 0 else high,
    )
    return Estimate(b - a, max(low, -limit), min(high, limit), int(both.sum()), level)


def _ends(e: Estimate) -> tuple[float, float, float]:
    assert e.value is not None and e.low is not None and e.high is not None
    return e.value, e.low, e.high


def _together(one: float, other: float, alike: float) -> float:
    return float(np.sqrt(max(one**2 + other**2 - 2 * alike * one * other, 0)))


def _alike(before: Squares, after: Squares) -> float:
    """Correlation of the two mean squares, less a standard error of it where there are few prompts.

    At most 0.95, so that no interval is empty.
    """
    m = len(before.each)
    if m < 4:
        return 0.0
    common = float(np.cov(before.each, after.each)[0, 1]) / m
    if before.known and before.gradient is not None and after.gradient is not None:
        common += 4 * float(
            np.einsum("jk,jkl,jl->", before.gradient, before.known.scatter, after.gradient)
        )
    sizes = (before.spread + before.calibration[2]) * (after.spread + after.calibration[2])
    found = np.clip(common / np.sqrt(sizes), -0.95, 0.95) if sizes > 1e-18 else 0.0
    return float(np.tanh(np.arctanh(found) - 1 / np.sqrt(m - 3)))
