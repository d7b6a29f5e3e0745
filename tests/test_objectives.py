"""Objectives, masks and the refitted last layer, by values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evenhand.classify.losses import contrast, passes_of
from evenhand.classify.masks import chosen, mask_of, of_as_many, scores
from evenhand.classify.objectives import (
    first_state,
    function_of,
    rows_of,
    weights_of,
)
from evenhand.classify.refit import last_layer_of
from evenhand.core.errors import UserError
from evenhand.images.augmentation import cropped
from evenhand.recipes.classify import load_classify
from evenhand.recipes.classify_parts import Mask, Objective, Refit
from evenhand.training.gradients import Gradients

LOSSES = torch.tensor([1.0, 3.0, 0.5, 2.0], requires_grad=True)
GROUPS = torch.tensor([0, 0, 1, 2])


def found(name, losses=LOSSES, state=None, **rest):
    objective = Objective(name=name, **rest)
    state = first_state(objective, GROUPS) if state is None else state
    return function_of(objective)(losses, GROUPS, state)


def test_group_dro_by_hand_is_not_erm_and_its_weights_sum_to_one():
    erm, _ = found("erm")
    assert erm.item() == pytest.approx(6.5 / 4)
    loss, state = found("group_dro", step_size=0.1)
    grown = np.exp(0.1 * np.array([2.0, 0.5, 2.0]))
    weights = grown / grown.sum()
    np.testing.assert_allclose(state.numpy(), weights, rtol=1e-6)
    assert loss.item() == pytest.approx(float(weights @ [2.0, 0.5, 2.0]))
    assert loss.item() != pytest.approx(erm.item())
    (gradient,) = torch.autograd.grad(loss, LOSSES)  # through the losses, not the weights
    np.testing.assert_allclose(gradient, [weights[0] / 2] * 2 + weights[1:].tolist(), rtol=1e-6)
    for _ in range(20):
        loss, state = found("group_dro", state=state, step_size=0.1)
        assert state.sum().item() == pytest.approx(1)
    assert state[0] > 10 * state[1]


def test_a_group_that_the_batch_has_not_keeps_its_weight():
    losses, groups = torch.tensor([2.0]), torch.tensor([1])
    loss, state = function_of(Objective(name="group_dro", step_size=1.0))(
        losses, groups, torch.tensor([0.5, 0.5])
    )
    share = math.exp(2) / (math.exp(2) + 1)
    assert state.tolist() == pytest.approx([1 - share, share])
    assert loss.item() == pytest.approx(2 * share)


def test_reweighting_cvar_and_learning_from_failure_by_hand():
    assert found("reweighting")[0].item() == pytest.approx(
        (4 / 6 * 1 + 4 / 6 * 3 + 4 / 3 * 0.5 + 4 / 3 * 2) / 4
    )
    assert found("cvar", share=0.5)[0].item() == pytest.approx(2.5)
    assert found("cvar", share=0.3)[0].item() == pytest.approx(2.5)  # 1.2 images: two
    both = torch.tensor([[1.0, 3.0], [2.0, 0.5]])
    loss, _ = function_of(Objective(name="lff", power=0.7))(both, GROUPS[:2], torch.zeros(0))
    kept = (3 / 4 * 1 + 0.5 / 2.5 * 2) / 2
    biased = (math.exp(-3 * 0.7) * 3 + math.exp(-0.5 * 0.7) * 0.5) / 2
    assert loss.item() == pytest.approx(kept + biased)


def test_which_images_are_drawn_how_often():
    weights = weights_of(Objective(name="resampling"), GROUPS, None)
    assert [weights[g == GROUPS].sum().item() for g in range(3)] == pytest.approx([1, 1, 1])
    assert torch.equal(weights, weights_of(Objective(name="group_dro"), GROUPS, None))
    wrong = torch.tensor([False, True, False, False])
    jtt = weights_of(Objective(name="jtt", weight=20), GROUPS, wrong)
    assert jtt.tolist() == [1, 20, 1, 1]
    assert weights_of(Objective(), GROUPS, None) is None
    generator = torch.Generator().manual_seed(0)
    kept = rows_of(Objective(name="subg"), GROUPS, generator)
    assert GROUPS[kept].tolist() == [0, 1, 2]
    assert rows_of(Objective(), GROUPS, generator).tolist() == [0, 1, 2, 3]


def test_the_contrastive_loss_by_hand():
    """Three unit vectors; the third is alone in its class and adds nothing of its own."""
    features = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    first = -math.log(math.exp(0.6) / (math.exp(0.6) + math.exp(0.0)))
    second = -math.log(math.exp(0.6) / (math.exp(0.6) + math.exp(0.8)))
    assert contrast(features, labels, 1.0).item() == pytest.approx((first + second) / 3, rel=1e-5)


def test_two_views_of_an_image_stand_in_a_batch_and_are_drawn_together():
    recipe = load_classify("emoji", ["augment={flip: true, shift: 3}"])
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = {"images": images, "labels": torch.arange(4), "groups": torch.arange(4)}
    passes = passes_of(recipe, views=2)
    two = passes.augment(batch, torch.Generator().manual_seed(1))
    assert two["labels"].tolist() == two["groups"].tolist() == [0, 1, 2, 3] * 2
    assert not torch.equal(two["images"][:4], two["images"][4:])
    once = passes_of(recipe).augment(batch, torch.Generator().manual_seed(1))
    assert len(once["images"]) == 4
    # one of each class: with one view no image has another of its class, with two it has its own
    features = F.normalize(images.flatten(1), dim=1)
    assert contrast(features, batch["labels"], 0.1).item() == 0
    same = torch.cat([features, features])
    assert contrast(same, two["labels"], 0.1) < contrast(same, torch.zeros(8).long(), 0.1)


def gradients(shift=0.0, scale=1.0):
    """Mean gradients of three tensors, and the mean squares of single batches."""
    mean = {
        "a": torch.tensor([1.0, 2.0]),
        "b": torch.tensor([[0.5]]),
        "c": torch.tensor([4.0, 4.0, 4.0, 4.0]),
    }
    moved = {name: scale * (g + shift * (1 + i)) for i, (name, g) in enumerate(mean.items())}
    return Gradients(moved, dict.fromkeys(mean, 4.0 * scale**2))


WEIGHTS = {"a": torch.full((2,), 3.0), "b": torch.full((1, 1), 0.5), "c": torch.ones(4)}


def test_both_sensitivities_are_means_of_absolute_differences_over_elements():
    real, biased, even = gradients(), gradients(0.1), gradients(-0.2)
    by_hand = {"a": (0.1, 0.3), "b": (0.2, 0.6), "c": (0.3, 0.9)}
    got = scores((real, biased, even), WEIGHTS)
    for name, pair in by_hand.items():
        assert got[name] == pytest.approx(pair, rel=1e-5)
    fisher = scores((real, biased, even), WEIGHTS, "fisher")
    assert fisher["a"] == pytest.approx((0.05, 0.15), rel=1e-5)  # the root of 4
    weight = scores((real, biased, even), WEIGHTS, "weight_rms")
    assert weight["a"] == pytest.approx((0.3, 0.9), rel=1e-5)


@pytest.mark.parametrize("normalise", ["grad_rms", "fisher"])
def test_normalised_scores_do_not_depend_on_the_loss_scale(normalise):
    one, ten = (
        scores(tuple(gradients(s, scale) for s in (0, 0.1, -0.2)), WEIGHTS, normalise)
        for scale in (1.0, 10.0)
    )
    for name in WEIGHTS:
        assert one[name] == pytest.approx(ten[name], rel=1e-4)


def test_the_mask_is_what_is_in_both_lists_and_its_size_is_bounded():
    table = {"a": (1.0, 9.0), "b": (2.0, 8.0), "c": (3.0, 1.0), "d": (4.0, 7.0)}
    assert chosen(table, 2) == ["a", "b"] and chosen(table, 0.75) == ["a", "b"]
    assert chosen(table, 4) == list(table)
    rng = np.random.default_rng(0)
    for n, k in ((62, 55), (62, 40), (14, 10)):
        drawn = {str(i): tuple(rng.random(2)) for i in range(n)}
        assert max(0, 2 * k - n) <= len(chosen(drawn, k)) <= k
    with pytest.raises(UserError, match="no tensor is among the 1 .* raise mask.k"):
        chosen({"a": (1.0, 1.0), "b": (2.0, 2.0)}, 1)
    with pytest.raises(UserError, match="is 5, and the network has 4 tensors"):
        chosen(table, 5)


def test_controls_of_the_mask():
    three, generator = (gradients(), gradients(0.1), gradients(-0.2)), torch.Generator()
    rows = {
        choose: [
            r.tensor
            for r in mask_of(Mask(k=2, choose=choose), three, WEIGHTS, generator)
            if r.trained
        ]
        for choose in ("scores", "complement", "all")
    }
    assert rows == {"scores": ["b"], "complement": ["a", "c"], "all": ["a", "b", "c"]}
    with pytest.raises(UserError, match="complement: selects no tensor"):
        mask_of(Mask(k=3, choose="complement"), three, WEIGHTS, generator)
    sizes = {str(i): int(s) for i, s in enumerate([400, 300, 200, 100, 90, 80, 30, 20, 10])}
    picked = {tuple(of_as_many(sizes, 500, torch.Generator().manual_seed(i))) for i in range(10)}
    assert len(picked) > 3
    assert all(490 <= sum(sizes[n] for n in names) <= 500 for names in picked)
    ones = dict.fromkeys(sizes, 1)
    assert len(of_as_many(ones, 4, generator)) == 4


@pytest.mark.parametrize("classes", [2, 4])
def test_the_last_layer_is_fitted_to_what_holds_in_every_group(classes):
    """Feature 0 is the shortcut, right in most images; the others are the truth."""
    rng, n = np.random.default_rng(0), 400
    labels = np.arange(n) % classes
    other = np.where(rng.random(n) < 0.9, labels % 2, 1 - labels % 2)
    truth = np.eye(classes)[labels] + 0.3 * rng.normal(size=(n, classes))
    features = np.column_stack([5 * other + 0.1 * rng.normal(size=n), truth]) * 7 + 3
    groups = labels * 2 + other
    how = Refit(strengths=[1.0, 0.03], repeats=3)
    weight, bias = last_layer_of(features, labels, groups, how, seed=0)
    assert weight.shape == (classes, classes + 1) and bias.shape == (classes,)
    right = (features @ weight.T + bias).argmax(1) == labels
    assert min(right[groups == g].mean() for g in np.unique(groups)) > 0.9
    assert np.array_equal(weight, last_layer_of(features, labels, groups, how, seed=0)[0])
    with pytest.raises(UserError, match="a single validation image"):
        last_layer_of(features[:9], labels[:9], np.arange(9), how, seed=0)


def test_crops_are_of_each_image_and_repeat_the_border():
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def crop(**rest):
        rest = {"shift": 0, "area": None, "flip": False, **rest}
        return cropped(images, **rest, generator=torch.Generator().manual_seed(1))

    assert torch.equal(crop(), images)
    padded, moved = F.pad(images, [2] * 4, mode="replicate"), crop(shift=2)
    places = [
        [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(moved[i], padded[i, :, y : y + 8, x : x + 8])
        ]
        for i in range(6)
    ]
    assert all(len(p) == 1 for p in places) and len({p[0] for p in places}) > 1
    mirrored = crop(flip=True)
    assert {torch.equal(mirrored[i], images[i].flip(-1)) for i in range(6)} == {True, False}
    zoomed = crop(area=0.3)
    assert zoomed.shape == images.shape and zoomed.min() >= 0 and zoomed.max() <= 1
    assert len({tuple(zoomed[i].flatten().tolist()) for i in range(6)}) == 6
