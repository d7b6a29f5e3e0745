import numpy as np
import pytest

from evenhand.adapt.dft.targets import assign, binary_plan, transport_plan
from evenhand.core.attributes import Attribute, Target

TWO = {"gender": Attribute(name="gender", classes=["woman", "man"])}
THREE = {"gender": Attribute(name="gender", classes=["woman", "man", "person"])}


def rng():
    return np.random.default_rng(0)


def test_binary_ranks_10_to_13_of_24_get_no_target():
    """F = Binomial(24, 1/2).

    F(9) = .154 and F(10) = .271, so confidence .8 drops the four ranks in the middle.
    """
    p = np.linspace(0.01, 0.99, 24)
    target = Target(shares={"gender": {"woman": 0.5, "man": 0.5}})
    found = assign(
        {"gender": np.stack([1 - p, p], 1)},
        np.ones(24, bool),
        target,
        TWO,
        draws=1,
        confidence=0.8,
        rng=rng(),
    )["gender"]
    assert np.flatnonzero(~found.known).tolist() == [10, 11, 12, 13]
    assert found.classes[:10].tolist() == [0] * 10 and found.classes[14:].tolist() == [1] * 10


@pytest.mark.parametrize("share", [0.5, 0.25, 0.9])
def test_closed_form_equals_transport_for_any_share(share):
    p = rng().random(12)
    cost = np.sqrt(2) * np.stack(
        [p, 1 - p], 1
    )  # Euclidean distance to the corner of class 0, class 1
    plan = transport_plan(cost, np.array([1 - share, share]), draws=20_000, rng=rng())
    np.testing.assert_allclose(plan, binary_plan(p, share), atol=0.015)


def test_closed_form_by_hand():
    """N = 2, share 1/4: X ~ Bin(2, 3/4) of class 0; P(X <= 0) = 1/16, P(X <= 1) = 7/16."""
    np.testing.assert_allclose(binary_plan(np.array([0.9, 0.1]), 0.25)[:, 1], [7 / 16, 1 / 16])


def test_three_classes_go_to_the_images_nearest_to_them():
    probs = np.eye(3)[[0] * 2 + [1] * 18 + [2] * 4]
    target = Target(shares={"gender": {"woman": 0.45, "man": 0.45, "person": 0.10}})
    found = assign(
        {"gender": probs}, np.ones(24, bool), target, THREE, draws=400, confidence=0.8, rng=rng()
    )["gender"]
    assert found.known[:2].all() and (found.classes[:2] == 0).all()  # women are too few: they stay
    wanted = np.bincount(found.classes[found.known], minlength=3)
    assert wanted[1] >= 6 and found.known[2:20].sum() < 18  # of 18 men about 11 may stay


def test_unseen_images_take_no_part():
    p = np.array([0.1, 0.2, 0.8, 0.9, 0.5, 0.5])
    seen = np.array([True] * 4 + [False] * 2)
    found = assign(
        {"gender": np.stack([1 - p, p], 1)},
        seen,
        Target(shares={"gender": {"woman": 0.5, "man": 0.5}}),
        TWO,
        draws=1,
        confidence=0.6,
        rng=rng(),
    )["gender"]
    assert not found.known[4:].any()
    assert found.known[[0, 3]].all()
    none = assign(
        {"gender": np.stack([1 - p, p], 1)},
        np.zeros(6, bool),
        Target(shares={"gender": {"woman": 1.0}}),
        TWO,
        draws=1,
        confidence=0.6,
        rng=rng(),
    )["gender"]
    assert not none.known.any()


def test_joint_targets_are_marginalised_for_each_attribute():
    known = {**TWO, "tone": Attribute(name="tone", classes=["light", "dark"])}
    target = Target(
        shares={"gender": {"woman": 0.5, "man": 0.5}, "tone": {"light": 1.0, "dark": 0.0}}
    )
    probs = {"gender": np.eye(2)[[0] * 4 + [1] * 4], "tone": np.eye(2)[[1] * 8]}
    found = assign(probs, np.ones(8, bool), target, known, draws=400, confidence=0.6, rng=rng())
    assert found["tone"].known.all() and (found["tone"].classes == 0).all()
    assert (
        found["gender"].classes[found["gender"].known]
        == np.array([0] * 4 + [1] * 4)[found["gender"].known]
    ).all()


def test_a_joint_table_is_asked_for_cell_by_cell():
    known = {**TWO, "tone": Attribute(name="tone", classes=["light", "dark"])}
    target = Target(joint={"woman/dark": 0.5, "man/light": 0.5}, joint_of=["gender", "tone"])
    assert target.cells(known) == ([(0, 0), (0, 1), (1, 0), (1, 1)], [0.0, 0.5, 0.5, 0.0])
    assert target.marginal(known["tone"], known) == [0.5, 0.5]


def test_families_with_targets_on_different_attributes_do_not_spoil_each_other():
    """An image may stay when its own group's attributes are as wished."""
    import torch

    from evenhand.adapt.dft.batches import Batch, Group
    from evenhand.adapt.dft.losses import Perceived, wish_of
    from evenhand.core.prompts import Prompt
    from evenhand.recipes.dft import load_recipe

    known = {a: Attribute(name=a, classes=["x", "y"]) for a in ("a", "b")}
    probs = {a: torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4).repeat(2, 1) for a in known}
    groups = [
        Group(np.arange(8), Target(shares={"a": {"x": 0.5, "y": 0.5}})),
        Group(np.arange(8, 16), Target(shares={"b": {"x": 0.5, "y": 0.5}})),
    ]
    batch = Batch([Prompt("p", "p", "f", "train")] * 16, list(range(16)), 4, groups)
    seen = torch.ones(16, dtype=torch.bool)
    recipe = load_recipe("dft/emoji-gender", ["alignment.confidence=0.6"])
    unseen = seen.clone()
    unseen[0] = False
    wish = wish_of(
        recipe,
        known,
        batch,
        Perceived(probs, seen),
        Perceived(probs, unseen),
        np.random.default_rng(0),
    )
    sure = [r for r in range(8) if wish.targets["a"].known[r]]
    assert (
        0 in sure
        and len(sure) >= 4
        and not wish.targets["a"].known[8:].any()
        and not wish.targets["b"].known[:8].any()
    )
    assert [r for r in range(8) if wish.stays[r]] == [r for r in sure if r != 0]
    assert [r - 8 for r in range(8, 16) if wish.stays[r]] == sure


def test_with_many_cells_a_high_confidence_asks_for_less_than_the_target():
    """Ten cells, 16 images, a third of them light.

    At .6 hardly an image is asked to change its tone, at .3 the surplus is.
    """
    tones = ["light", "medium-light", "medium", "medium-dark", "dark"]
    known = {**TWO, "tone": Attribute(name="tone", classes=tones)}
    target = Target(
        shares={"gender": {"woman": 0.5, "man": 0.5}, "tone": dict.fromkeys(tones, 0.2)}
    )

    def light_after(confidence):
        random, light = rng(), []
        for _ in range(30):
            gender, tone = (
                random.choice(2, 16),
                random.choice(5, 16, p=[0.36, 0.2, 0.16, 0.16, 0.12]),
            )
            sure = {"gender": np.eye(2)[gender], "tone": np.eye(5)[tone]}
            sure = {
                a: 0.99 * p + 0.01 * random.dirichlet(np.ones(p.shape[1]), 16)
                for a, p in sure.items()
            }
            found = assign(
                sure, np.ones(16, bool), target, known, draws=100, confidence=confidence, rng=random
            )["tone"]
            light.append((np.where(found.known, found.classes, tone) == 0).mean())
        return np.mean(light)

    assert light_after(0.6) > 0.30 and light_after(0.3) < 0.26
    assert light_after({"gender": 0.9, "tone": 0.3}) == light_after(0.3)
