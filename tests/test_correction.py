"""Corrected shares against values worked out by hand, refusals, and coverage by simulation."""

import json

import numpy as np
import pytest

from evenhand.core.attributes import Attribute
from evenhand.core.errors import UserError
from evenhand.stats.calibration import Calibration, read_calibration
from evenhand.stats.confusion import Confusion
from evenhand.stats.correction import change_of_corrected, corrected, corrected_over_prompts
from evenhand.stats.means import shares_over_prompts
from evenhand.stats.shares import wilson

GENDER = Attribute(name="gender", classes=["woman", "man"])


def table(right_of_woman, right_of_man, n=1000, unseen=(0, 0)):
    a, b = round(right_of_woman * n), round(right_of_man * n)
    return np.array([[a - unseen[0], n - b], [n - a, b - unseen[1]], list(unseen)])


def test_rogan_and_gladen_by_hand():
    p = corrected([60, 40], Confusion(table(0.9, 0.8)))  # (.6 - 1 + .8) / (.9 + .8 - 1)
    assert p[0].value == pytest.approx(0.4 / 0.7) and p[1].value == pytest.approx(0.3 / 0.7)
    assert p[0].low == pytest.approx(1 - p[1].high, abs=2e-3)


def test_the_interval_holds_the_variance_of_both_samples():
    """Var(p) of Rogan & Gladen: [q(1-q)/N + p^2 a0(1-a0)/m0 + (1-p)^2 a1(1-a1)/m1] / D^2."""
    n, m, a0, a1 = 40_000, 5_000, 0.9, 0.8
    found = corrected([0.6 * n, 0.4 * n], Confusion(table(a0, a1, m)))[0]
    p, d = found.value, a0 + a1 - 1
    variance = (0.24 / n + p**2 * a0 * (1 - a0) / m + (1 - p) ** 2 * a1 * (1 - a1) / m) / d**2
    assert found.high - found.low == pytest.approx(2 * 1.96 * variance**0.5, abs=2.5e-3)


def test_a_classifier_that_never_errs_leaves_wilsons_interval():
    perfect = Confusion(np.array([[10**9, 0], [0, 10**9], [0, 0]]))
    for k, n in [(3, 40), (0, 30), (150, 300)]:
        found, wilsons = corrected([k, n - k], perfect)[0], wilson(k, n)
        assert (found.value, found.low, found.high) == pytest.approx(
            (wilsons.value, wilsons.low, wilsons.high), abs=2e-3
        )
    counts = np.random.default_rng(0).multinomial(30, [0.2, 0.8], size=12)
    for found, raw in zip(
        corrected_over_prompts(counts, perfect), shares_over_prompts(counts), strict=True
    ):
        assert (found.value, found.low, found.high) == pytest.approx(
            (raw.value, raw.low, raw.high), abs=2e-3
        )


def test_a_detector_that_misses_one_group_more_often_is_corrected():
    missed = Confusion(table(1.0, 1.0, unseen=(0, 500)))  # every second man has no face for it
    assert corrected([50, 25], missed)[0].value == pytest.approx(0.5)
    assert missed.accuracy == 0.75


def test_probabilities_take_the_place_of_calls():
    means = np.array(
        [[0.8, 0.3], [0.2, 0.7]]
    )  # an image of a woman is given .8 for woman on average
    squares = np.stack([np.outer(c, c) + 0.04 * np.array([[1, -1], [-1, 1]]) for c in means.T])
    known = Confusion(table(0.9, 0.8, 10**9), means, squares)
    p = corrected([55, 45], known)[0]
    assert p.value == pytest.approx((0.55 - 0.3) / (0.8 - 0.3)) and known.accuracy == pytest.approx(
        0.85
    )
    spread = 0.04 + 0.25 * 0.5**2  # variance of the probability: within a class, and between both
    assert p.high - p.low == pytest.approx(2 * 1.96 * (spread / 100) ** 0.5 / 0.5, rel=0.03)

    calls = table(0.9, 0.8, 300)
    one_hot = Confusion(calls, calls[:2] / 300, np.stack([np.diag(c) for c in (calls[:2] / 300).T]))
    assert corrected([30, 12], one_hot) == corrected([30, 12], Confusion(calls))
    with pytest.raises(UserError, match="confuses the classes too much"):
        Confusion(calls, np.full((2, 2), 0.5), squares)


def test_shares_beyond_the_simplex_are_brought_back_to_it():
    found = corrected([100, 0], Confusion(table(0.9, 0.9)))
    assert [e.value for e in found] == [1.0, 0.0] and found[0].high == 1 and found[0].low < 1
    three = Confusion(np.array([[90, 5, 5], [5, 90, 5], [5, 5, 90], [0, 0, 0]]))
    p = [e.value for e in corrected([97, 1, 2], three)]
    assert sum(p) == pytest.approx(1) and min(p) >= 0


def test_what_cannot_be_corrected_is_refused():
    with pytest.raises(UserError, match="confuses the classes too much"):
        Confusion(table(0.5, 0.55))
    with pytest.raises(UserError, match="no labelled image of class 1"):
        Confusion(np.array([[5, 0], [1, 0], [0, 0]]))


def test_calibrations_are_checked_when_read(tmp_path):
    rows = {
        "woman": {"woman": 90, "man": 10, "not seen": 0},
        "man": {"woman": 5, "man": 95, "not seen": 0},
    }
    known = Calibration(
        classifier="c",
        digest="d",
        domain="x",
        data="y",
        date="2026-01-01",
        attributes={"gender": rows},
    )
    (tmp_path / "calibration.json").write_text(known.model_dump_json())
    assert read_calibration(tmp_path) == known
    assert known.confusion(GENDER).counts.tolist() == [[90, 5], [10, 95], [0, 0]]
    answers = {
        c: {"mean": {c: 0.9, d: 0.1}, "products": {c: {c: 0.85, d: 0.05}, d: {c: 0.05, d: 0.05}}}
        for c, d in (("woman", "man"), ("man", "woman"))
    }
    sure = Calibration(**{**known.model_dump(), "probabilities": {"gender": answers}})
    assert sure.of(["age"]).probabilities == {}
    assert sure.confusion(GENDER).matrix.tolist() == [[0.9, 0.1], [0.1, 0.9]]
    assert sure.confusion(GENDER).squares[1].tolist() == [[0.05, 0.05], [0.05, 0.85]]
    del answers["man"]["mean"]["woman"]
    with pytest.raises(ValueError, match=r"probabilities\.gender\.man: name each of"):
        Calibration(**{**known.model_dump(), "probabilities": {"gender": answers}})
    with pytest.raises(UserError, match="has nothing for 'age'"):
        known.confusion(Attribute(name="age", classes=["young", "old"]))
    with pytest.raises(
        UserError, match="has woman, man for 'gender', whose classes are woman, man, person"
    ):
        known.confusion(Attribute(name="gender", classes=["woman", "man", "person"]))
    (tmp_path / "calibration.json").write_text(json.dumps({"classifier": "c"}))
    with pytest.raises(UserError, match="digest: Field required"):
        read_calibration(tmp_path)


@pytest.mark.parametrize("prompts", [1, 6])
def test_coverage_of_corrected_shares(prompts):
    rng, hits = np.random.default_rng(0), []
    matrix = np.array([[0.85, 0.1, 0.1], [0.1, 0.8, 0.1], [0.05, 0.1, 0.8]])
    for _ in range(300):
        mean = np.array([0.6, 0.3, 0.1])
        truths = rng.dirichlet(5 * mean, size=prompts) if prompts > 1 else mean[None]
        labels = np.stack([rng.multinomial(200, c) for c in matrix.T], 1)
        confusion = Confusion(np.vstack([labels, np.zeros(3, dtype=int)]))
        counts = np.stack([rng.multinomial(40, matrix @ t) for t in truths])
        found = (
            corrected(counts[0], confusion)
            if prompts == 1
            else corrected_over_prompts(counts, confusion)
        )
        hits += [e.low <= t <= e.high for e, t in zip(found, mean, strict=True)]
    assert 0.92 <= np.mean(hits) <= 0.985


def test_what_a_detector_misses_is_no_confusion():
    """It finds 90 % of the men and 10 % of the women, and confuses neither."""
    missed = Confusion(np.array([[97, 30], [3, 870], [900, 100]]))
    assert corrected([10, 90], missed)[0].value == pytest.approx(0.43, abs=0.03)
    assert missed.seen.tolist() == [100, 900]


def test_refused_is_what_too_few_labelled_images_say_too_little_of():
    with pytest.raises(UserError, match="label more images"):
        Confusion(table(0.6, 0.6, 25))
    assert Confusion(table(0.55, 0.55, 3000)).error < 0.2
    with pytest.raises(UserError, match="no labelled image of class 1 was seen"):
        Confusion(np.array([[5, 0], [1, 0], [0, 9]]))


def test_more_labelled_images_never_make_an_interval_wider():
    found = [
        corrected([250, 0], Confusion(table(0.9, 0.9, n)))[0].low for n in (50, 100, 400, 4000)
    ]
    assert found == sorted(found)


@pytest.mark.parametrize("labelled", [20, 50])
def test_few_labelled_images_of_a_class_are_covered(labelled):
    rng, hits = np.random.default_rng(0), []
    matrix = np.array([[0.85, 0.2], [0.15, 0.8]])
    for _ in range(400):
        labels = np.stack([rng.multinomial(labelled, c) for c in matrix.T], 1)
        try:
            confusion = Confusion(np.vstack([labels, [0, 0]]))
        except UserError:
            continue
        e = corrected(rng.multinomial(250, matrix @ [0.7, 0.3]), confusion)[0]
        hits.append(e.low <= 0.7 <= e.high)
    assert np.mean(hits) >= 0.93


def test_a_change_of_corrected_shares_is_covered():
    rng, hits = np.random.default_rng(1), []
    matrix = np.array([[0.9, 0.15], [0.1, 0.85]])
    for _ in range(300):
        labels = np.stack([rng.multinomial(150, c) for c in matrix.T], 1)
        confusion = Confusion(np.vstack([labels, [0, 0]]))
        runs = [rng.multinomial(1, matrix @ [p, 1 - p], size=(12, 30)) for p in (0.9, 0.5)]
        before, after = (r.mean(1) for r in runs)
        steps = (runs[1] - runs[0]).reshape(-1, 2)
        e = change_of_corrected(before, after, steps, confusion)[0]
        hits.append(e.low <= -0.4 <= e.high)
    assert np.mean(hits) >= 0.93
