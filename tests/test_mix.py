"""Several adapters in one model: they are what diffusers makes of them, and say so."""

import json

import pipelines
import pytest
import torch
from safetensors.torch import load_file

from evenhand.core.adapters import (
    LORA,
    SOFT_TOKENS,
    Mix,
    find_adapter,
    find_mix,
    named_strengths,
    strengths_in,
)
from evenhand.core.errors import UserError
from evenhand.core.schema import check
from evenhand.diffusion.adapters import load_adapters, save_adapter
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.trainable import attach
from evenhand.measure import measure
from evenhand.recipes.lora import Lora
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import load_model
from evenhand.reports.card import card_of

PROMPTS, SEEDS = ["an emoji of a pilot", "an emoji of a health worker"], [1, 2]
FEW = {"num_inference_steps": 3}


def drawn(adapter=None):
    diffusion = load_diffusion(load_model("emoji"), adapter=adapter, device="cpu", settings=FEW)
    return diffusion, diffusion.sample(PROMPTS, SEEDS)


@pytest.fixture(scope="module")
def base(emoji):
    return emoji.sample(PROMPTS, SEEDS, **FEW)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_a_mix_is_what_diffusers_makes_of_it_in_whatever_order(emoji):
    mix = {"emoji-gender": 0.7, "emoji-tone-75-25": 1.0}
    ours, images = drawn(find_mix(mix))
    stock = load_diffusion(load_model("emoji"), device="cpu", settings=FEW)
    for adapter, _ in find_mix(mix).parts:
        name = adapter.name.replace("-", "_")
        stock.pipe.load_lora_weights(str(adapter.folder), adapter_name=name)
    names = [adapter.name.replace("-", "_") for adapter, _ in find_mix(mix).parts]
    stock.pipe.set_adapters(names, [mix[name.replace("_", "-")] for name in names])
    assert torch.equal(images, stock.sample(PROMPTS, SEEDS))
    turned, same = drawn(find_mix(dict(reversed(mix.items()))))
    assert torch.equal(images, same) and turned.source == ours.source
    gender, tone = find_adapter("emoji-gender"), find_adapter("emoji-tone-75-25")
    assert set(ours.source.split("+")[1:]) == {f"{gender.source}*0.7", tone.source}


def test_strength_0_and_no_adapter_draw_the_same(base):
    assert torch.equal(drawn(find_mix({"emoji-gender": 0.0}))[1], base)
    diffusion, images = drawn(Mix())
    assert torch.equal(images, base) and "+" not in diffusion.source


def test_parts_of_a_lora_in_two_files_are_the_lora(tmp_path):
    """One of the text encoder and one of the denoiser, loaded together."""
    state = attach(pipelines.make("sd", frozen=True), Lora(part="both", rank=2), seed=0).state()
    generator = torch.Generator().manual_seed(0)
    state = {k: torch.randn(x.shape, generator=generator) for k, x in state.items()}
    parts = {"both": state}
    for part in ("unet", "text_encoder"):
        parts[part] = {k: v for k, v in state.items() if k.startswith(f"{part}.")}
    for name, tensors in parts.items():
        save_adapter(tmp_path / name, LORA, tensors, {})

    def images(*names):
        diffusion = pipelines.make("sd", frozen=True)
        load_adapters(diffusion.pipe, find_mix({str(tmp_path / name): 0.5 for name in names}))
        return pipelines.draw(diffusion)

    whole = images("both")
    assert torch.equal(images("unet", "text_encoder"), whole)
    assert not torch.equal(images("unet"), whole)
    bad = {k: v * float("inf") for k, v in parts["unet"].items()}
    save_adapter(tmp_path / "unet", LORA, bad, {})
    with pytest.raises(UserError, match="unet'.* not finite"):
        images("text_encoder", "unet")


def test_soft_tokens_stand_beside_lora_and_beside_each_other(base, tmp_path):
    shipped = find_adapter("emoji-gender-tokens")
    other = {k: 2 * v for k, v in load_file(shipped.weights).items()}
    save_adapter(tmp_path / "other", SOFT_TOKENS, other, {"token": shipped.described["token"]})
    alone = drawn(shipped)[1]
    beside = find_mix({"emoji-gender-tokens": 1.0, "emoji-gender": 0.5})
    diffusion, mixed = drawn(beside)
    assert diffusion.prefix == "<evenhand> "
    assert not torch.equal(mixed, alone)
    two = find_mix({"emoji-gender-tokens": 1.0, str(tmp_path / "other"): 1.0})
    diffusion, both = drawn(two)
    assert diffusion.prefix == "".join(f"<{a.digest}> " for a, _ in two.parts)
    assert not torch.equal(both, alone) and not torch.equal(both, base)
    words = diffusion.pipe.tokenizer.tokenize(
        diffusion.pipe.maybe_convert_prompt(diffusion.prefix, diffusion.pipe.tokenizer)
    )
    assert len(words) == len(set(words)) == sum(len(v) for v in other.values()) * 2


BAD = {
    "unknown adapter": {"emoji-gendre": 1.0},
    "has the weights of 'emoji-gender', which is given": {
        "emoji-gender": 1.0,
        str(find_adapter("emoji-gender").folder): 0.5,
    },
    "its strength is nan": {"emoji-gender": float("nan")},
    "soft tokens have no strength .given: 0.5": {"emoji-gender-tokens": 0.5},
}


@pytest.mark.parametrize("message, strengths", BAD.items())
def test_a_mix_that_is_none_is_refused(message, strengths):
    with pytest.raises(UserError, match=message):
        find_mix(strengths)


def test_every_way_to_write_a_mix_is_read():
    assert named_strengths("./a=b") == ("./a=b", [])
    assert named_strengths("./a=1=.5") == ("./a=1", [0.5])
    assert named_strengths("a=0,.5,1") == ("a", [0, 0.5, 1])

    def read(**values):
        config = check(Measure, {"model": "emoji", "prompts": ["p"], **values}, where="m")
        assert check(Measure, config.model_dump(mode="json"), where="again") == config
        return config.strengths

    assert read(adapter=None) == {} == read()
    assert read(adapter="a", adapter_scale=0.5) == read(adapter={"a": 0.5}) == {"a": 0.5}
    assert read(adapter=["a=0.7", "b"]) == {"a": 0.7, "b": 1.0}
    for bad, message in {
        ("a", "a=.5"): "'a' is given twice",
        ("a=0,1",): "several strengths",
    }.items():
        with pytest.raises(UserError, match=message):
            read(adapter=list(bad))
    for bad in (["a", "b"], ["a=.5"]):
        with pytest.raises(UserError, match="strength of an adapter"):
            read(adapter=bad, adapter_scale=0.5)


def test_a_run_says_what_it_was_drawn_with(tmp_path):
    """And neither judges by a trainer of any of them nor becomes the card of one of them."""
    config = Measure(
        model="emoji",
        prompts=["emoji-occupations"],
        splits=["test"],
        attributes=["gender"],
        adapter=["emoji-tone-75-25", "emoji-gender=0.5"],
        images=1,
        explicit_images=0,
        settings=FEW,
    )
    with pytest.raises(UserError, match="trained the adapter"):
        measure(config.model_copy(update={"judge": "emoji-trainer"}), tmp_path / "no")
    measure(config, tmp_path / "run", pictures=False)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    gender, tone = find_adapter("emoji-gender"), find_adapter("emoji-tone-75-25")
    assert strengths_in(settings) == {gender.digest: 0.5, tone.digest: 1.0}
    with pytest.raises(UserError, match="with this one .digest .*. alone"):
        card_of(gender.folder, tmp_path / "run", tmp_path / "run")
    one = config.model_copy(update={"adapter": "emoji-gender"})
    assert strengths_in({"adapter": f"x@{gender.digest}"}) == {gender.digest: 1.0}
    assert find_mix(one.strengths).settings == {
        "adapter": f"emoji-gender@{gender.digest}",
        "adapter_scale": 1.0,
    }
