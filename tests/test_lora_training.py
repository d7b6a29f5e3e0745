"""Training on images by the denoising loss: the loop, its data, the verb."""

import json
import pathlib
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from pipelines import FAMILIES, PROMPTS, make
from pipelines import draw as draw_tiny
from safetensors.torch import load_file
from test_denoising import images_of
from typer.testing import CliRunner

from evenhand import devices
from evenhand.adapt import train
from evenhand.cli import app
from evenhand.core.adapters import LORA, find_adapter
from evenhand.core.errors import UserError
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.latents import encode
from evenhand.diffusion.lora import components
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.trainable import attach
from evenhand.emoji.world import caption, draw, load_world, sample_scene
from evenhand.images.tensors import to_uint8
from evenhand.judges.perceive import judge_is_trainer
from evenhand.judges.registry import load_judge
from evenhand.measure.groups import costs
from evenhand.recipes.judge import find_judge
from evenhand.recipes.lora import Lora
from evenhand.recipes.methods import load_training
from evenhand.recipes.model import load_model
from evenhand.training.checkpoints import step_generator
from evenhand.training.denoise import Probing, denoise
from evenhand.training.examples import Examples, Teacher, _cut
from evenhand.training.processes import training
from evenhand.training.train_on_images import attach_trained, load_denoising

PEOPLE = ["a woman pilot", "a man pilot"]
QUICK = ["steps=3", "batch=2", "at_once=1", "checkpoint_every=1", "num_inference_steps=4"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four people of the embedded world with captions; one image is of another size."""
    folder, generator = tmp_path_factory.mktemp("pictures"), step_generator(1)
    scene = sample_scene(4, generator=generator, even=True)
    occupations = list(load_world().occupations)
    rows = []
    for i, pixels in enumerate(to_uint8(draw(scene, generator=generator))):
        image = Image.fromarray(pixels)
        (image.resize((96, 80)) if i == 3 else image).save(folder / f"{i}.png")
        text = caption(occupations[int(scene.occupation[i])], {})
        rows.append(json.dumps({"file_name": f"{i}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def recipe(pictures, *more):
    named = {x.partition("=")[0]: x for x in [f"images.path={pictures}", *QUICK, *more]}
    return load_training("lora/emoji", list(named.values()))


def weights(folder):
    return load_file(folder / LORA)


@pytest.mark.parametrize("name", FAMILIES)
def test_lora_on_one_image_lowers_its_loss_and_its_file_draws_alike_in_every_family(name, tmp_path):
    """By the family's own loader, in a stock pipeline that evenhand has not touched."""
    diffusion = make(name, frozen=True)
    denoising = Denoising(diffusion, PROMPTS[0])
    latents = encode(diffusion.pipe, images_of(denoising, 1), denoising.shape)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    try:
        components(diffusion.pipe, "denoiser")
    except UserError as error:
        assert name == "pixart_sigma", error  # its loader takes no LoRA, and that is said
        return
    trained = attach(diffusion, Lora(part="denoiser", rank=4), seed=0)
    optimizer = torch.optim.AdamW(trained.parameters, lr=2e-2)
    losses = []
    for _ in range(12):
        loss = denoising.loss(PROMPTS[:1], latents, noise, 2).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.999 * losses[0]
    with torch.no_grad():
        drawn = draw_tiny(diffusion)
    save_adapter(tmp_path / "adapter", LORA, trained.state(), {})
    stock = make(name, frozen=True)
    with torch.no_grad():
        before = draw_tiny(stock)
        stock.pipe.load_lora_weights(tmp_path / "adapter", weight_name=LORA)
        after = draw_tiny(stock)
    assert (after - drawn).abs().max() < 1e-5 < (after - before).abs().max()
    with torch.no_grad():
        again = Denoising(stock, PROMPTS[0]).loss(PROMPTS[:1], latents, noise, 2)
    assert again.item() < losses[0]


def test_a_cut_training_goes_on_to_the_same_weights_whatever_runs_together(pictures, tmp_path):
    class Cut(Exception):
        pass

    def cut(done, row):
        if done == 2:
            raise Cut

    whole = train(recipe(pictures, "at_once=2"), tmp_path / "whole")
    with pytest.raises(Cut):
        train(recipe(pictures, "at_once=2"), tmp_path / "cut", progress=cut)
    rows = []
    resumed = train(
        recipe(pictures, "at_once=2"), tmp_path / "cut", progress=lambda d, r: rows.append(d)
    )
    assert rows in ([2, 3], [3])  # the step after the last checkpoint on
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key])
    assert find_adapter(whole).described["base_model"].startswith("package:emoji/model@")
    assert len(list((whole / "references").glob("*.png"))) == 4
    taken = costs(tmp_path / "cut")["adapter"]
    assert taken.seconds > 0 and taken.bytes == (resumed / LORA).stat().st_size


def test_a_training_goes_on_in_the_precision_that_it_began_with(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "times_float32", lambda *_: 0.5)
    train(recipe(pictures, "dtype=auto"), tmp_path / "run")
    monkeypatch.setattr(
        devices, "times_float32", lambda dtype, _: 27.0 if dtype == "bfloat16" else 1
    )
    with pytest.warns(UserWarning, match="bfloat16 takes 27 times"):
        train(recipe(pictures, "dtype=auto"), tmp_path / "run")
    assert find_adapter(tmp_path / "run" / "adapter").described["settings"]["dtype"] == "bfloat16"
    train(recipe(pictures, "dtype=auto"), tmp_path / "new")
    assert find_adapter(tmp_path / "new" / "adapter").described["settings"]["dtype"] == "float32"
    (tmp_path / "new" / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run.json"):
        train(recipe(pictures, "dtype=auto"), tmp_path / "new")


def test_the_adapter_changes_what_the_stock_pipeline_draws(pictures, tmp_path):
    adapter = find_adapter(str(train(recipe(pictures), tmp_path / "run")))
    images = [
        load_diffusion(load_model("emoji"), adapter=a).sample(
            ["a pilot"], [1], num_inference_steps=4
        )
        for a in (None, adapter)
    ]
    assert (images[0] - images[1]).abs().max() > 1 / 255


def test_the_models_own_images_change_the_gradient_and_are_drawn_once(pictures, tmp_path):
    prior = "prior={prompts: [an emoji of a person], images: 2}"
    rows = []
    with_prior = train(
        recipe(pictures, prior, "steps=1"), tmp_path / "a", progress=lambda d, r: rows.append(r)
    )
    without = train(recipe(pictures, "steps=1"), tmp_path / "b")
    assert [row.get("drawn") for row in rows] == [0, 1, 2, None] and rows[-1]["prior"] > 0
    assert (tmp_path / "a" / "prior.safetensors").exists()
    a, b = weights(with_prior), weights(without)
    assert any(not torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("trained", [["optimisation.ema=0.9"], ["lora=null", "weights={}"]])
def test_what_was_trained_on_the_way(pictures, tmp_path, trained):
    made = train(recipe(pictures, *trained, "steps=2", "save_every=1"), tmp_path)
    file = "unet/diffusion_pytorch_model.safetensors" if made.name == "model" else LORA
    first, second, last = (
        load_file(folder / file)
        for folder in (*(tmp_path / f"{made.name}s" / f"step-{i}" for i in (1, 2)), made)
    )
    assert all(torch.equal(second[k], last[k]) for k in last)
    assert any(not torch.equal(first[k], last[k]) for k in last)


def test_text_encoders_are_trained_too(pictures, tmp_path):
    found = train(
        recipe(pictures, "lora.part=both", "lora.modules=null", "steps=1"), tmp_path / "x"
    )
    state = weights(found)
    moved = {key.split(".")[0] for key, value in state.items() if "lora_B" in key and value.any()}
    assert moved == {"text_encoder", "unet"}


def test_all_weights_make_a_model_that_plain_diffusers_loads(pictures, tmp_path):
    from diffusers import StableDiffusionPipeline

    all_ = ["lora=null", "weights={part: both}", "optimisation.learning_rate=1e-3"]
    place = train(recipe(pictures, *all_), tmp_path / "run")
    pipe = StableDiffusionPipeline.from_pretrained(place)
    before = load_diffusion(load_model("emoji")).pipe
    for part in ("unet", "text_encoder", "vae"):
        one, other = (dict(getattr(x, part).named_parameters()) for x in (pipe, before))
        moved = [not torch.equal(one[key], other[key]) for key in one]
        # of words that no caption has there is no gradient
        assert not any(moved) if part == "vae" else sum(moved) > 0.9 * len(moved)
    model = load_model(str(tmp_path / "run" / "model.yaml"))
    assert model.judge == "emoji-judge" and pathlib.Path(model.path) == place.resolve()
    assert load_diffusion(model).sample(["a pilot"], [1]).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("what", ["lora={part: both, rank: 2}", "weights={part: both}"])
def test_the_teacher_is_the_model_as_it_was_and_a_gate_closes_it(what, tmp_path):
    """Regressed onto itself a model stays; its own weights are back after every look."""
    found = load_training(
        "lora/emoji", ["lora=null", what, "steps=2", "batch=2", "num_inference_steps=4"]
    )
    with training(tmp_path, {}) as accelerator:
        denoising = load_denoising(found, accelerator)
        latents = torch.randn(2, 1, *denoising.shape, generator=step_generator(1))
        trainable = attach_trained(found, denoising)
        before = [p.detach().clone() for p in trainable.parameters]

        def trained(teacher, probing=None):
            examples = Examples(latents, PEOPLE, teacher=teacher, batch=1)
            rows = []
            (tmp_path / "checkpoint.pt").unlink(missing_ok=True)
            denoise(
                denoising, trainable, {"loss": examples}, found, tmp_path,
                accelerator=accelerator, report=lambda done, row: rows.append(row["loss"]),
                probing=probing,
            )  # fmt: skip
            return rows

        assert max(trained(Teacher(PEOPLE))) < 1e-10
        assert max(trained(Teacher(PEOPLE, gate=0.0))) > 1e-3
        first = trainable.named.keys() - {next(iter(trainable.named))}
        assert min(trained(Teacher(PEOPLE[::-1]), Probing(2, first))) > 1e-6
        moved = [not torch.equal(a, b) for a, b in zip(before, trainable.parameters, strict=True)]
        assert any(moved)
        with trainable.frozen():
            pairs = zip(before, trainable.parameters, strict=True)
            assert what.startswith("lora") or all(torch.equal(a, b) for a, b in pairs)
            a = denoising.predict(PEOPLE, latents[:, 0], 1)
        plain = Denoising(load_diffusion(load_model("emoji"), settings={"num_inference_steps": 4}))
        assert torch.equal(a, plain.predict(PEOPLE, latents[:, 0], 1))
        assert not torch.equal(a, denoising.predict(PEOPLE, latents[:, 0], 1))


def test_lora_begins_from_an_adapter_of_its_kind(pictures, tmp_path):
    first = train(recipe(pictures, "steps=2"), tmp_path / "first")
    start = f"lora.start={first}"
    still = "optimisation.learning_rate=1e-30"
    again = train(recipe(pictures, start, still, "steps=1"), tmp_path / "again")
    for key, value in weights(first).items():
        assert torch.allclose(value, weights(again)[key], atol=1e-12)
    start_of = find_adapter(again).described["start"]
    assert start_of == {"adapter": find_adapter(first).source, "classifiers": []}
    with pytest.raises(UserError, match=r"lora\.start: adapter .* is no LoRA of rank 4"):
        train(recipe(pictures, start, "lora.rank=4"), tmp_path / "other")


def test_whoever_trained_the_adapter_that_a_training_began_from_may_not_judge_it(tmp_path):
    described = find_adapter("emoji-gender").described["classifier"]
    shutil.copytree(find_adapter("emoji-gender").folder, tmp_path / "a")
    file = tmp_path / "a" / "adapter.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["start"] = find_adapter("emoji-gender").as_start
    values["classifier"] = {"name": "another", "digest": "0"}
    file.write_text(json.dumps(values), encoding="utf-8")
    found = find_adapter(tmp_path / "a")
    assert [x["digest"] for x in found.classifiers] == ["0", described["digest"]]
    judge = load_judge(find_judge("emoji-trainer"))
    with pytest.raises(UserError, match="trained the adapter"):
        judge_is_trainer(judge, [found], allowed=False)


def test_checkpointing_gives_the_same_gradient(pictures, tmp_path):
    one, other = (
        weights(train(recipe(pictures, "steps=1", f"checkpointing={on}"), tmp_path / on))
        for on in ("true", "false")
    )
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


def test_images_are_cut_to_their_middle():
    image = torch.zeros(1, 3, 4, 10)
    image[..., 4:6] = 1
    assert _cut(image, 4, 2).min() == 1
    assert _cut(image, 8, 8).shape == (1, 3, 8, 8)


def test_images_that_cannot_be_read_are_left_out_and_captions_checked(pictures, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in pictures.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "1.png").write_bytes(b"no image")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(recipe(folder, "steps=1"), tmp_path / "run")
    assert any("1 of 4 images could not be read" in str(w.message) for w in said)
    kept = load_file(tmp_path / "run" / "images.safetensors")
    assert len(kept["numbers"]) == len(kept["latents"]) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["images.caption='{title}'"], "has no column 'title'"),
        (["images.caption='50% {off'"], "caption: '50% {off' cannot be read"),
        (["images.caption='{text:d}'"], "caption '{text:d}' cannot be filled with"),
        (["images.split=test2"], "has no split 'test2'"),
        (["images.path=./nowhere"], "nowhere"),
        (["method=fairtlx"], "method 'fairtlx'"),
        (["lora.modules=[nothing]"], "lora.modules"),
        (["lora.rank=0"], "lora.rank"),
        (["images.caption=x", "prior={prompts: [x]}"], "what it drew before"),
        (["optimisation.learning_rate=1e20", "steps=8"], "not finite"),
    ],
)
def test_what_goes_wrong_is_one_line(pictures, tmp_path, more, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(recipe(pictures, *more), tmp_path / "run")


def test_a_dry_run_says_what_it_costs(pictures):
    result = CliRunner().invoke(
        app, ["train", "lora/emoji", f"images.path={pictures}", *QUICK, "--dry-run"]
    )
    assert "a step: 2 images, 1 at once" in result.output


def test_a_users_file_names_its_method(pictures, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"method: lora\nmodel: emoji\nimages: {{path: {pictures}, caption: a pilot}}\n",
        encoding="utf-8",
    )
    assert load_training(str(file)).images.caption == "a pilot"
    assert json.loads(load_training(str(file)).model_dump_json())["batch"] == 4
    assert np.isclose(load_training(str(file)).dropout, 0.1)


def test_the_same_images_elsewhere_go_on_and_others_in_their_place_are_refused(pictures, tmp_path):
    mine, run = tmp_path / "mine", tmp_path / "run"
    shutil.copytree(pictures, mine)
    before = weights(train(recipe(mine, "steps=1"), run))
    mine = mine.rename(tmp_path / "moved")
    after = weights(train(recipe(mine, "steps=1"), run))
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    captions = (mine / "metadata.jsonl").read_text(encoding="utf-8")
    (mine / "metadata.jsonl").write_text(captions.replace("farmer", "cook"), encoding="utf-8")
    with pytest.raises(UserError, match="other settings: pictures.images was"):
        train(recipe(mine, "steps=1"), run)
    (mine / "metadata.jsonl").write_text(captions, encoding="utf-8")
    train(recipe(mine, "steps=1"), run)
    (mine / "0.png").write_bytes((mine / "1.png").read_bytes())
    with pytest.raises(UserError, match="other settings: pictures.images was"):
        train(recipe(mine, "steps=1"), run)


def test_a_row_without_a_caption_is_named_by_its_file(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "mine")
    file = tmp_path / "mine" / "metadata.jsonl"
    rows = [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]
    rows[2]["text"] = " "
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(UserError, match=r"/2\.png has no caption"):
        train(recipe(tmp_path / "mine"), tmp_path / "run")
