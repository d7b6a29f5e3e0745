"""Planning and stopping early.

Literal values, exact coverage, and intervals that hold at every look.
"""

import numpy as np
import pytest
from scipy import stats

from evenhand.stats.stopping import (
    LOOK,
    at_the_stop,
    confidence_sequence,
    coverage_of_stopping,
    enough,
    images_for,
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
