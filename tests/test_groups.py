"""Images of a group held against its own, on the embedded world; several trainings together."""

import json

import pytest
import torch
from safetensors.torch import save_file

from evenhand.core.errors import UserError
from evenhand.diffusion.latents import round_trip
from evenhand.emoji.world import Scene, draw, load_world
from evenhand.judges.registry import load_judge
from evenhand.measure.groups import GroupImages, costs, measured, reported, together
from evenhand.recipes.judge import find_judge
from evenhand.stats.shares import Estimate
from evenhand.training.checkpoints import step_generator


def drawings(n, key, gender="woman", occupations=(0, 1)):
    world, generator = load_world(), step_generator(7, key)
    occupation = torch.tensor([occupations[i % len(occupations)] for i in range(n)])
    kind = torch.full((n,), world.classes["gender"].index(gender))
    return draw(Scene(occupation, kind, torch.full((n,), 4), []), generator=generator)


@pytest.fixture(scope="module")
def judge():
    return load_judge(find_judge("emoji-judge"))


@pytest.fixture(scope="module")
def group():
    women = drawings(40, "held out")
    plain = drawings(12, "plain")
    return GroupImages(
        drawn=drawings(36, "drawn"),
        held_out=women,
        training=drawings(20, "training"),
        group={"gender": "woman", "tone": "dark"},
        clusters=["first", "second"] * 20,
        class_prompt=(plain, plain),
    )


def test_fresh_drawings_of_the_group_are_like_it(group, judge):
    found = measured(group, judge.features, judge=judge)
    assert found["precision"].value > 0.8 and found["coverage"].value > 0.8
    assert found["kid"].low < found["kid"].value < found["kid"].high
    assert found["clusters_covered"].value == 1 and found["coverage: first"].n == 20
    assert found["as_asked: gender"].value == found["as_asked: tone"].value == 1
    chance = found["closer_by_chance"]
    assert chance.low < found["closer"].value < chance.high
    assert found["drift: same_seed"].value == pytest.approx(1, abs=1e-6)
    assert found["drift: gender"].value == 0


def test_other_people_in_one_cluster_alone_are_told(group, judge):
    one = drawings(36, "drawn", occupations=(0,))
    cut = measured(
        GroupImages(one, group.held_out, group.training, {}, group.clusters), judge.features
    )
    assert cut["clusters_covered"].value == 0.5 and cut["coverage: second"].value < 0.3
    men = drawings(36, "drawn", "man")
    wrong = measured(
        GroupImages(men, group.held_out, group.training, group.group), judge.features, judge=judge
    )
    assert wrong["as_asked: gender"].value < 0.1 and wrong["precision"].value < 0.5
    assert wrong["kid"].value > cut["kid"].value


def test_copies_of_training_images_are_told(group, judge):
    copies = GroupImages(group.training, group.held_out, group.training)
    found = measured(copies, judge.features)
    assert found["closer"].low > found["closer_by_chance"].high and found["ratio"].value == 0


def test_references_go_through_the_autoencoder_and_back(group):
    from evenhand.diffusion.pipeline import load_diffusion
    from evenhand.recipes.model import load_model

    pipe = load_diffusion(load_model("emoji")).pipe
    back = round_trip(pipe, group.held_out[:5], at_once=2)
    pixels = group.held_out[:5] * 2 - 1
    by_hand = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample / 2 + 0.5
    assert torch.allclose(back, by_hand.detach().clamp(0, 1), atol=1e-5)
    small = GroupImages(back, group.held_out[:8], group.held_out[20:28])
    embed = torch.nn.Flatten()
    with_trip, without = (measured(small, embed, pipe=p, k=2) for p in (pipe, None))
    assert with_trip["ratio"].value != without["ratio"].value


def test_several_trainings_are_put_together(group):
    a, b = (Estimate(x, x - 0.1, x + 0.1, 50) for x in (0.6, 0.8))
    found = together([a, b], "precision")
    assert found.value == pytest.approx(0.7) and found.low < 0.5 and found.high == 1
    assert together([Estimate(-2, -3, -1, 9)] * 2, "kid").low == pytest.approx(-3)
    report = reported({1: {"kid": a}, 2: {"kid": b}}, group)
    assert report.numbers["kid"].value == pytest.approx(0.7) and report.seeds == [1, 2]
    assert (report.drawn, report.held_out, report.trained_on) == (36, 40, 20)
    assert type(report).model_validate(report.as_json()) == report
    assert report.lines()[2].startswith("| kid | 0.70 [")
    with pytest.raises(UserError, match="measured alike"):
        reported({1: {"kid": a}, 2: {}}, group)


def test_costs_are_those_of_each_adapter_of_a_set(tmp_path):
    for name, log in (("a", [0.5, 0.25]), ("b", []), ("references", None)):
        (tmp_path / "adapter" / name).mkdir(parents=True)
        (tmp_path / "parts" / name).mkdir(parents=True)
        if log is not None:
            save_file({"x": torch.zeros(4)}, tmp_path / "adapter" / name / "w.safetensors")
        rows = [json.dumps({"step": i, "seconds": x}) for i, x in enumerate(log or [])]
        (tmp_path / "parts" / name / "log.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found = costs(tmp_path)
    assert found.keys() == {"a", "b"}
    assert (found["a"].seconds, found["b"].seconds) == (0.75, None)
    assert found["a"].bytes == (tmp_path / "adapter" / "a" / "w.safetensors").stat().st_size


def test_a_group_that_the_judge_does_not_know_is_named(group, judge):
    odd = GroupImages(group.drawn, group.held_out, group.training, {"hair": "red"})
    with pytest.raises(UserError, match="knows nothing of 'hair'"):
        measured(odd, judge.features, judge=judge)
