"""The scripts of train/emoji/, a step or two of each.

What is cut is continued, and what is written loads.
"""

import importlib
import sys

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from evenhand.core.resources import ROOT
from evenhand.emoji.world import HERE, load_world


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name; the second function runs its command."""
    monkeypatch.syspath_prepend(str(ROOT / "train" / "emoji"))
    before = set(sys.modules)

    def run(name, *arguments):
        module = importlib.import_module(name)
        if arguments:
            monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
            module.main()
        return module

    yield run
    for name in set(sys.modules) - before:
        if name in ("autoencoder", "classifiers", "cycles", "model"):
            del sys.modules[name]


@pytest.fixture
def steps(monkeypatch):
    """Writes down the steps that a script takes from then on."""

    def watch(module):
        taken, original = [], module.step_generator
        monkeypatch.setattr(
            module,
            "step_generator",
            lambda seed, *what: taken.extend(what) or original(seed, *what),
        )
        return taken

    return watch


def test_a_rate_warms_up_and_falls_in_each_cycle(script):
    rate = script("cycles").rate
    cycles = ((100, 1.0), (40, 0.5))
    assert [rate(step, cycles) for step in (0, 5, 100, 102, 140)] == pytest.approx(
        [0, 1, 0, 0.5, 0]
    )
    assert rate(99, cycles) < 0.01


def test_the_autoencoder_continues_and_loads(script, steps, tmp_path):
    taken = steps(script("autoencoder"))
    for until in (1, 2):
        script("autoencoder", "--steps", until, "--batch", 2, "--renderings", 8, "--out", tmp_path)
    assert taken == [0, "scale", 1, "scale"]
    vae = AutoencoderKL.from_pretrained(tmp_path)
    assert vae.config.scaling_factor != AutoencoderKL().config.scaling_factor


def test_every_word_of_the_captions_is_one_token_and_keeps_its_number(script, tmp_path):
    model = script("model")
    tokenizer, again = (
        model.keep_tokenizer(tmp_path / "tokenizer"),
        model.keep_tokenizer(tmp_path / "tokenizer"),
    )
    assert tokenizer.get_vocab() == again.get_vocab()
    text = (
        "women and men : all skin tones : an emoji of a gender-neutral makeup artist "
        "with medium-light skin"
    )
    words = text.replace("-", " - ").split()
    assert tokenizer.tokenize(text) == [f"{word}</w>" for word in words]
    shipped = StableDiffusionPipeline.from_pretrained(HERE / "model").tokenizer
    assert set(shipped.get_vocab()) == set(tokenizer.get_vocab())


def test_the_model_continues_to_the_same_weights_and_loads(script, steps, tmp_path):
    AutoencoderKL.from_pretrained(HERE / "model" / "vae").save_pretrained(
        tmp_path / "cut" / "autoencoder"
    )
    AutoencoderKL.from_pretrained(HERE / "model" / "vae").save_pretrained(
        tmp_path / "whole" / "autoencoder"
    )
    script("model").keep_tokenizer(tmp_path / "cut" / "tokenizer").save_pretrained(
        tmp_path / "whole" / "tokenizer"
    )
    taken = steps(script("model"))
    for run, until in (("cut", 1), ("cut", 2), ("whole", 2)):
        script(
            "model",
            "--steps",
            until,
            "--batch",
            2,
            "--drawings",
            1,
            "--runs",
            tmp_path / run,
            "--out",
            tmp_path / run / "out",
        )
    assert taken == ["drawings", 0, "drawings", 1, "drawings", 0, 1]
    cut, whole = (
        torch.load(tmp_path / run / "model.pt", weights_only=True)["trained"]
        for run in ("cut", "whole")
    )
    assert all(torch.equal(cut[key], whole[key]) for key in whole)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "cut" / "out")
    pipe.set_progress_bar_config(disable=True)
    assert pipe(
        "a pilot", num_inference_steps=1, guidance_scale=1.0, output_type="pt"
    ).images.shape == (1, 3, 64, 64)


def test_a_finished_classifier_is_not_trained_again_and_names_every_class(script, steps, tmp_path):
    vae = AutoencoderKL.from_pretrained(HERE / "model" / "vae").requires_grad_(False)
    taken, train = steps(script("classifiers")), script("classifiers").train
    for _ in range(2):
        model = train("judge", vae, tmp_path, steps=2, batch=4)
    assert taken == [0, 1]
    found = model(torch.rand(2, 3, 64, 64))
    assert {a: x.shape for a, x in found.items()} == {
        a: (2, len(c))
        for a, c in {"occupation": load_world().occupations, **load_world().classes}.items()
    }
