"""Planning and stopping early.

Literal values, exact coverage, and intervals that hold at every look.
"""

import time

import numpy as np
import pytest
from scipy import stats

from evenhand.stats.after_stopping import first_look, moments_after
from evenhand.stats.means import mean_shares, shares_over_prompts
from evenhand.stats.moments import moments
from evenhand.stats.stopping import (
    LOOK,
    _stops,
    at_the_stop,
    confidence_sequence,
    coverage_of_stopping,
    enough,
    images_for,
    least_coverage,
    prompts_for,
    stopping_level,
    typical_stop,
)


def test_planned_numbers():
    assert images_for(0.05) == 381 and images_for(0.1) == 93
    assert prompts_for(0.1, 0.3) == 38


def test_the_exact_recursion_agrees_with_simulation():
    rng, stops, hits = np.random.default_rng(0), [], []
    for _ in range(400):
        counts = np.zeros(2, dtype=int)
        while not enough(counts, 0.1, every=LOOK):
            k = rng.binomial(LOOK, 0.2)
            counts += [k, LOOK - k]
        found = at_the_stop(int(counts[0]), int(counts.sum()), 0.1, every=LOOK)
        assert found.high - found.low <= 0.2
        stops.append(counts.sum())
        hits.append(found.low <= 0.2 <= found.high)
    assert np.mean(stops) == pytest.approx(typical_stop(0.2, 0.1, every=LOOK), rel=0.03)
    assert np.mean(hits) == pytest.approx(
        coverage_of_stopping([0.2], 0.1, LOOK, stopping_level(0.1, LOOK))[0], abs=0.03
    )


def test_after_stopping_every_share_is_covered():
    truths = np.linspace(0.01, 0.5, 99)
    covered = coverage_of_stopping(truths, 0.1, LOOK, stopping_level(0.1, LOOK))
    assert covered.min() >= 0.95 and covered.mean() < 0.985


def test_looking_often_with_the_ordinary_level_would_not_do():
    assert coverage_of_stopping(np.linspace(0.01, 0.5, 99), 0.05, LOOK, 0.95).min() < 0.95


def test_a_prompt_without_anything_seen_goes_on():
    assert not enough([0, 0], 0.1, every=LOOK)
    assert at_the_stop(0, 0, 0.1, every=LOOK).value is None


def test_a_confidence_sequence_holds_at_every_look():
    rng, held = np.random.default_rng(1), []
    truth = np.array([0.7, 0.2, 0.1])
    for _ in range(200):
        counts, inside = np.zeros(3, dtype=int), True
        for _ in range(40):
            counts += rng.multinomial(LOOK, truth)
            inside &= all(
                e.low <= t <= e.high
                for e, t in zip(confidence_sequence(counts), truth, strict=True)
            )
        held.append(inside)
    assert np.mean(held) >= 0.95


def test_a_confidence_sequence_by_hand():
    """Beta-binomial mixture: the bound is where the likelihood is 1/20 of the mixture's."""
    low = confidence_sequence([10, 90])[0].low
    mixture = np.exp(stats.betabinom.logpmf(10, 100, 0.5, 0.5))
    assert stats.binom.pmf(10, 100, low) == pytest.approx(mixture / 20, rel=1e-6)
    assert confidence_sequence([0, 0])[0].value is None
    assert confidence_sequence([0, 50])[0].low == 0 and confidence_sequence([0, 50])[1].high == 1


@pytest.mark.parametrize("width", [0.1, 0.05])
def test_the_level_inside_covers_beside_the_ends_of_every_interval(width):
    inner = stopping_level(width, LOOK)
    assert least_coverage(width, LOOK, inner) >= 0.95 > least_coverage(width, LOOK, 0.95)
    assert coverage_of_stopping([0.1017], 0.05, LOOK, stopping_level(0.05, LOOK))[0] >= 0.95


def test_the_level_of_fine_widths_is_found_in_seconds():
    began = time.perf_counter()
    assert stopping_level(1e-9, LOOK) == stopping_level(0.03, LOOK)
    assert time.perf_counter() - began < 30


@pytest.mark.parametrize("truth", [0.1, 0.35])
def test_shares_and_squares_after_stopping_have_no_bias(truth):
    """Summed over all states in which a prompt may stop, so no chance is in this test."""
    stops = _stops(0.15, LOOK, stopping_level(0.15, LOOK))
    chances = stops.chances(np.array([truth]))[0]
    assert chances.sum() == pytest.approx(1)
    looks = [
        first_look([s, n - s], [np.array([0, 1])], 0.15, every=LOOK)
        for s, n in zip(stops.successes.tolist(), stops.n.tolist(), strict=True)
    ]
    single = np.array([x.single[0] for x in looks]) / LOOK
    pairs = np.array([x.pairs[0, 0] for x in looks]) / (LOOK * (LOOK - 1))
    assert chances @ single == pytest.approx(truth, rel=1e-9)
    assert chances @ pairs == pytest.approx(truth**2, rel=1e-9)
    plain = chances @ (stops.successes / stops.n)
    assert plain < truth - 0.002  # without it a prompt stops too often where its share looks low


def test_simulated_orders_agree_with_counted_ones():
    rule = {"width": 0.1, "every": LOOK}
    counted = first_look([12, 52], [np.array([0, 1])], **rule)
    third = first_look([12, 51, 1], [np.array([0, 1, -1])], **rule)  # one image was not seen
    assert third.single[0] == pytest.approx(counted.single[0], rel=0.06)
    assert third.single.sum() == pytest.approx(LOOK) and third.pairs.sum() == pytest.approx(56)


def test_a_prompt_that_nobody_looked_at_in_between_is_as_it_was_drawn():
    answers, kinds = np.repeat(np.eye(2), [6, 2], 0), np.repeat([0, 1], [6, 2])
    first = first_look([6, 2], [np.array([0, 1])], 0.1, every=LOOK)
    found = moments_after(answers, kinds, np.array([True, True]), first)
    np.testing.assert_allclose(found.mean, moments(answers).mean)
    np.testing.assert_allclose(found.pairs, moments(answers).pairs)


def test_means_of_prompts_that_stopped_early_are_covered():
    rng, inside, plain = np.random.default_rng(2), [], []
    for _ in range(150):
        counts = np.zeros((50, 2), dtype=int)
        for row in counts:
            while row.sum() < 96 and not enough(row, 0.1, every=LOOK):
                k = rng.binomial(LOOK, 0.1)
                row += [k, LOOK - k]
        kinds = np.array([0, 1])
        shares = np.stack([first_look(c, [kinds], 0.1, every=LOOK).single / LOOK for c in counts])
        e = mean_shares(shares, counts.sum())[0]
        inside.append(e.low <= 0.1 <= e.high)
        plain.append(shares_over_prompts(counts)[0].value)
    assert np.mean(inside) >= 0.91 and np.mean(plain) < 0.095


def test_fine_widths_are_planned_at_once_and_go_on_from_coarser_ones():
    began = time.perf_counter()
    for truth in (0.05, 0.5):
        ratio = typical_stop(truth, 0.005, every=LOOK) / typical_stop(truth, 0.01, every=LOOK)
        assert ratio == pytest.approx(4, rel=0.15)
        coarse, fine = (typical_stop(truth, w, every=LOOK) * w * w for w in (0.03, 0.02))
        assert coarse == pytest.approx(fine, rel=0.2)
    assert time.perf_counter() - began < 30
