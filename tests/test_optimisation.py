"""The optimisation block and the optimizer: what moves, by how much, and what is refused."""

import math

import pytest
import torch

from evenhand.core import resources
from evenhand.core.errors import UserError
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.judge_training import load_judge_training
from evenhand.recipes.optimisation import Optimisation
from evenhand.training.checkpoints import save_state
from evenhand.training.optimizer import BAD_STEPS, Optimizer, factors


def one(value=1.0):
    return torch.nn.Parameter(torch.tensor([value]))


def stepped(optimizer, *pairs):
    """A step along the gradients given with the parameters."""
    for parameter, gradient in pairs:
        parameter.grad = torch.tensor([gradient])
    return optimizer.step("here")


@pytest.mark.parametrize("name", resources.names("train/dft"))
def test_the_shipped_recipes_step_at_the_rates_of_their_adapters(name):
    """The factors with which the shipped adapters were trained, to the last bit."""
    recipe = load_recipe(f"dft/{name}")
    how, steps = recipe.optimisation, recipe.steps
    factor, w = factors(how, steps), how.warmup
    assert how.schedule in ("constant", "cosine") and isinstance(w, int)
    for step in range(0, steps, max(steps // 200, 1)):
        falling = 0.5 * (1 + math.cos(math.pi * ((step - w) / (steps - w))))
        after = 1.0 if how.schedule == "constant" else falling
        assert factor(step) == ((step + 1) / w if step < w else after)


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"schedule": "constant", "warmup": 0}, [1, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 0.5}, [0.5, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 4}, [0.25, 0.5, 0.75, 1]),
        ({"schedule": "linear", "warmup": 0}, [1, 0.75, 0.5, 0.25]),
        ({"schedule": "linear", "warmup": 2}, [0.5, 1, 1, 0.5]),
        ({"schedule": "cosine", "warmup": 0}, [1, 0.8535533905932737, 0.5, 0.14644660940672627]),
        (
            {
                "schedule": "cosine_with_restarts",
                "warmup": 0,
                "schedule_options": {"num_cycles": 2},
            },
            [1, 0.5, 1, 0.5],
        ),
        (
            {
                "schedule": "polynomial",
                "warmup": 0,
                "schedule_options": {"power": 2, "lr_end": 0},
            },
            [1, 0.5625, 0.25, 0.0625],
        ),
    ],
)
def test_a_schedule_follows_its_warm_up(settings, expected):
    factor = factors(Optimisation(**settings), 4)
    assert [factor(step) for step in range(4)] == pytest.approx(expected)


def test_the_schedule_reaches_the_weights():
    value = one()
    how = Optimisation(
        optimizer="sgd", momentum=0, learning_rate=0.1, schedule="linear", warmup=0, clip=None
    )
    optimizer, seen = Optimizer(how, [("value", value)], steps=4), []
    for _ in range(4):
        stepped(optimizer, (value, 1.0))
        seen.append(value.item())
    assert seen == pytest.approx([0.9, 0.825, 0.775, 0.75])


def test_sgd_gathers_momentum():
    value = one()
    how = Optimisation(optimizer="sgd", learning_rate=0.1, schedule="constant", warmup=0)
    optimizer = Optimizer(how, [("value", value)], steps=2)
    stepped(optimizer, (value, 1.0))
    stepped(optimizer, (value, 1.0))
    assert value.item() == pytest.approx(1 - 0.1 - 0.19)  # momentum .9 where none is named


def test_betas_reach_adamw():
    def after(betas):
        value = one()
        how = Optimisation(betas=betas, learning_rate=0.1, schedule="constant", warmup=0)
        optimizer = Optimizer(how, [("value", value)], steps=2)
        stepped(optimizer, (value, 1.0))
        stepped(optimizer, (value, -0.5))
        return value.item()

    assert after((0.9, 0.999)) == after(None) != after((0.5, 0.999))


def test_groups_have_rates_and_decays_of_their_own():
    head, norm, body = one(), one(), one()
    how = Optimisation(
        optimizer="sgd",
        momentum=0,
        learning_rate=0.1,
        weight_decay=0.5,
        schedule="constant",
        warmup=0,
        clip=None,
        groups=[
            {"match": "^head", "learning_rate": 0.2},
            {"match": "norm|head", "weight_decay": 0},
        ],
    )
    named = [("body.weight", body), ("head.weight", head), ("body.norm", norm)]
    optimizer = Optimizer(how, named, steps=1)
    stepped(optimizer, *((parameter, 1.0) for _, parameter in named))
    assert head.item() == pytest.approx(1 - 0.2 * 1.5)  # the first group that matches counts
    assert norm.item() == pytest.approx(1 - 0.1)
    assert body.item() == pytest.approx(1 - 0.1 * 1.5)


def test_a_group_that_matches_nothing_is_named():
    how = Optimisation(groups=[{"match": "haed", "learning_rate": 0.2}])
    with pytest.raises(UserError, match="'haed' matches no trained parameter .*; there are head"):
        Optimizer(how, [("head", one())], steps=1)


def test_long_gradients_are_shortened():
    for clip, moved in ((0.5, 0.5), (None, 3.0)):
        value = one(0.0)
        how = Optimisation(
            optimizer="sgd", momentum=0, learning_rate=1, schedule="constant", warmup=0, clip=clip
        )
        norm = stepped(Optimizer(how, [("value", value)], steps=1), (value, 3.0))
        assert norm == 3 and value.item() == pytest.approx(-moved, rel=1e-5)


def test_the_count_of_steps_left_out_goes_through_a_checkpoint(tmp_path):
    how, values = Optimisation(schedule="constant"), [one(), one()]
    first, second = (Optimizer(how, [("value", v)], steps=9) for v in values)
    for _ in range(BAD_STEPS - 1):
        stepped(first, (values[0], math.nan))
    state = {"step": 4, "classifier": "mine@1", "parameters": values[:1], **first.state()}
    save_state(tmp_path / "checkpoint.pt", state)
    assert second.restore(tmp_path / "checkpoint.pt", "mine@1") == 4
    assert second.left_out == BAD_STEPS - 1
    with pytest.raises(UserError, match=f"not finite in {BAD_STEPS} steps in a row"):
        stepped(second, (values[1], math.nan))


def test_a_step_left_out_is_warned_of_at_the_end():
    value = one()
    optimizer = Optimizer(Optimisation(), [("value", value)], steps=2)
    stepped(optimizer, (value, math.inf))
    assert value.item() == 1
    stepped(optimizer, (value, 1.0))
    with pytest.warns(UserWarning, match="run: 1 of 2 steps were left out"):
        optimizer.check_finite("run")


def test_a_training_that_ends_without_a_finite_gradient_or_weight_is_refused():
    value = one()
    optimizer = Optimizer(Optimisation(), [("value", value)], steps=2)
    stepped(optimizer, (value, math.nan))
    with pytest.raises(UserError, match="not finite in the last 1 steps.*lower optimisation.learn"):
        optimizer.check_finite("run")
    stepped(optimizer, (value, 1.0))
    value.data.fill_(math.inf)
    with pytest.raises(UserError, match="weights are not finite.*lower optimisation.learning_rate"):
        optimizer.check_finite("run")


def test_a_checkpoint_of_other_parameters_is_named(tmp_path):
    value, other = one(), torch.nn.Parameter(torch.zeros(3))
    state = {"step": 1, "classifier": "mine@1", "parameters": [value]}
    state |= Optimizer(Optimisation(), [("value", value)], steps=2).state()
    optimizer = Optimizer(Optimisation(), [("other", other)], steps=2)
    save_state(tmp_path / "other.pt", state)
    with pytest.raises(UserError, match=r"other\.pt: is no checkpoint of this training"):
        optimizer.restore(tmp_path / "other.pt", "mine@1")
    save_state(tmp_path / "old.pt", {k: v for k, v in state.items() if k != "left_out"})
    with pytest.raises(UserError, match=r"old\.pt: is no checkpoint of this training"):
        Optimizer(Optimisation(), [("value", value)], steps=2).restore(
            tmp_path / "old.pt", "mine@1"
        )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"learning_rate": 1e31}, "learning_rate"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"optimizer": "sgd", "betas": (0.9, 0.99)}, "betas are AdamW's"),
        ({"momentum": 0.9}, "momentum is SGD's"),
        ({"warmup": 2.5}, "warmup is 2.5"),
        ({"warmup": -1}, "warmup"),
        ({"schedule": "sine"}, "schedule"),
        ({"schedule_options": {"power": 2}}, "power is no option of the schedule cosine"),
        ({"schedule": "polynomial", "learning_rate": 1e-8}, "lr_end is 1e-07"),
        ({"groups": [{"match": "(", "learning_rate": 1}]}, "no regular expression"),
        ({"groups": [{"match": "head"}]}, "sets no learning_rate and no weight_decay"),
        ({"bogus": 1}, "bogus"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Optimisation(**settings)


def test_old_places_of_the_settings_are_refused_in_one_line_that_names_the_new():
    with pytest.raises(UserError) as found:
        load_recipe("dft/emoji-gender", ["learning_rate=1", "ema=.9", "gradient.clip=3"])
    assert str(found.value) == (
        "emoji-gender.yaml: learning_rate is now optimisation.learning_rate; "
        "ema is now optimisation.ema; gradient.clip is now optimisation.clip"
    )
    with pytest.raises(UserError, match="weight_decay is now optimisation.weight_decay"):
        load_judge_training("classifiers/utkface", ["weight_decay=1"])
