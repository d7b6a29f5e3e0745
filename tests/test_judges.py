"""What a judge is: found once, known by its weights, behind its network's own processor."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    ConvNextImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTImageProcessorPil,
)

from evenhand.core.errors import UserError
from evenhand.features.networks import Clip
from evenhand.images.tensors import to_float
from evenhand.judges.base import answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import find_judge

LABELS = {"id2label": {0: "young", 1: "old"}, "label2id": {"young": 0, "old": 1}}
ATTRIBUTES = {"age": {"classes": ["young", "old"]}}
HUB = {"kind": "hub", "attributes": ATTRIBUTES}
CLIP = {
    "kind": "clip",
    "attributes": ATTRIBUTES,
    "descriptions": {"age": {"young": ["a child"], "old": ["a pensioner"]}},
}


def write(folder, values):
    folder.mkdir(exist_ok=True)
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def hub(folder, path, **rest):
    network = {"path": str(path), "labels": {"young": "young", "old": "old"}}
    return write(folder, {**HUB, "networks": {"age": network}, **rest})


def vit(folder, **processor):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.5,
        image_size=32,
        patch_size=8,
        **LABELS,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(**{"size": {"height": 32, "width": 32}, **processor}).save_pretrained(folder)
    return folder


def change(weights, how):
    state = load_file(weights)
    save_file({k: how(v) for k, v in state.items()}, weights, metadata={"format": "pt"})


def digest(name):
    return load_judge(find_judge(name)).digest


def test_a_judge_is_known_by_its_weights_and_not_by_where_it_lies(tiny_clip, tmp_path):
    first = digest(write(tmp_path / "a", {**CLIP, "model": tiny_clip}))
    shutil.copytree(tiny_clip, tmp_path / "b" / "moved")
    elsewhere = write(tmp_path / "b", {**CLIP, "model": "moved"})
    assert digest(elsewhere) == first
    change(tmp_path / "b" / "moved" / "model.safetensors", lambda x: x * 0.5)
    assert digest(elsewhere) != first


@pytest.mark.parametrize(
    "change",
    [
        {"templates": ["a photo of {}"]},
        {"mirror": True},
        {"descriptions": {"age": {"young": ["a girl"], "old": ["a pensioner"]}}},
        {"faces": {"margin": 0.1}},
    ],
)
def test_a_judge_that_answers_otherwise_is_another(tiny_clip, tmp_path, change):
    values = {**CLIP, "model": tiny_clip}
    assert digest(write(tmp_path / "a", values)) != digest(
        write(tmp_path / "b", {**values, **change})
    )


def test_a_name_of_the_hub_is_known_by_its_commit(tmp_path, monkeypatch):
    """In a cache as huggingface_hub lays it out, without network."""
    import huggingface_hub.constants

    cache = tmp_path / "cache" / "models--someone--ages"
    vit(cache / "snapshots" / ("a" * 40))
    shutil.copytree(cache / "snapshots" / ("a" * 40), cache / "snapshots" / ("b" * 40))
    (cache / "refs").mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    name, found = hub(tmp_path / "judge", "someone/ages"), []
    for commit in ("a" * 40, "b" * 40):
        (cache / "refs" / "main").write_text(commit)
        found.append(digest(name))
    assert found[0] != found[1]
    change(cache / "snapshots" / ("b" * 40) / "model.safetensors", lambda x: x * 0.5)
    assert digest(name) != found[1]


def test_shipped_calibrations_are_of_the_judges_that_ship():
    for name in ("emoji-judge", "emoji-trainer"):
        file = find_judge(name).beside("calibration.json")
        assert json.loads(file.read_text())["digest"] == digest(name)


def test_a_path_in_a_yaml_is_taken_from_its_folder(tmp_path, monkeypatch):
    vit(tmp_path / "there" / "network")
    name = hub(tmp_path / "there", "network")
    monkeypatch.chdir(tmp_path)
    config = find_judge(name)
    assert config.networks["age"].path == str(tmp_path / "there" / "network")
    assert config.name == name
    assert load_judge(config)(torch.rand(1, 3, 32, 32)).probs["age"].shape == (1, 2)


def test_a_folder_without_a_judge_shadows_none_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emoji-judge").mkdir()
    assert find_judge("emoji-judge").concept == "occupation"
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="mine: is no judge's folder: it holds no classifier.yaml"):
        find_judge("./mine")


def test_loading_a_judge_leaves_the_global_generator_as_it_is(tmp_path):
    names = ["emoji-judge", hub(tmp_path / "judge", vit(tmp_path / "network"))]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for name in names:
        load_judge(find_judge(name))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_goes_through_the_networks_own_processor(tmp_path):
    """ConvNeXt on 384 x 192: the longer side is cropped off, not squeezed."""
    torch.manual_seed(0)
    config = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], **LABELS)
    network = ConvNextForImageClassification(config).eval()
    network.save_pretrained(tmp_path / "network")
    ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(tmp_path / "network")
    pixels = np.zeros((384, 192, 3), dtype=np.uint8)
    pixels[:96], pixels[96:192], pixels[192:] = (250, 20, 20), (30, 200, 60), (20, 20, 250)
    processor = ConvNextImageProcessorPil.from_pretrained(tmp_path / "network")
    with torch.no_grad():
        expected = network(**processor(Image.fromarray(pixels), return_tensors="pt")).logits
    images = to_float(pixels[None]).requires_grad_()
    judge = load_judge(find_judge(hub(tmp_path / "judge", tmp_path / "network")))
    found = judge(images).probs["age"]
    torch.testing.assert_close(found, expected.softmax(-1), atol=2e-3, rtol=0)
    found[:, 0].sum().backward()
    seen = images.grad.abs().sum((0, 1, 3))
    assert seen[:80].max() == 0 and seen[150:230].min() > 0  # rows cropped off, and the middle


@pytest.mark.parametrize(
    "processor",
    [
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {
            "size": {"shortest_edge": 40},
            "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32},
        },
    ],
    ids=["not-normalised", "rescaled-otherwise", "resized-larger-than-cropped"],
)
def test_every_step_of_a_processor_counts(tmp_path, processor):
    folder = vit(tmp_path / "network", **processor)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(pixels).resize((50, 60), Image.Resampling.BICUBIC))
    reference = ViTImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        expected = ViTForImageClassification.from_pretrained(folder)(
            **reference(Image.fromarray(pixels), return_tensors="pt")
        ).logits
    judge = load_judge(find_judge(hub(tmp_path / "judge", folder)))
    found = judge(to_float(pixels[None])).probs["age"]
    torch.testing.assert_close(found, expected.softmax(-1), atol=2e-3, rtol=0)


def test_answers_and_images_that_are_not_finite_are_refused(tmp_path):
    folder = vit(tmp_path / "network")
    name = hub(tmp_path / "judge", folder)
    with pytest.raises(UserError, match="the images hold values that are not finite: the model"):
        answers(load_judge(find_judge(name)), torch.full((1, 3, 32, 32), torch.nan))
    change(folder / "model.safetensors", lambda x: x * torch.nan)
    with pytest.raises(
        UserError, match=r"judge '.*judge.yaml': its answers about 'age' hold values .* damaged"
    ):
        answers(load_judge(find_judge(name)), torch.rand(1, 3, 32, 32))


OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {
        "context_length": 12,
        "vocab_size": 54,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "hf_tokenizer_name": "nowhere/at-all",
    },
}


@pytest.fixture
def open_clip_folder(tmp_path):
    """A model of open_clip whose tokenizer is the Hub's, with all its files beside each other."""
    import open_clip
    import pipelines

    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "tiny-hub-clip.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(folder / "tiny-hub-clip.json")
    torch.manual_seed(0)
    network = open_clip.create_model("tiny-hub-clip")
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    pipelines.clip_tokenizer().save_pretrained(folder)
    steps = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": steps})
    )
    return folder


def test_a_tokenizer_beside_the_weights_needs_no_network(open_clip_folder, tmp_path):
    weights = open_clip_folder / "open_clip_pytorch_model.bin"
    clip = Clip("tiny-hub-clip", str(weights))
    assert clip.texts(["a child", "a pensioner"]).shape == (2, 16)
    (tmp_path / "alone").mkdir()
    shutil.copy(weights, tmp_path / "alone")
    with pytest.raises(
        UserError, match="Name a local folder .of open_clip: model local-dir:FOLDER"
    ):
        Clip("tiny-hub-clip", str(tmp_path / "alone" / weights.name))


def test_a_folder_of_open_clip_says_how_images_are_prepared(open_clip_folder, tmp_path):
    name = write(tmp_path / "judge", {**CLIP, "model": "local-dir:../open"})
    judge, images = load_judge(find_judge(name)), torch.rand(1, 3, 64, 48)
    by_hand = torch.nn.functional.interpolate(images, (32, 32), mode="bicubic", antialias=True)
    clip = Clip(f"local-dir:{open_clip_folder}", None)
    torch.testing.assert_close(
        judge.features(images), clip._embed_images(by_hand * 2 - 1), atol=1e-4, rtol=0
    )
    before = judge.digest
    (open_clip_folder / "open_clip_pytorch_model.bin").write_bytes(
        _halved(open_clip_folder / "open_clip_pytorch_model.bin")
    )
    assert digest(name) != before


def _halved(file):
    import io

    buffer = io.BytesIO()
    torch.save({k: v * 0.5 for k, v in torch.load(file).items()}, buffer)
    return buffer.getvalue()
