"""Gap and distance with chance removed: by hand, without bias, covered, never called by chance."""

import numpy as np
import pytest

from evenhand.stats.confusion import Confusion
from evenhand.stats.moments import Moments, joined, moments, of_counts, over_wordings
from evenhand.stats.roots import change_of_roots, root
from evenhand.stats.squares import distance_from, squares, unevenness

GAP = unevenness(2)


def judge(right: float, labelled: int, rng: np.random.Generator) -> tuple[np.ndarray, Confusion]:
    """A judge of two classes and its calibration."""
    matrix = np.array([[right, 1 - right], [1 - right, right]])
    counts = np.stack([rng.multinomial(labelled, c) for c in matrix.T], 1)
    return matrix, Confusion(np.vstack([counts, [0, 0]]))


def test_the_square_of_the_gap_of_two_classes_by_hand():
    counts = np.array([[30, 10], [20, 20]])
    p = counts[:, 0] / 40
    by_hand = (2 * p - 1) ** 2 - 4 * p * (1 - p) / 39
    found = squares(of_counts(counts), GAP)
    assert found and found.each == pytest.approx(by_hand)
    estimate = root(found)
    assert estimate.value == pytest.approx(np.sqrt(by_hand.mean())) and estimate.n == 2


@pytest.mark.parametrize("truth", [[0.5, 0.5], [0.9, 0.1], [0.4, 0.3, 0.2, 0.1]])
def test_squares_have_no_bias(truth):
    rng, t = np.random.default_rng(0), np.array(truth)
    even = np.full(len(t), 1 / len(t))
    counts = of_counts(rng.multinomial(12, t, size=40_000))
    for form in (unevenness(len(t)), distance_from(even)):
        found = squares(counts, form)
        true = (t - even) @ form.weights @ (t - even)
        assert found and found.mean == pytest.approx(true, abs=4 * float(found.spread**0.5))


def test_one_class_only_is_the_largest_gap_and_distance():
    for k in (2, 4):
        counts = of_counts(np.eye(k)[:1] * 9)
        assert root(squares(counts, unevenness(k))).value == pytest.approx((2 / k) ** 0.5)
    wanted = distance_from([0, 1])
    assert root(squares(of_counts([[9, 0]]), wanted)).value == pytest.approx(1)


def test_answers_and_counts_tell_the_same():
    one = moments(np.repeat(np.eye(3), [4, 2, 1], 0))
    for name in ("mean", "pairs", "once", "twice"):
        expected = getattr(of_counts([[4, 2, 1]]), name)
        np.testing.assert_allclose(getattr(one, name), expected)
    assert np.isnan(of_counts([[1, 0]]).pairs).all() and squares(of_counts([[1, 0]]), GAP) is None


def test_wordings_of_a_concept_are_averaged_and_those_not_seen_left_out():
    found = over_wordings([joined([of_counts([[8, 0], [0, 8], [0, 0]])])])
    assert found.mean.tolist() == [[0.5, 0.5]]
    assert found.once[0] == pytest.approx(2 / 8 / 4)


def held(draw, prompts, images, worlds=300, form=GAP, labelled=0) -> float:
    """How often the interval of the root holds that of the true shares."""
    rng = np.random.default_rng(0)
    many = draw(rng, 20_000)[:, 0]
    true, inside = float(np.sqrt(np.mean((2 * many - 1) ** 2))), []
    for _ in range(worlds):
        matrix, confusion = judge(0.85, labelled, rng) if labelled else (np.eye(2), None)
        counts = rng.multinomial(images, draw(rng, prompts) @ matrix.T)
        e = root(squares(of_counts(counts), form, confusion))
        inside.append(e.low - 1e-9 <= true <= e.high + 1e-9)
    return float(np.mean(inside))


def beta(a: float, b: float):
    """Prompts whose share of the first class is drawn from a beta distribution."""

    def draw(rng: np.random.Generator, m: int) -> np.ndarray:
        p = rng.beta(a, b, size=m)
        return np.column_stack([p, 1 - p])

    return draw


def constant(p: float):
    return lambda rng, m: np.tile([p, 1 - p], (m, 1))


@pytest.mark.parametrize("labelled", [0, 100])
@pytest.mark.parametrize("draw", [constant(0.5), constant(0.55), beta(3, 1), constant(0.95)])
def test_intervals_of_the_gap_hold_the_true_gap(draw, labelled):
    for prompts, images in ((6, 48), (30, 24)):
        assert held(draw, prompts, images, labelled=labelled) >= 0.92


def test_an_even_generator_is_not_called_skewed_more_often_than_said():
    rng = np.random.default_rng(3)
    for classes in (2, 4):
        even = np.full(classes, 1 / classes)
        for prompts, images in ((1, 100), (6, 48), (30, 24)):
            called = [
                root(squares(of_counts(rng.multinomial(images, even, size=prompts)), form)).low > 0
                for form in [unevenness(classes)] * 600
            ]
            assert np.mean(called) <= 0.05


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_generator_that_did_not_change_is_not_called_better_by_chance(share):
    rng, better = np.random.default_rng(4), []
    for _ in range(600):
        before, after = (
            of_counts(rng.multinomial(30, [share, 1 - share], size=12)) for _ in range(2)
        )
        e = change_of_roots(before, after, GAP)
        assert e.low < e.high
        better.append(e.high < 0)
    assert np.mean(better) <= 0.035


@pytest.mark.parametrize("labelled", [0, 200])
def test_intervals_of_a_change_hold_it(labelled):
    rng, inside = np.random.default_rng(5), []
    for _ in range(300):
        matrix, confusion = judge(0.9, labelled, rng) if labelled else (np.eye(2), None)
        before, after = (
            of_counts(rng.multinomial(40, np.tile([p, 1 - p], (10, 1)) @ matrix.T))
            for p in (0.95, 0.5)
        )
        e = change_of_roots(before, after, GAP, confusion)
        inside.append(e.low <= -0.9 <= e.high)
    assert np.mean(inside) >= 0.93


def test_a_change_of_nothing_has_an_interval():
    same = of_counts([[40, 0]] * 6)
    e = change_of_roots(same, same, GAP)
    assert e.value == 0 and e.low < 0 < e.high
    nothing = change_of_roots(of_counts([[1, 0]]), of_counts([[1, 0]]), GAP)
    assert nothing.value is None


def test_correcting_finds_the_true_gap():
    rng = np.random.default_rng(6)
    matrix, confusion = judge(0.85, 100_000, rng)
    counts = rng.multinomial(400, np.tile([0.95, 0.05], (50, 1)) @ matrix.T)
    assert root(squares(of_counts(counts), GAP, confusion)).value == pytest.approx(0.9, abs=0.02)
    assert root(squares(of_counts(counts), GAP)).value == pytest.approx(0.63, abs=0.02)


def test_a_gap_among_some_classes_is_of_their_people_alone():
    counts = np.vstack([np.diag([900, 900, 900]) + 50 - 50 * np.eye(3, dtype=int), [0, 0, 0]])
    confusion = Confusion(counts)
    called = np.array([[300, 100, 600]]) @ (counts[:-1] / counts.sum(0)).T
    found = squares(of_counts(called), GAP, confusion, [0, 1])
    assert root(found).value == pytest.approx(0.5, abs=0.02)


def test_moments_of_some_prompts():
    found = of_counts([[1, 2], [3, 4]]).of(np.array([False, True]))
    assert isinstance(found, Moments) and found.mean.tolist() == [[3 / 7, 4 / 7]]
