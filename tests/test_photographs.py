"""Judges of photographs, on tiny networks of the real classes.

Mappings, gradients, and clear refusals.
"""

import json

import pytest
import torch
import yaml
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from evenhand.adapt.dft.losses import realism_loss, weigh_inside
from evenhand.core.errors import UserError
from evenhand.features.networks import Clip, load_features
from evenhand.judges.faces import crop
from evenhand.judges.registry import load_judge
from evenhand.recipes.dft import Preservation
from evenhand.recipes.features import Feature
from evenhand.recipes.judge import find_judge

IMAGES = torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
ATTRIBUTES = {"age": {"classes": ["young", "old"]}}


@pytest.fixture
def hub(tmp_path):
    """A Hub classifier with three labels in a folder."""
    torch.manual_seed(0)
    labels = ["0-19", "20-39", "40+"]
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(labels)),
        label2id={x: i for i, x in enumerate(labels)},
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "net")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def write(folder, **config):
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump({"attributes": ATTRIBUTES, **config}))
    return str(path)


def hub_config(net, **labels):
    return {"kind": "hub", "networks": {"age": {"path": str(net), "labels": labels}}}


def test_labels_of_a_hub_classifier_are_summed_into_classes(hub, tmp_path):
    judge = load_judge(
        find_judge(
            write(tmp_path, **hub_config(hub, **{"0-19": "young", "20-39": "young", "40+": "old"}))
        )
    )
    images = IMAGES.clone().requires_grad_()
    found = judge(images)
    pixels = (
        torch.nn.functional.interpolate(IMAGES, (32, 32), mode="bilinear", antialias=True) * 2 - 1
    )
    own = ViTForImageClassification.from_pretrained(hub)(pixels).logits.softmax(-1)
    torch.testing.assert_close(
        found.probs["age"], torch.stack([own[:, :2].sum(-1), own[:, 2]], -1), atol=1e-5, rtol=0
    )
    assert found.seen.all() and found.boxes is None
    found.logits["age"][:, 0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_what_does_not_fit_is_named(hub, tmp_path):
    for labels, message in [
        (
            {"0-19": "young", "40+": "ancient"},
            r"networks.age: of \['ancient', 'young'\], the classes are",
        ),
        ({"0-19": "young", "80+": "old"}, "unknown label '80\\+'"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_judge(find_judge(write(tmp_path, **hub_config(hub, **labels))))
    with pytest.raises(UserError, match="classifier .*nowhere.* cannot be loaded"):
        load_judge(
            find_judge(
                write(
                    tmp_path, **hub_config(tmp_path / "nowhere", **{"0-19": "young", "40+": "old"})
                )
            )
        )


DESCRIPTIONS = {"age": {"young": ["a child", "a teenager"], "old": ["a pensioner"]}}


def test_a_judge_that_looks_once_takes_no_mirror(tmp_path):
    with pytest.raises(ValueError, match="mirror: a judge of kind emoji takes none"):
        load_judge(
            find_judge(
                write(tmp_path, kind="emoji", path="package:emoji/classifiers/judge", mirror=True)
            )
        )


def test_zero_shot_clip_compares_with_the_mean_of_its_sentences(tiny_clip, tmp_path):
    judge = load_judge(
        find_judge(
            write(
                tmp_path,
                kind="clip",
                model=tiny_clip,
                templates=["a photo of {}", "{}"],
                descriptions=DESCRIPTIONS,
            )
        )
    )
    images = IMAGES.clone().requires_grad_()
    logits = judge(images).logits["age"]
    assert logits.shape == (2, 2) and judge.features(images).shape == (2, 16)
    logits[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0
    network = Clip(tiny_clip, None)
    young = network.texts(
        ["a photo of a child", "a child", "a photo of a teenager", "a teenager"]
    ).mean(0)
    cosine = torch.nn.functional.cosine_similarity(network(IMAGES), young[None])
    torch.testing.assert_close(logits[:, 0], network.scale * cosine, atol=1e-4, rtol=0)


def test_weights_that_cannot_be_had_are_named(tmp_path):
    with pytest.raises(
        UserError, match="features clip .*nowhere cannot be loaded: .*Name a local folder"
    ):
        load_judge(
            find_judge(
                write(
                    tmp_path,
                    kind="clip",
                    model=str(tmp_path / "nowhere"),
                    descriptions=DESCRIPTIONS,
                )
            )
        )


def test_open_clip(tmp_path):
    """Where open_clip is installed and works, its models serve in the same way."""
    import open_clip

    path = tmp_path / "tiny-test-clip.json"
    path.write_text(
        json.dumps(
            {
                "embed_dim": 16,
                "vision_cfg": {
                    "image_size": 32,
                    "layers": 1,
                    "width": 32,
                    "head_width": 16,
                    "patch_size": 16,
                },
                "text_cfg": {
                    "context_length": 77,
                    "vocab_size": 49408,
                    "width": 32,
                    "heads": 2,
                    "layers": 1,
                },
            }
        )
    )
    open_clip.add_model_config(path)
    torch.save(open_clip.create_model("tiny-test-clip").state_dict(), tmp_path / "weights.pt")
    network = Clip("tiny-test-clip", str(tmp_path / "weights.pt"))
    assert network(IMAGES).shape == (2, 16) and network.texts(["a child"]).shape == (1, 16)


def test_dino_features(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    feature = Feature(kind="dino", model=str(tmp_path / "dino"), weight=2.0)
    [(weight, dino)] = load_features(
        [feature], load_judge(find_judge("emoji-trainer")).features, device="cpu"
    )
    images = IMAGES.clone().requires_grad_()
    dino(images)[:, 0].sum().backward()
    assert weight == 2.0 and dino(images).shape == (2, 16) and images.grad.abs().sum() > 0
    assert Preservation().features == [Feature(kind="classifier")]


def test_a_crop_is_the_part_of_the_image_and_passes_gradients():
    images = IMAGES.clone().requires_grad_()
    boxes = torch.tensor([[4.0, 8.0, 36.0, 40.0], [-16.0, 0.0, 16.0, 32.0]])
    crops = crop(images, boxes, 32)
    torch.testing.assert_close(crops[0], images[0, :, 8:40, 4:36], atol=1e-5, rtol=0)
    assert (crops[1, :, :, :15] == 0).all()
    torch.testing.assert_close(crops[1, :, :, 16:], images[1, :, :32, :16], atol=1e-5, rtol=0)
    crops[0].sum().backward()
    assert images.grad[0, :, 8:40, 4:36].min() > 0 and images.grad[0, :, :7].abs().max() == 0


def test_the_gradient_inside_the_box_alone_is_weighed():
    images = IMAGES.clone().requires_grad_()
    weighed = weigh_inside(
        images, torch.tensor([[10.0, 20.0, 30.0, 40.0]] * 2), torch.tensor([0.2, 1.0])
    )
    torch.testing.assert_close(weighed, images)
    weighed.sum().backward()
    expected = torch.ones_like(images)
    expected[0, :, 20:40, 10:30] = 0.2
    torch.testing.assert_close(images.grad, expected)


def test_a_face_is_held_to_its_own_or_to_the_nearest_of_the_bank():
    east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    faces, own = torch.cat([east, east]), torch.cat([north, north])
    kept = torch.tensor([True, False])
    assert float(realism_loss(faces, own, kept, None)) == pytest.approx(1)
    assert float(realism_loss(faces, own, kept, torch.cat([north, east]))) == pytest.approx(1)
    assert float(realism_loss(faces, own, ~kept, north)) == pytest.approx(2)
