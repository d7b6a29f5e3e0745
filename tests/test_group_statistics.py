"""Numbers by group: worked out by hand, held against fairlearn, and what intervals cover."""

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

from evenhand.reports.classify_metrics import by_fairlearn, metrics
from evenhand.stats import groups as of
from evenhand.stats import rates
from evenhand.stats.shortcut import fill_up, shortcut, uniform

CELEBA = {0.9: [592, 5335, 7797, 866], 0.95: [281, 5335, 7797, 411], 0.99: [54, 5335, 7797, 79]}
CELEBA |= {0.999: [6, 5335, 7797, 8]}
UTKFACE = {0.9: [103, 934, 5731, 636], 0.999: [1, 934, 5731, 6]}


def table(counts):
    return np.array(counts).reshape(2, 2)


def animals(minority):
    """Four classes, four backgrounds, of which each class has two."""
    found = np.zeros((4, 4), dtype=int)
    for y in range(4):
        found[y, y // 2 * 2 : y // 2 * 2 + 2] = [10_000, minority][:: 1 if y % 2 == 0 else -1]
    return found


@pytest.mark.parametrize(
    "counts, alone, filled, bits, even, even_bits",
    [
        (table(CELEBA[0.9]), 0.900, 0.874, 0.535, 0.687, 0.247),
        (table(CELEBA[0.95]), 0.950, 0.899, 0.619, 0.699, 0.313),
        (table(CELEBA[0.99]), 0.990, 0.917, 0.705, 0.708, 0.387),
        (table(CELEBA[0.999]), 0.999, 0.921, 0.734, 0.710, 0.412),
        (table(UTKFACE[0.9]), 0.900, 0.759, 0.469, 0.629, 0.184),
        (table(UTKFACE[0.999]), 0.999, 0.790, 0.541, 0.645, 0.256),
        (animals(500), 0.952, 0.975, 1.855, 0.738, 1.380),
        (animals(11), 0.999, 0.999, 1.994, 0.750, 1.494),
    ],
)
def test_counts_give_the_published_settings_away(counts, alone, filled, bits, even, even_bits):
    """Accuracies of the best guess and bits, as computed from the published splits."""
    none, usb, asb = (shortcut(counts, s) for s in (0 * counts, fill_up(counts), uniform(counts)))
    assert none.protected == pytest.approx(alone, abs=6e-4)
    assert usb.protected == 0.5  # of the classes that the attribute leaves open, on animals
    assert usb.protected_and_source == pytest.approx(filled, abs=6e-4)
    assert usb.bits == pytest.approx(bits, abs=6e-4)
    assert asb.protected_and_source == pytest.approx(asb.protected)
    assert asb.protected == pytest.approx(even, abs=6e-4)
    assert asb.bits == pytest.approx(even_bits, abs=6e-4)
    assert "arm=ffr" in usb.warning and asb.warning is None and none.warning is None


def test_every_arm_gets_as_many_synthetic_images_as_it_takes_to_fill_up():
    counts = table(CELEBA[0.99])
    assert fill_up(counts).tolist() == [[7743, 2462], [0, 7718]]
    assert uniform(counts).tolist() == [[4480, 4480], [4480, 4480]]  # 17,923 / 4, rounded down
    assert uniform(counts, 900).tolist() == [[225, 225], [225, 225]]
    assert fill_up(animals(500)).sum() == 38_000 and (uniform(animals(500)) > 0).sum() == 8


def test_equalized_odds_by_hand():
    """Two classes: rates of being called 1 are .9 and .6 among ones, .2 and .3 among zeros."""
    found = np.array([[[0.8, 0.2], [0.7, 0.3]], [[0.1, 0.9], [0.4, 0.6]]])
    sizes = np.array([[10, 30], [20, 20]])
    assert rates.equalized_odds(found, sizes, how="mean") == pytest.approx((0.3 + 0.1) / 2)
    assert rates.equalized_odds(found, sizes, how="max") == pytest.approx(0.3)
    parity = abs((10 * 0.2 + 20 * 0.9) / 30 - (30 * 0.3 + 20 * 0.6) / 50)
    assert rates.demographic_parity(found, sizes) == pytest.approx(parity)
    assert rates.accuracies_of(found).tolist() == [0.8, 0.7, 0.9, 0.6]


@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (3, 3)])
def test_numbers_of_confusions_are_fairlearns(shape):
    y, p = shape
    for seed in range(2):
        rng = np.random.default_rng(seed)
        groups, called = rng.integers(0, y * p, 300), rng.integers(0, y, 300)
        theirs = by_fairlearn(called, groups, shape)
        sizes = np.bincount(groups, minlength=y * p).reshape(shape)
        if y == 2:
            pair = {"y_true": groups // p, "y_pred": called, "sensitive_features": groups % p}
            named = {
                "equalized_odds_mean": equalized_odds_difference(**pair, agg="mean"),
                "equalized_odds_max": equalized_odds_difference(**pair, agg="worst_case"),
                "demographic_parity": demographic_parity_difference(**pair),
            }
            assert named == pytest.approx({k: theirs[k] for k in named}, abs=1e-12)
        ours = rates.confusions(called[None], groups, shape)
        for name, metric in metrics(sizes, sizes.ravel() / 300).items():
            if name in theirs:
                assert metric(ours)[0] == pytest.approx(theirs[name], abs=1e-12)
        np.testing.assert_allclose(
            rates.accuracies_of(ours)[0], theirs["group_accuracy"], atol=1e-12
        )


def test_a_group_without_images_is_not_a_number_and_the_others_are():
    found = of.group_accuracies([True, False, True], [0, 0, 2], 3)
    assert found[0] == 0.5 and np.isnan(found[1]) and found[2] == 1.0


def test_the_adjusted_accuracy_weighs_groups_as_the_training_has_them():
    found = np.array([[[[0.8, 0.2], [0.7, 0.3]], [[0.1, 0.9], [0.4, 0.6]]]])
    how = metrics(np.array([[10, 30], [20, 20]]), np.array([0.45, 0.05, 0.05, 0.45]))
    assert how["adjusted_accuracy"](found)[0] == pytest.approx(
        0.45 * 0.8 + 0.05 * 0.7 + 0.05 * 0.9 + 0.45 * 0.6
    )
    assert how["accuracy"](found)[0] == pytest.approx((8 + 21 + 18 + 12) / 80)
    assert how["worst_group"](found)[0] == 0.6 and how["balanced"](found)[0] == 0.75


@pytest.mark.parametrize(
    "truth", [[0.9, 0.9, 0.9, 0.9], [0.95, 0.9, 0.85, 0.6], [1.0, 1.0, 0.99, 0.98]]
)
def test_the_interval_of_the_worst_group_knows_that_it_is_a_minimum(truth):
    rng, sizes = np.random.default_rng(0), np.full(4, 120)
    found = rng.binomial(sizes, truth, size=(600, 4)) / sizes
    low, high = of.worst_bounds(found, sizes).T
    held = (low <= min(truth)) & (min(truth) <= high)
    assert held.mean() >= 0.94
    naive = of.accuracy_bounds(found.min(1), 120)
    if truth[0] == truth[-1]:  # as if the worst group had been known before
        assert ((naive[:, 0] <= 0.9) & (naive[:, 1] >= 0.9)).mean() < 0.9


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_over_seeds_hold_for_other_seeds_and_images(seeds):
    """Trainings differ (sd .03), images are drawn; both are in the interval of the mean."""
    rng, held, paired = np.random.default_rng(1), [], []
    groups = np.repeat(np.arange(4), 60)
    for _ in range(30):
        hard = rng.random(240)  # of an image, the same for every training and both variants
        called = []
        for mean in (0.8, 0.85):
            accuracy = rng.normal(mean, 0.03, (seeds, 1))
            right = hard * 0.7 + 0.3 * rng.random((seeds, 240)) < accuracy * 0.7 + 0.15
            called.append(np.where(right, groups // 2, 1 - groups // 2))
        tables = [rates.confusions(c, groups, (2, 2)) for c in called]
        draws = [rates.resampled(c, groups, (2, 2)) for c in called]
        how = metrics(np.full((2, 2), 60), np.full(4, 0.25))["balanced"]
        found = of.interval_by_resampling(how, tables[0], draws[0], n=240)
        change = of.paired_difference(how, tuple(tables), tuple(draws), n=240)
        held.append(found.low <= 0.8 <= found.high)
        paired.append(change.low <= 0.05 <= change.high)
    assert np.mean(held) >= 0.9 and np.mean(paired) >= 0.9


def test_one_training_has_the_images_interval_and_a_perfect_one_is_not_certain():
    bounds = of.accuracy_bounds([0.9], 100)
    found = of.over_seeds([0.9], bounds[:, 0], bounds[:, 1], n=100)
    assert (found.low, found.high) == pytest.approx(tuple(bounds[0]))
    low, high = of.weighted_bounds([1.0, 1.0], [50, 50], [0.5, 0.5])
    assert 0.9 < low < 1 and high == 1.0


def test_the_calibration_error_by_hand():
    """Two bins: .95 sure and all right (.05 off), .75 sure and half right (.25 off)."""
    sure, right = [0.95, 0.95, 0.75, 0.75], [True, True, True, False]
    assert rates.calibration_error(sure, right) == pytest.approx((0.05 + 0.25) / 2)
