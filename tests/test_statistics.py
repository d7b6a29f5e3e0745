"""Values worked out by hand or published, and coverage by simulation."""

import numpy as np
import pytest

from evenhand.stats.floors import distance_floor, gap_floor
from evenhand.stats.means import mean_over_prompts
from evenhand.stats.shares import fairness_discrepancy, gap, shares, total_variation, wilson


def test_gap_by_hand():
    assert gap([0.9, 0.1]) == pytest.approx(0.8)
    assert gap([1.0, 0, 0, 0]) == pytest.approx(0.5)  # the maximum is 2/K
    assert gap([[0.5, 0.3, 0.2]]) == pytest.approx([(0.2 + 0.3 + 0.1) / 3])


def test_shares_of_nothing_are_zero():
    np.testing.assert_array_equal(shares([[3, 1], [0, 0]]), [[0.75, 0.25], [0, 0]])


@pytest.mark.parametrize(
    "classes, n, floor",
    [(2, 8, 0.273), (2, 60, 0.103), (2, 160, 0.063), (4, 80, 0.063), (8, 160, 0.031)],
)
def test_chance_floor_as_published(classes, n, floor):
    assert gap_floor(classes, n) == pytest.approx(floor, abs=1e-3)


def test_distances():
    assert total_variation([0.8, 0.2, 0], [0.45, 0.45, 0.1]) == pytest.approx(0.35)
    assert distance_floor((0.5, 0.5), 60) == pytest.approx(gap_floor(2, 60) / 2, abs=2e-3)


def test_discrepancy_is_unbiased_before_the_root():
    rng, t, pi = np.random.default_rng(0), np.array([0.5, 0.5]), np.array([0.7, 0.3])
    counts = rng.multinomial(40, pi, size=20_000)
    p = counts / 40
    squared = np.square(p - t).sum(1) - (1 - np.square(p).sum(1)) / 39
    assert squared.mean() == pytest.approx(np.square(pi - t).sum(), abs=2e-3)
    np.testing.assert_allclose(fairness_discrepancy(counts, t), np.sqrt(np.maximum(squared, 0)))


def test_wilson_by_hand():
    """Newcombe 1998, table I: 81 of 263 gives .2553 to .3662."""
    estimate = wilson(81, 263)
    assert (estimate.low, estimate.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    assert wilson(0, 10).low == 0 and wilson(0, 0).value is None


@pytest.mark.parametrize("share", [0.5, 0.8, 0.93])
def test_wilson_covers(share):
    found = [wilson(int(k), 60) for k in np.random.default_rng(1).binomial(60, share, size=3000)]
    assert 0.93 <= np.mean([e.low <= share <= e.high for e in found]) <= 0.975


@pytest.mark.parametrize("prompts, images", [(6, 48), (20, 32), (50, 30)])
def test_mean_over_prompts_covers(prompts, images):
    """Worlds in which prompts differ (Beta) and images are drawn within them.

    The mean share over all prompts is known.
    """
    rng, inside = np.random.default_rng(2), []
    for _ in range(1000):
        p = rng.binomial(images, rng.beta(3, 2, size=prompts)) / images
        e = mean_over_prompts(p)
        inside.append(e.low <= 0.6 <= e.high)
    assert 0.93 <= np.mean(inside) <= 0.975


def test_mean_leaves_out_what_was_not_seen():
    assert mean_over_prompts([0.5, float("nan"), 0.7]).value == pytest.approx(0.6)
    assert mean_over_prompts([0.5]).low is None
    assert mean_over_prompts([]).value is None


def test_an_interval_over_prompts_stays_within_bounds_and_moves_with_them():
    e = mean_over_prompts([0.9, 1.0, 0.95, 1.0, 0.7])
    twice = mean_over_prompts([0.8, 1.0, 0.9, 1.0, 0.4], within=(-1, 1))
    assert (
        e.low > 0
        and e.high <= 1
        and (twice.low, twice.high) == pytest.approx((2 * e.low - 1, 2 * e.high - 1))
    )
    same = mean_over_prompts([0.25] * 4)
    assert (same.low, same.high) == (0.25, 0.25)
    least = mean_over_prompts([1.0] * 5, images=500)
    assert 0.8 < least.low < 0.95 and least.high == 1
    thirds = mean_over_prompts([2 / 3] * 20, within=(0, 2 / 3), images=600)
    assert thirds.low < 0.66 and thirds.high == pytest.approx(2 / 3)
    assert mean_over_prompts([-0.03]).value == 0 and mean_over_prompts([-0.05, 0.01]).value == 0
    rng = np.random.default_rng(0)
    rare = [
        mean_over_prompts(np.where(rng.random(20) < 0.02, 0.25, 0.0), images=600)
        for _ in range(400)
    ]
    assert np.mean([e.low <= 0.005 <= e.high for e in rare]) > 0.93
