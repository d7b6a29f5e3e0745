"""Precision, recall, density, coverage and memorisation, worked out by hand."""

import numpy as np
import pytest
import torch

from evenhand.core.errors import UserError
from evenhand.measure.neighbours import coverage_if_alike, memorisation, neighbours, prdc


def on_a_line(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_every_number_is_as_worked_out_on_a_line():
    reference = on_a_line(0, 1, 3, 7)  # reach to the nearest other one: 1, 1, 2, 4
    images = on_a_line(0.5, 2, 20)  # reach: 1.5, 1.5, 18
    found = neighbours(images, reference, k=1)
    # inside of each reference image: .5 of 0 and 1 (not of 3: 2.5 > 2); 2 of 1 and 3; 20 of none
    assert found.precise.tolist() == [True, True, False]
    assert found.dense.tolist() == [2, 2, 0]
    assert found.covered.tolist() == [True, True, True, False]  # 7: the nearest is 2, 5 > 4
    # 20 has a reach of 18: it holds 3 and 7; .5 holds 0 and 1
    assert found.recalled.tolist() == [True, True, True, True]
    of_two = neighbours(on_a_line(0, 1, 3, 7), on_a_line(0, 1, 3, 7), k=2)  # reach 3, 2, 3, 6
    assert of_two.dense.tolist() == [1.5, 2.0, 2.0, 0.5]


def test_estimates_are_means_with_intervals():
    found = prdc(on_a_line(0.5, 2, 20), on_a_line(0, 1, 3, 7), k=1)
    assert found["precision"].value == pytest.approx(2 / 3) and found["precision"].n == 3
    assert found["density"].value == pytest.approx(4 / 3)
    assert found["coverage"].value == 0.75 and found["coverage"].n == 4
    assert all(e.low <= e.value <= e.high + 1e-9 for e in found.values())


def test_a_copy_lies_inside_where_images_are_equal():
    reference = on_a_line(1, 1, 1, 5)
    assert neighbours(on_a_line(1, 2, 9.5), reference, k=2).precise.tolist() == [True, True, False]


def test_alike_sets_have_the_coverage_that_is_foretold():
    draw = torch.Generator().manual_seed(0)
    found = [
        prdc(torch.randn(60, 3, generator=draw), torch.randn(40, 3, generator=draw), k=3)
        for _ in range(60)
    ]
    mean = np.mean([x["coverage"].value for x in found])
    assert mean == pytest.approx(coverage_if_alike(60, 40, 3), abs=0.02)
    assert coverage_if_alike(1, 2, 1) == 0.5  # (2 - 1) / (1 + 2 - 1) is missed
    assert np.mean([x["density"].value for x in found]) == pytest.approx(1, abs=0.05)


def test_memorisation_by_hand_and_over_subsets():
    equal = memorisation(on_a_line(0, 10), on_a_line(1, 30), on_a_line(2, 7))
    # nearest training image 1 and 9 away, held out 2 and 3
    assert equal["closer"].value == 0.5 and equal["ratio"].value == pytest.approx(10 / 5)
    # one training image, 2 away; of three held-out images 1, 3 and 4 away one is taken
    larger = memorisation(on_a_line(0), on_a_line(2), on_a_line(1, 3, 4))
    assert larger["closer"].value == pytest.approx(2 / 3)
    assert larger["ratio"].value == pytest.approx(2 / (8 / 3))
    # two of three: the nearest is 1 with chance 2 / 3, else 3
    pairs = memorisation(on_a_line(0), on_a_line(2, 9), on_a_line(1, 3, 4))
    assert pairs["ratio"].value == pytest.approx(2 / (5 / 3))
    assert memorisation(on_a_line(0), on_a_line(2), on_a_line(2))["closer"].value == 0.5


def test_fresh_images_are_closer_by_chance_and_numbers_do_not_matter():
    draw, held, ratios = torch.Generator().manual_seed(0), [], []
    for _ in range(40):
        training, held_out, fresh = (torch.randn(n, 6, generator=draw) for n in (15, 60, 50))
        found = memorisation(fresh, training, held_out, draws=100)
        chance = found["closer_by_chance"]
        held.append(chance.low <= found["closer"].value <= chance.high)
        ratios.append(found["ratio"].value)
    assert np.mean(held) >= 0.85 and np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_copies_are_told_from_fresh_images():
    draw = torch.Generator().manual_seed(0)
    training, held_out = (torch.randn(n, 6, generator=draw) for n in (30, 100))
    found = memorisation(training + 0.01, training, held_out, draws=50)
    assert found["closer"].low > found["closer_by_chance"].high and found["ratio"].high < 0.05


def test_what_cannot_be_measured_is_said():
    with pytest.raises(UserError, match="3 reference images are too few for k = 5"):
        prdc(torch.zeros(9, 2), torch.zeros(3, 2))
    with pytest.raises(UserError, match="not finite"):
        prdc(torch.full((9, 2), torch.nan), torch.zeros(9, 2))
    with pytest.raises(UserError, match="no held-out images"):
        memorisation(torch.zeros(9, 2), torch.zeros(3, 2), torch.zeros(0, 2))
