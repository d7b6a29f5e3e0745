"""Soft tokens, averages and mixtures.

What is trained, what is saved, and that stock loaders draw the same from it.
"""

import pipelines
import pytest
import torch
from safetensors.torch import load_file

from evenhand.adapt.dft.batches import draw, neutral_prompts
from evenhand.adapt.dft.coefficients import published, published_factors
from evenhand.adapt.dft.plan import plan
from evenhand.core.adapters import SOFT_TOKENS, find_adapter
from evenhand.core.errors import UserError
from evenhand.diffusion.adapters import load_adapter, save_adapter
from evenhand.diffusion.replay import attach as attach_tape
from evenhand.diffusion.trainable import attach
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.lora import SoftTokens
from evenhand.recipes.optimisation import Optimisation
from evenhand.training.optimizer import BAD_STEPS, Optimizer

SOFT = SoftTokens(count=3)


def trained_soft_tokens(family: str):
    """A pipeline after two steps on soft tokens, the trainable, and the embedding tables before."""
    diffusion = pipelines.make(family, frozen=True)
    base = pipelines.draw(diffusion)
    trainable = attach(diffusion, SOFT, seed=0)
    before = {n: m.state_dict() for n, m in pipelines.networks(diffusion).items()}
    before = {n: {k: v.clone() for k, v in state.items()} for n, state in before.items()}
    start = [p.detach().clone() for p in trainable.parameters]
    optimizer = torch.optim.AdamW(trainable.parameters, lr=0.3)
    for _ in range(2):
        tape = attach_tape(diffusion.denoiser, lambda: pipelines.draw(diffusion))
        tape.backward(pipelines.loss_of(tape.images))
        optimizer.step()
        optimizer.zero_grad()
    assert all(
        ((p - s).abs().amax(1) > 0).all() for p, s in zip(trainable.parameters, start, strict=True)
    )
    return diffusion, trainable, before, base


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_soft_tokens_train_alone_and_load_in_the_stock_pipeline(family, tmp_path):
    diffusion, trainable, before, base = trained_soft_tokens(family)
    for name, network in pipelines.networks(diffusion).items():
        assert all(torch.equal(v, before[name][k]) for k, v in network.state_dict().items())
        assert not any(p.requires_grad for p in network.parameters())
    drawn = pipelines.draw(diffusion)
    with trainable.frozen():
        assert torch.equal(pipelines.draw(diffusion), base)
    save_adapter(tmp_path / "adapter", trainable.file, trainable.state(), {"token": SOFT.token})
    fresh = pipelines.make(family, frozen=True)
    source, fresh.prefix = load_adapter(fresh.pipe, find_adapter(tmp_path / "adapter"))
    assert source.startswith("adapter@") and fresh.prefix == f"{SOFT.token} "
    assert (pipelines.draw(fresh) - drawn).abs().max() < 2 / 255
    assert (drawn - base).abs().max() > 2 / 255
    sizes = {k: tuple(v.shape) for k, v in load_file(tmp_path / "adapter" / SOFT_TOKENS).items()}
    assert sizes == (
        {"<evenhand>": (3, 32)} if family == "sd" else {"clip_l": (3, 32), "clip_g": (3, 32)}
    )


def test_soft_tokens_start_as_vocabulary_embeddings_and_the_seed_decides_which():
    def start(seed: int):
        diffusion = pipelines.make("sd", frozen=True)
        table = diffusion.pipe.text_encoder.get_input_embeddings().weight.clone()
        return attach(diffusion, SOFT, seed=seed).parameters[0].detach(), table

    (first, table), (again, _), (other, _) = start(0), start(0), start(1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all((table == row).all(1).any() for row in first)


@pytest.mark.parametrize("family", ["sd3", "flux", "sana", "qwen_image"])
def test_soft_tokens_are_refused_by_name(family):
    diffusion = pipelines.make(family)
    with pytest.raises(
        UserError, match=f"cannot be used with {type(diffusion.pipe).__name__}: .*Use lora instead"
    ):
        attach(diffusion, SOFT, seed=0)


def test_a_strength_of_soft_tokens_is_refused(tmp_path):
    diffusion = pipelines.make("sd", frozen=True)
    trainable = attach(diffusion, SOFT, seed=0)
    save_adapter(tmp_path / "a", trainable.file, trainable.state(), {"token": SOFT.token})
    with pytest.raises(UserError, match="soft tokens have no strength"):
        load_adapter(pipelines.make("sd").pipe, find_adapter(tmp_path / "a"), scale=0.5)


def test_published_coefficients():
    """The values that the paper's code gives with 21 steps on Stable Diffusion's schedule."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    steps = torch.linspace(0, 999, 22, dtype=torch.float64).round().int().flip(0)[:-1].tolist()
    factors = published_factors((1 - beta).cumprod(0).numpy(), steps)
    table = dict(zip(steps, factors, strict=True))
    assert table[999] == pytest.approx(0.092, abs=5e-4) and table[143] == pytest.approx(
        3.60, abs=5e-3
    )
    assert table[48] == pytest.approx(3.11, abs=5e-3) and factors.prod() == pytest.approx(1)


def test_published_coefficients_need_a_noise_predicting_model():
    for family in ("sd2", "sd3"):
        diffusion = pipelines.make(family, frozen=True)
        with pytest.raises(UserError, match="rescale=published needs a model that predicts noise"):
            published(
                diffusion.pipe.scheduler,
                attach_tape(diffusion.denoiser, lambda d=diffusion: pipelines.draw(d)),
            )


def test_the_average_is_what_is_saved_and_survives_a_checkpoint(tmp_path):
    how = Optimisation(ema=0.5, warmup=0, schedule="constant", learning_rate=0.1)
    value = torch.nn.Parameter(torch.zeros(2))
    optimizer = Optimizer(how, [("value", value)], steps=3)
    seen = []
    for _ in range(3):
        value.grad = torch.ones(2)
        optimizer.step("here")
        seen.append(value.detach().clone())
    resumed_value = torch.nn.Parameter(torch.zeros(2))
    resumed = Optimizer(how, [("value", resumed_value)], steps=3)
    state = {"step": 3, "classifier": "mine@1", "parameters": [value.detach()]}
    torch.save({**optimizer.state(), **state}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="trained with mine@1, which is mine@2 now"):
        resumed.restore(tmp_path / "checkpoint.pt", "mine@2")
    assert resumed.restore(tmp_path / "checkpoint.pt", "mine@1") == 3 and torch.equal(
        resumed_value, seen[-1]
    )
    with optimizer.averaged(), resumed.averaged():
        assert torch.equal(value, resumed_value) and seen[0][0] > value[0] > seen[-1][0]
    assert torch.equal(value, seen[-1])


def test_gradients_that_stay_non_finite_stop_training():
    value = torch.nn.Parameter(torch.zeros(2))
    optimizer = Optimizer(Optimisation(), [("value", value)], steps=9)
    with pytest.raises(UserError, match=f"not finite in {BAD_STEPS} steps in a row"):
        for _ in range(BAD_STEPS):
            value.grad = torch.full((2,), float("nan"))
            optimizer.step("run: step 7")
    assert torch.equal(value, torch.zeros(2))


def test_a_mixture_draws_by_weight_and_gives_families_their_own_target(tmp_path):
    recipe = load_recipe(
        "dft/emoji-gender",
        [
            "prompts={occupations: 3, sports: 1}",
            "prompts_per_step=4",
            "steps=200",
            "images=4",
            "alignment.together=true",
            "targets={sports: {shares: {gender: {woman: 1.0}}}}",
        ],
    )
    steps = neutral_prompts(plan(recipe))
    families = [p.family for step in steps for p in step]
    assert len(families) == 800 and 0.7 < families.count("occupations") / 800 < 0.8
    sports = [p.concept for step in steps for p in step if p.family == "sports"]
    assert len(set(sports[:147])) == 147  # each once before any twice
    import numpy as np

    step = next(s for s in steps if {p.family for p in s} == {"occupations", "sports"})
    batch = draw(recipe, step, plan(recipe).explicit, 0, np.random.default_rng(0))
    assert len(batch.prompts) == 16 + recipe.explicit_images and len(batch.groups) == 2
    for group in batch.groups:
        assert {batch.prompts[i].family for i in group.rows} == {
            "sports" if group.target.shares["gender"].get("woman") == 1.0 else "occupations"
        }


def test_free_prompts_come_from_a_text_file(tmp_path):
    (tmp_path / "mine.txt").write_text("a photo of a busker\n\na photo of a tailor\n")
    recipe = load_recipe(
        "dft/emoji-gender", [f"prompts={tmp_path / 'mine.txt'}", "steps=2", "explicit_images=0"]
    )
    assert {p.text for step in neutral_prompts(plan(recipe)) for p in step} == {
        "a photo of a busker",
        "a photo of a tailor",
    }
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="holds no prompt"):
        plan(load_recipe("dft/emoji-gender", [f"prompts={tmp_path / 'empty.txt'}"]))


def test_prompts_that_say_a_class_are_not_looked_at_where_none_is_drawn():
    """Their classes may be ones that the classifier does not know."""
    some, none = (load_recipe("dft/emoji-gender", [f"explicit_images={n}"]) for n in (2, 0))
    assert plan(some).explicit and plan(none).explicit == []
