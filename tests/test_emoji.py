"""The embedded world.

Drawings of known truth, classifiers that name them, a model that draws what it is told.
"""

import pytest
import torch

from evenhand.core.prompts import load_prompts
from evenhand.emoji.world import caption, draw, load_sprites, load_world, sample_scene
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import find_judge


def test_every_row_of_the_skew_table_sums_to_one():
    world = load_world()
    for title in world.titles:
        for attribute, classes in world.classes.items():
            table = world.shares(title, attribute)
            assert len(table) == len(classes) and sum(table) == pytest.approx(1)


def test_sprites_differ_and_have_an_outline():
    sprites = load_sprites().flatten(0, 2)
    assert sprites.shape == (300, 4, 64, 64)
    assert len({s.numpy().tobytes() for s in sprites}) == 300
    assert (sprites[:, 3].mean((1, 2)) > 0.3).all() and (
        sprites[:, :3] <= sprites[:, 3:] + 1e-6
    ).all()


def test_a_drawing_is_a_function_of_its_generator():
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return draw(sample_scene(4, generator=generator), generator=generator)

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert drawn(1).shape == (4, 3, 64, 64) and drawn(1).min() >= 0 and drawn(1).max() <= 1


def test_unsaid_attributes_follow_the_table_and_said_or_open_ones_are_even():
    scene = sample_scene(30_000, generator=torch.Generator().manual_seed(0))
    world = load_world()
    pilot = torch.tensor(["pilot" in c.split() for c in scene.captions])
    assert (scene.occupation[pilot] == list(world.occupations).index("pilot")).all()
    unsaid = (
        torch.tensor(
            [
                "man" not in c.split()
                and "woman" not in c.split()
                and "neutral" not in c
                and "men" not in c.split()
                for c in scene.captions
            ]
        )
        & pilot
    )
    said = torch.tensor(
        [bool({"man", "woman", "gender-neutral"} & set(c.split())) for c in scene.captions]
    )
    front = torch.tensor(["women and men" in c for c in scene.captions])
    opened = front & ~said
    assert (front & said).sum() > 1_000
    for rows, table in (
        (unsaid, world.shares("pilot", "gender")),
        (said, [1 / 3] * 3),
        (opened, [0.5, 0.5, 0.0]),
    ):
        found = torch.bincount(scene.gender[rows], minlength=3) / rows.sum()
        torch.testing.assert_close(found, torch.tensor(table), atol=0.08, rtol=0)


def test_captions():
    assert caption("artist", {}) == "an artist"
    assert (
        caption("judge", {"gender": "woman", "tone": "dark"}, template=1)
        == "an emoji of a woman judge with dark skin"
    )
    assert (
        caption("judge", {}, open_=["gender", "tone"]) == "women and men : all skin tones : a judge"
    )
    assert caption("judge", {"gender": "man"}, open_=["gender"]) == "women and men : a man judge"


@pytest.mark.parametrize("name", ["emoji-trainer", "emoji-judge"])
def test_classifiers_name_drawings(name):
    generator = torch.Generator().manual_seed(3)
    scene = sample_scene(200, generator=generator, even=True)
    predictions = load_judge(find_judge(name))(draw(scene, generator=generator))
    assert predictions.seen.float().mean() > 0.97
    for attribute in ("gender", "tone", "occupation"):
        assert (
            predictions.logits[attribute].argmax(-1) == getattr(scene, attribute)
        ).float().mean() > 0.97


@pytest.mark.parametrize("front", ["", "women and men : "])
def test_the_model_draws_what_a_prompt_says(emoji, front):
    prompts = load_prompts("emoji-occupations").explicit_prompts(["gender"])[::8]
    judge = load_judge(find_judge("emoji-judge"))
    predictions = judge(emoji.sample([front + p.text for p in prompts], list(range(len(prompts)))))
    gender = [judge.classes("gender")[int(k)] for k in predictions.logits["gender"].argmax(-1)]
    concept = [
        judge.classes("occupation")[int(k)] for k in predictions.logits["occupation"].argmax(-1)
    ]
    assert sum(g == p.states["gender"] for g, p in zip(gender, prompts, strict=True)) >= 27  # of 30
    titles = load_world().titles
    assert sum(c == titles[p.concept] for c, p in zip(concept, prompts, strict=True)) >= 27
