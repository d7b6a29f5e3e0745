"""Transfer to a reference set: what each form of feedback teaches, data, refusals, the loop."""

import contextlib
import json
import re
import shutil
import types
from collections import Counter

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_lora_training import QUICK
from typer.testing import CliRunner

from evenhand.adapt import cost as cost_module
from evenhand.adapt import train, without_work_before
from evenhand.adapt.fairtl.critic import correction, trained_critic, with_critic
from evenhand.adapt.fairtl.own_images import (
    Own,
    own_images,
    refuse_if_words_ignored,
    shown,
    some_of_each,
)
from evenhand.adapt.fairtl.reference import _shares, refuse_telling
from evenhand.adapt.fairtl.scores import _moved, probing
from evenhand.adapt.fairtl.train import losses, on_reference, read_sets
from evenhand.adapt.fairtl.weighting import density_ratios
from evenhand.cli import app
from evenhand.core.adapters import LORA
from evenhand.core.errors import UserError
from evenhand.core.prompts import Prompt
from evenhand.core.resources import find_yaml
from evenhand.emoji.world import Scene, caption, draw, load_world
from evenhand.generate.reference import reference
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import Predictions
from evenhand.recipes.fairtl import Feedback
from evenhand.recipes.generate import load_generate
from evenhand.recipes.methods import load_training
from evenhand.training.checkpoints import step_generator
from evenhand.training.denoise import _target
from evenhand.training.examples import Examples, Teacher
from evenhand.training.processes import training
from evenhand.training.train_on_images import attach_trained, load_denoising

FEW = ["steps=3", *QUICK[1:], "own.each=1", "own.concepts=[judge, cook]"]
NAMES = ["judge", "cook", "farmer", "mechanic"]


def quiet(*_):
    """Progress that nobody looks at."""


# What a form of feedback teaches, exactly: in one dimension the best prediction at a noise level is
# the mean target of all that fall near x_t, and a sampler that follows it shows the shares.

CLASSES = {"a woman": -1.0, "a man": 1.0}
SPREAD, LEVELS, PARTICLES = 0.3, 30, 12_000


class Line:
    """A model of one number, a share near 1, the others near -1; words decide. Closed form."""

    shape, diffusion = (1, 1), types.SimpleNamespace(device=torch.device("cpu"))

    def __init__(self, share=0.9) -> None:
        self.share = share
        self.levels = torch.linspace(3.0, -3.5, LEVELS).exp()  # noise over image

    def __len__(self):
        return LEVELS

    def mixture(self, step):
        level = float(self.levels[step])
        return 1 / (1 + level**2) ** 0.5, level / (1 + level**2) ** 0.5

    def noised(self, latents, noise, step):
        a, s = self.mixture(step)
        return a * latents + s * noise

    def target(self, latents, noise, step):
        return noise

    def predict(self, prompts, noised, step):
        a, s = self.mixture(step)
        low, high = self.likely(prompts, noised, step)
        variance = (a * SPREAD) ** 2 + s**2
        mean = (high - low) / (high + low).clamp(min=1e-30)
        return -s * -(noised - a * mean) / variance

    def likely(self, prompts, noised, step):
        """Density of each class at x_t, but for a factor."""
        (a, s), found = self.mixture(step), []
        variance = (a * SPREAD) ** 2 + s**2
        for centre, text, share in ((-a, "a woman", 1 - self.share), (a, "a man", self.share)):
            prior = [float(p == text) if p in CLASSES else share for p in prompts]
            found.append(
                torch.tensor(prior)[:, None] * (-((noised - centre) ** 2) / 2 / variance).exp()
            )
        return found


def drawn(shares, captions=None):
    """Numbers `[N, 1, 1]` of the two classes, and the prompts that they were drawn of."""
    generator = step_generator(3)
    classes = torch.multinomial(torch.tensor(shares), PARTICLES, True, generator=generator)
    centres = torch.tensor(list(CLASSES.values()))[classes]
    found = centres + SPREAD * torch.randn(PARTICLES, generator=generator)
    return found[:, None, None], [list(CLASSES)[k] for k in classes.tolist()]


def majority(found, line=None) -> float:
    """Share near 1 of what the best prediction of a term of the loss draws."""
    line, generator = line or Line(), step_generator(1)
    frozen = types.SimpleNamespace(frozen=contextlib.nullcontext)
    edges = np.linspace(-4, 4, 161)
    x = torch.randn(PARTICLES, generator=generator).numpy()
    group, latents = list(range(len(found))), found.latents[:, 0]
    for step in range(LEVELS):
        noise = torch.randn(latents.shape, generator=generator)
        target = _target(line, frozen, found, group, [False] * len(group), latents, noise, step)
        seen = line.noised(latents, noise, step)[:, 0].numpy()
        counts, _ = np.histogram(seen, edges)
        sums, _ = np.histogram(seen, edges, weights=target[:, 0].numpy())
        held, _ = np.histogram(seen, edges, weights=seen)
        known = counts > 20
        predicted = np.interp(x, held[known] / counts[known], sums[known] / counts[known])
        a, s = line.mixture(step)
        clean = (x - s * predicted) / a
        if step + 1 < LEVELS:
            a, s = line.mixture(step + 1)
            x = a * clean + s * predicted
    return float((clean > 0).mean())


def taught(**feedback) -> float:
    """What the reference set, half and half, teaches with a feedback of the frozen model."""
    latents, _ = drawn((0.5, 0.5))
    recipe = types.SimpleNamespace(feedback=Feedback(**feedback) if feedback else None)
    return majority(on_reference(recipe, Examples(latents, ["people"] * PARTICLES)))


def test_a_reference_set_teaches_its_own_shares():
    assert taught() == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.4, 0.67, 0.71), (0.2, 0.58, 0.61), (0.5, 0.71, 0.75)]
)
def test_the_literal_port_ends_between_the_reference_set_and_the_biased_model(share, low, high):
    """The geometric mixture of the two: why feedback at the same caption is a control."""
    assert low - 0.02 < taught(asked="same", share=share) < high + 0.02


def test_a_gate_keeps_the_shares_the_lower_it_is():
    found = [taught(asked="gated", share=0.5, gate=g) for g in (0.3, 0.6, 1.0, 30.0)]
    assert found == sorted(found) and found[0] == pytest.approx(0.5, abs=0.02)
    assert found[-1] == pytest.approx(taught(asked="same", share=0.5), abs=0.02)


@pytest.mark.parametrize("pool", [(0.5, 0.5), (0.2, 0.8)])
def test_prompts_that_say_a_class_drawn_from_the_target_teach_the_target(pool):
    """Also where the frozen model's images are not shared as the target: their weights are."""
    latents, texts = drawn(pool)
    prompts = [Prompt(t, "x", "x", "train", {"gender": t}) for t in texts]
    own = Own(latents, prompts, ["people"] * PARTICLES)
    found = own.said({"gender": {"a woman": 0.5, "a man": 0.5}}, 1.0)
    if pool == (0.5, 0.5):
        assert majority(found) == pytest.approx(0.5, abs=0.015)
    means = [float(found.importance[[t == c for t in texts]].sum()) for c in CLASSES]
    assert means[0] == pytest.approx(means[1], rel=1e-4)


def test_a_perfect_critic_leads_to_the_reference_set_round_by_round():
    """Each round halves the log odds; at one half it stays."""
    shares, even, people = [0.9], Line(0.5), ["people"] * PARTICLES

    for _ in range(7):
        line = Line(shares[-1])

        def critic(denoising, texts, x, step, line=line):
            there, here = (sum(w.likely(texts, x, step)) for w in (even, line))
            return (there.clamp(min=1e-30) / here.clamp(min=1e-30)).log()[:, 0]

        def push(group, noised, step, line=line, critic=critic):
            return 0.5 * correction(critic, line, people, noised, step)

        latents, _ = drawn((1 - shares[-1], shares[-1]))
        teacher = Teacher(people, as_it_was=contextlib.nullcontext, push=push)
        shares.append(majority(Examples(latents, people, teacher=teacher), line))
    assert shares[1] == pytest.approx(0.75, abs=0.03)  # odds of 3 in place of 9
    assert shares[-1] == pytest.approx(0.5, abs=0.01)


def test_a_critic_learns_the_log_ratio_of_two_sets_and_nothing_of_equal_ones():
    sets = [
        Examples(drawn(p)[0][..., None], ["people"] * PARTICLES) for p in ((0.5, 0.5), (0.1, 0.9))
    ]
    state = torch.get_rng_state()
    how = {"steps": 800, "early": None, "seed": 1}
    critic, loss = trained_critic(*sets, Line(), **how)
    x = torch.tensor([-1.0, 1.0])[:, None, None]
    found = critic(Line(), ["people"] * 2, x, LEVELS - 1)
    assert found.tolist() == pytest.approx([np.log(5), np.log(5 / 9)], abs=0.25)
    assert loss < 0.66
    same, chance = trained_critic(sets[0], sets[0], Line(), **how)
    assert same(Line(), ["people"] * 2, x, LEVELS - 1).abs().max() < 0.25
    assert chance == pytest.approx(np.log(2), abs=0.01)
    assert torch.equal(torch.get_rng_state(), state)


# The data and the loop, on the embedded model.


def written(folder, n=16, captions=None, even=True, seed=1):
    """Drawings of four occupations with captions that leave the gender open."""
    world, generator = load_world(), step_generator(seed)
    folder.mkdir()
    titles = [NAMES[i % len(NAMES)] for i in range(n)]
    genders = [i // len(NAMES) % 2 if even else 1 for i in range(n)]
    occupations = [list(world.occupations).index(t) for t in titles]
    scene = Scene(torch.tensor(occupations), torch.tensor(genders), torch.zeros(n).long(), [])
    rows = []
    for i, pixels in enumerate(to_uint8(draw(scene, generator=generator))):
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
        text = captions[i] if captions else caption(titles[i], {})
        rows.append(json.dumps({"file_name": f"{i:03}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return written(tmp_path_factory.mktemp("fairtl") / "reference")


def recipe(pictures, *more):
    named = {x.partition("=")[0]: x for x in [f"images.path={pictures}", *FEW, *more]}
    return load_training("fairtl/emoji", [x for x in named.values() if x])


def test_the_terms_of_the_loss_are_those_of_the_recipe(pictures, tmp_path):
    plus = "feedback={asked: said, share: 0.4}"
    found = recipe(pictures, plus, "keep={attributes: [gender, tone], batch: 3}")
    with training(tmp_path, {}) as accelerator:
        terms = losses(found, read_sets(found), load_denoising(found, accelerator), tmp_path, quiet)
    assert terms.keys() == {"loss", "said", "keep"}
    assert (terms["loss"].weight, terms["said"].weight, terms["keep"].weight) == (0.6, 0.4, 1.0)
    said, keep = terms["said"], terms["keep"]
    assert said.captions == ["an emoji of a judge"] * 2 + ["an emoji of a cook"] * 2
    assert said.teacher.captions[:2] == ["an emoji of a woman judge", "an emoji of a man judge"]
    assert keep.captions == keep.teacher.captions and len(keep) == 2 * (3 + 5)
    assert (keep.batch, keep.dropout) == (3, 0.0)
    report = json.loads((tmp_path / "reference.json").read_text(encoding="utf-8"))
    assert (report["images"], report["captions"], report["judge"]) == (16, 4, None)


@pytest.mark.filterwarnings("ignore:probing")  # of so few steps the order is what it happens to be
def test_first_layers_are_trained_alone_then_all_and_scores_are_kept(pictures, tmp_path):
    probed = "probing={share: 0.5, layers: 0.2, steps: 2, seeds: 2}"
    rows = []
    found = recipe(pictures, probed, "steps=2")
    place = train(found, tmp_path / "run", progress=lambda _, row: rows.append(row))
    assert [row["probed"] for row in rows if "probed" in row] == list(range(1, 9))
    assert [row["drawn"] for row in rows if "drawn" in row][:3] == [0, 1, 2]  # one at once
    (path,) = (tmp_path / "scores").glob("*.json")
    scores = json.loads(path.read_text(encoding="utf-8"))
    assert len(scores["scores"]) == 12 and len(scores["first"]) == 2
    assert "| text_encoder." in path.with_suffix(".md").read_text(encoding="utf-8")
    assert path.with_suffix(".svg").stat().st_size > 1000
    moved = {k for k, v in load_file(place / LORA).items() if "lora_B" in k and v.any()}
    assert len(moved) == 12  # all of them in the second half
    before = path.stat().st_mtime_ns
    one = recipe(pictures, probed.replace("0.5", "0.99"), "steps=2")
    alone = train(one, tmp_path / "other")
    moved = {k for k, v in load_file(alone / LORA).items() if "lora_B" in k and v.any()}
    assert len(moved) == 2 and path.stat().st_mtime_ns == before
    more = recipe(pictures, "probing={share: 0.99, layers: 0.5, steps: 2, seeds: 2}", "steps=2")
    moved = {k for k, v in load_file(train(more, tmp_path / "more") / LORA).items() if v.any()}
    assert len([k for k in moved if "lora_B" in k]) == 6 and path.stat().st_mtime_ns == before
    (tmp_path / "longer").mkdir()
    given = "probing={share: 0.5, steps: 3, seeds: 2, scores: %s}"
    with pytest.raises(UserError, match="other steps and seeds of probing"):
        train(recipe(pictures, given % path, "steps=2"), tmp_path / "longer" / "run")


def test_what_is_trained_of_one_layer_has_no_first(pictures, tmp_path):
    one = "lora={part: denoiser, modules: [conv_in]}"
    with pytest.raises(UserError, match="probing: one layer is trained"):
        train(recipe(pictures, one, "probing={steps: 1, seeds: 2}"), tmp_path / "run")


def test_the_model_is_asked_about_equally_many_images_of_each_class():
    classes = ["woman"] * 6 + ["man"] * 42  # each sixth would be a man but for the first
    prompts = [Prompt(c, "x", "x", "train", {"gender": c}) for c in classes]
    prompts += [Prompt("dark", "x", "x", "train", {"tone": "dark"})]
    assert some_of_each(prompts, "gender", 8) == [0, 1, 3, 4, 6, 16, 27, 37]
    assert [classes[i] for i in some_of_each(prompts, "gender", 99)] == ["woman"] * 6 + ["man"] * 6


def test_an_image_in_which_nothing_is_seen_counts_for_nothing():
    logits = {"gender": torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])}
    found = Predictions(logits, torch.tensor([True, False, True]))
    assert shown(found, "gender", [0, 1, 0]) == [True, False]


def test_a_layer_that_stays_where_its_adapter_began_has_not_moved(pictures, tmp_path):
    start = train(recipe(pictures, "lora.part=denoiser"), tmp_path / "start")
    found = recipe(pictures, "lora.part=denoiser", f"lora.start={start}")
    with training(tmp_path / "run", {}) as accelerator:
        denoising = load_denoising(found, accelerator)
        trainable = attach_trained(found, denoising)
        before = [p.detach().clone() for p in trainable.parameters]
        assert set(_moved(trainable, denoising, before).values()) == {0.0}
        with torch.no_grad():
            trainable.parameters[0].add_(1)
        assert sum(x > 0 for x in _moved(trainable, denoising, before).values()) == 1


@pytest.mark.filterwarnings("ignore:probing")
def test_scores_leave_what_is_trained_as_it_was(pictures, tmp_path):
    found = recipe(pictures, "probing={steps: 1, seeds: 2}", "lora.part=denoiser")
    with training(tmp_path / "run", {}) as accelerator:
        denoising = load_denoising(found, accelerator)
        terms = losses(found, read_sets(found), denoising, tmp_path / "run", quiet)
        trainable = attach_trained(found, denoising)
        before, places = [p.detach().clone() for p in trainable.parameters], [tmp_path / "run"] * 2
        probing(found, terms["loss"], denoising, trainable, *places, accelerator, quiet)
        pairs = zip(before, trainable.parameters, strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        other = recipe(
            pictures, "probing={steps: 1, seeds: 2}", "lora.rank=4", "lora.part=denoiser"
        )
        (path,) = (tmp_path / "scores").glob("*.json")
        other = other.model_copy(
            update={"probing": other.probing.model_copy(update={"scores": str(path)})}
        )
        with pytest.raises(UserError, match="of another model, of other layers"):
            probing(other, terms["loss"], denoising, trainable, *places, accelerator, quiet)


def test_all_weights_and_words_alone(pictures, tmp_path):
    words = ["images=null", "held_out=null", "feedback={asked: said, share: 1}", "steps=1"]
    changes = [x for x in words if not x.startswith("steps")]
    found = load_training(
        "fairtl/emoji", [*FEW[1:], *changes, "steps=1", "lora=null", "weights={}"]
    )
    place = train(found, tmp_path / "run")
    assert (place / "model_index.json").is_file() and place.name == "model"
    trained = json.loads((place / "trained.json").read_text(encoding="utf-8"))
    assert trained["settings"]["feedback"]["share"] == 1


def test_a_set_as_skewed_as_the_model_changes_nothing_beyond_chance(tmp_path):
    """A man in nine of ten judges before, and after; a balanced set moves them."""
    from evenhand.core.adapters import find_adapter
    from evenhand.diffusion.pipeline import load_diffusion
    from evenhand.judges.base import answers
    from evenhand.judges.registry import load_judge
    from evenhand.recipes.judge import find_judge
    from evenhand.recipes.model import load_model

    judge, shares = load_judge(find_judge("emoji-judge")), {}
    learn = ["steps=25", "batch=8", "at_once=8", "optimisation.learning_rate=3e-3", "keep=null"]
    for name, even in (("skewed", False), ("balanced", True)):
        folder = written(tmp_path / f"{name}-set", 64, ["an emoji of a judge"] * 64, even)
        found = recipe(folder, *learn, "own=null")
        adapter = find_adapter(str(train(found, tmp_path / name)))
        diffusion = load_diffusion(load_model("emoji"), adapter=adapter)
        images = diffusion.sample(
            ["an emoji of a judge"] * 24, list(range(24)), num_inference_steps=8
        )
        shares[name] = float(
            (answers(judge, images).probs["gender"].argmax(-1) == 1).float().mean()
        )
    assert shares["skewed"] > 0.75 and shares["balanced"] < shares["skewed"] - 0.15


def test_the_balance_is_reported_by_a_judge_and_a_skewed_set_is_said_aloud(tmp_path):
    folder = written(tmp_path / "set", 24, even=False)
    with pytest.warns(UserWarning, match=r"skewed in gender.*woman 0\.\d\d \[.*asked for: 0\.5"):
        train(recipe(folder, "judge=emoji-trainer", "steps=1"), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "reference.json").read_text(encoding="utf-8"))
    assert found["shares"]["gender"]["skewed"] and found["shares"]["gender"]["images"] == 24


def test_images_that_stand_twice_are_named_and_count_once(tmp_path):
    folder = written(tmp_path / "set", 16)
    (folder / "005.png").write_bytes((folder / "002.png").read_bytes())
    with pytest.warns(UserWarning, match=r"1 images stand there twice, such as .*00[25].png"):
        train(recipe(folder, "steps=1"), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "reference.json").read_text(encoding="utf-8"))
    assert (found["images"], found["twice"]) == (15, 1)


def test_captions_that_are_skewed_are_counted_among_those_of_their_attribute():
    target = recipe("x").target
    even, odd = Counter({"woman": 20, "man": 20}), Counter({"woman": 40})
    captions = {("gender", "a"): odd, ("gender", "b"): Counter({"man": 40})}
    captions |= {("gender", "c"): even, **{("tone", str(i)): even for i in range(40)}}
    with pytest.warns(UserWarning, match="skewed in the images of 2 captions, such as 'a'"):
        found = _shares("gender", even, target, captions)
    assert found["skewed_captions"] == ["a", "b"]


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("an emoji of a woman judge", r"003.png: .* holds 'woman', which tells gender \(woman\)"),
        ("two men with dark skin", r"003.png: .* holds 'men', which tells gender \(man\)"),
        ("a lady who judges", r"003.png: .* holds 'lady'"),
        ("an emoji of a gender-neutral cook", r"003.png: .*gender-neutral"),
        (
            "an emoji of a pilot",
            r"003.png: .* names 'pilot', a held-out concept of emoji-occupations",
        ),
    ],
)
def test_captions_that_tell_a_class_or_a_held_out_concept_are_refused(caption, message, tmp_path):
    captions = ["an emoji of a judge"] * 5
    words = "words={gender: {woman: [lady], man: [gentleman]}}"
    good = recipe(written(tmp_path / "good", 5, captions), words)
    refuse_telling(good, read_sets(good)["images"])
    captions[3] = caption
    found = recipe(written(tmp_path / "set", 5, captions), words)
    with pytest.raises(UserError, match=message):
        refuse_telling(found, read_sets(found)["images"])


@pytest.mark.parametrize(
    ("woman", "man", "judge"),
    [
        ("an emoji of a {concept}", "an emoji of a {concept} ", None),  # change nothing
        ("a zorp {concept}", "a blick {concept}", "emoji-trainer"),  # change it otherwise
    ],
)
def test_a_model_that_does_not_follow_the_words_is_refused_and_told_of_the_gate(
    woman, man, judge, tmp_path
):
    values = {
        "version": 1, "source": "x", "licence": "x", "family": "x",
        "templates": ["an emoji of {a} {concept}"], "concepts": {"train": ["judge"]},
        "explicit": {"gender": {"woman": woman, "man": man}},
    }  # fmt: skip
    (tmp_path / "unknown.yaml").write_text(json.dumps(values), encoding="utf-8")
    changes = [f"own={{prompts: {tmp_path / 'unknown.yaml'}, each: 2}}", "feedback={asked: said}"]
    changes += [f"judge={judge or 'null'}", "seed=1"]
    found = recipe("x", *changes, "own.each=2", "own.concepts=[]")
    with training(tmp_path / "run", {}) as accelerator:
        denoising = load_denoising(found, accelerator)
        own = own_images(found, denoising, tmp_path / "run", quiet)
        with pytest.raises(UserError, match=r"follows the words of gender too badly.*asked=gated"):
            refuse_if_words_ignored(own, "gender", denoising, found)
        known = own_images(recipe("x"), denoising, tmp_path / "other", quiet)
        assert refuse_if_words_ignored(known, "gender", denoising, found) > 0.7


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["batch=17", "at_once=1"],
            "holds 16 different images that can be read, fewer than a batch",
        ),
        (["own=null"], "own: name the prompts"),
        (["images=null"], "name the reference images"),
        (["feedback={asked: said, share: 1}"], "leave images out"),
        (["feedback={asked: same, share: 1}"], "would stay as it is"),
        (["own.concepts=[nurse]"], "concept 'nurse'"),
        (["keep={attributes: [hair]}"], "attribute 'hair'"),
        (["target={shares: {gender: {woman: 0.5, robot: 0.5}}}", "feedback={}"], "class 'robot'"),
        (["words={hair: {red: [ginger]}}"], "attribute 'hair'"),
        (["target={shares: {gender: {woman: 0.7, man: 0.5}}}"], "sums to 1.2"),
        (["critic={}", "feedback={}"], "critic stands alone"),
        (["critic={rounds: 9}"], "critic.rounds: 9 share 3 steps"),
        (["weights={}"], "a recipe trains lora or weights, not both"),
        (["judge=emoji-trainerx"], "emoji-trainerx"),
        (
            ["importance={images: {path: x}, features: {kind: classifier}}"],
            "kind classifier are a judge's",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(pictures, tmp_path, more, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(recipe(pictures, *more), tmp_path / "run")


def test_images_that_only_the_reference_set_has_many_of_weigh_more():
    shares = []
    for seed in range(5):
        draw = np.random.default_rng(seed).normal
        reference = np.concatenate([draw(m, 1, (100, 4)) for m in (-2, 2)])
        biased = np.concatenate([draw(-2, 1, (20, 4)), draw(2, 1, (180, 4))])
        weights = density_ratios(reference, biased).numpy()
        assert weights.mean() == pytest.approx(1, abs=1e-5)
        shares.append(weights[:20].sum() / weights.sum())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def test_weights_see_occupations_that_lean_in_opposite_ways():
    """As many women as men in all, 90 % women in one occupation, 10 % in the other."""
    leans = []
    for seed in range(5):
        generator = np.random.default_rng(seed)

        def images(women_of_each, generator=generator):
            rows = [
                (job, sex)
                for job, women in enumerate(women_of_each)
                for sex, n in ((0, women), (1, 100 - women))
                for _ in range(n)
            ]
            cells = np.array(rows)
            noise = generator.normal(0, 0.5, (len(cells), 4))
            return cells, np.concatenate([4 * cells - 2, 0 * cells], 1) + noise

        cells, biased = images((90, 10))
        weights = density_ratios(images((50, 50))[1], biased).numpy()
        for job in (0, 1):
            of_job = weights * (cells[:, 0] == job)
            leans.append(abs(of_job[cells[:, 1] == 0].sum() / of_job.sum() - 0.5))
    assert np.mean(leans) < 0.25  # .4 without weights, and with those of a linear classifier


def test_a_reference_set_is_drawn_captioned_without_classes_and_trained_on(tmp_path):
    changes = [
        "per_cell=2",
        "contexts.vocabulary={form: [a picture of, ''], title: [judge, cook]}",
        "settings={num_inference_steps: 6}",
        "filter.confidence=0.5",
    ]
    result = CliRunner().invoke(
        app, ["reference", "emoji-reference", *changes, "--out", str(tmp_path / "set")]
    )
    assert result.exit_code == 0, result.output
    file = tmp_path / "set" / "reference.parquet"
    rows = datasets.Dataset.from_parquet(str(file)).to_list()
    assert {"a picture of a judge", "a cook"} <= {row["text"] for row in rows}
    assert all(row["gender"] in row["said"] for row in rows)
    found = json.loads((tmp_path / "set" / "reference.json").read_text(encoding="utf-8"))
    assert found["classes"] == {"gender": {"woman": 4, "man": 4}}
    assert found["judge"] == "emoji-judge" and "package:emoji/model@" in found["source"][0]
    quick = ["steps=1", "batch=4", "own=null", "keep=null"]
    assert (train(recipe(file, *quick), tmp_path / "run") / LORA).is_file()


def test_a_reference_set_of_neutral_prompts_is_refused(tmp_path):
    with pytest.raises(UserError, match="cells_by: words"):
        reference(load_generate("emoji-balanced-neutral"), tmp_path)


def importance(pictures, folder, *more):
    """The terms of a training that also takes a biased set, told apart by its pixels.

    One of its images is of another size than the others.
    """
    biased = folder.with_name(f"{folder.name}-biased")
    shutil.copytree(pictures, biased)
    Image.open(biased / "000.png").resize((80, 96)).save(biased / "000.png")
    given = f"importance={{images: {{path: {biased}}}, features: {{kind: pixels}}}}"
    found = recipe(pictures, given, "keep=null", *more)
    with training(folder, {}) as accelerator:
        return losses(found, read_sets(found), load_denoising(found, accelerator), folder, quiet)


def test_other_prompts_of_the_models_own_images_are_another_run(pictures, tmp_path):
    shipped = find_yaml("prompts", "emoji-occupations").read_text(encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(shipped, encoding="utf-8")
    found = recipe(pictures, f"own={{prompts: {mine}, each: 1, concepts: [judge]}}", "steps=1")
    train(found, tmp_path / "run")
    assert "a woman" in shipped
    mine.write_text(shipped.replace("a woman", "one woman"), encoding="utf-8")
    with pytest.raises(UserError, match=r"other settings: texts\..*mine.yaml was"):
        train(found, tmp_path / "run")


def test_a_biased_set_shares_the_weight_of_a_reference_set_whose_teacher_stays(pictures, tmp_path):
    said = importance(pictures, tmp_path / "said", "feedback={asked: said, share: 0.4}")
    assert (said["loss"].weight, said["biased"].weight) == pytest.approx((0.3, 0.3))
    gated = importance(pictures, tmp_path / "gated", "feedback={asked: gated, share: 0.4}")
    assert (gated["loss"].teacher.share, gated["loss"].weight) == (0.4, 0.5)


def test_rounds_with_a_critic_go_on_where_they_were_cut(pictures, tmp_path):
    cut = "critic={rounds: 2, images: 10, steps: 2, share: 0.5}"
    found = recipe(pictures, cut, "steps=4", "checkpoint_every=1")
    rows = []

    def stop(step, row):
        if "drawn" not in row:
            rows.append((step, row))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(found, tmp_path / "cut", progress=stop)
    assert [step for step, _ in rows] == [1, 2, 3]
    assert {"critic", "loss", "keep"} <= rows[0][1].keys()
    one, other = (load_file(train(found, tmp_path / f) / LORA) for f in ("cut", "whole"))
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    for number in (1, 2):
        told = json.loads((tmp_path / "whole" / f"round-{number}" / "critic.json").read_text())
        assert 0 < told["held_out_loss"] < 2 and told["images"] == [16, 10]
    drawn = [
        load_file(tmp_path / "whole" / f"round-{n}" / "current.safetensors")["latents"]
        for n in (1, 2)
    ]
    assert not torch.equal(*drawn)  # the second round draws with what the first has learned


def test_the_strength_of_a_critic_scales_what_the_model_follows(pictures, tmp_path):
    pushed = []
    for strength in (0.2, 0.4):
        how = f"critic={{rounds: 1, images: 10, steps: 8, strength: {strength}}}"
        found, folder = recipe(pictures, how, "keep=null"), tmp_path / str(strength)
        with training(folder, {}) as accelerator:
            denoising = load_denoising(found, accelerator)
            terms = losses(found, read_sets(found), denoising, folder, quiet)
            trainable = attach_trained(found, denoising)
            with_critic(found, terms, denoising, trainable, folder, quiet)
            teacher, x = terms["critic"].teacher, terms["critic"].latents[:3, 0]
            plain = denoising.predict(teacher.captions[:3], x, 2)
            pushed.append(teacher.push([0, 1, 2], x, 2))
            with torch.no_grad():
                for parameter in trainable.parameters:
                    parameter.add_(0.1)
                with teacher.as_it_was():
                    assert torch.equal(denoising.predict(teacher.captions[:3], x, 2), plain)
                assert not torch.equal(denoising.predict(teacher.captions[:3], x, 2), plain)
    assert pushed[0].abs().max() > 0
    torch.testing.assert_close(2 * pushed[0], pushed[1])


def test_a_dry_run_counts_all_steps_and_images_and_draws_few(pictures, monkeypatch):
    monkeypatch.setattr(cost_module, "DRAWN", 2)
    plan = recipe(pictures, "probing={steps: 50, seeds: 2}", "steps=10", "own.each=30")
    alone = recipe(pictures, "steps=10", "own.each=30")
    assert without_work_before(plan, 2).own.model_dump(include={"each", "concepts"}) == {
        "each": 1,
        "concepts": ["judge"],
    }
    found, fewer = (cost_module.cost(x) for x in (plan, alone))
    assert found.drawing > 0 and found.seconds > 5 * (fewer.seconds - fewer.drawing)
