"""Faces in a photograph, found by MTCNN itself: NASA's portrait of the astronaut Eileen Collins."""

import json
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from skimage.data import astronaut

from evenhand.core.records import read
from evenhand.images.io import read_image
from evenhand.images.tensors import to_float, to_uint8
from evenhand.judges.faces import FaceCrops, crop
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import Faces, find_judge

PHOTOGRAPH = astronaut()  # [512, 512, 3] uint8
EYES = [(204, 110), (242, 105)]  # x, y: her right and left eye
FACELESS = np.ascontiguousarray(PHOTOGRAPH[256:])  # from the shoulders down


@pytest.fixture(scope="module")
def find():
    return FaceCrops(Faces(margin=0.5, size=96))


def resized(pixels, height, width):
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def test_the_face_is_found_and_cut_out_upright(find):
    found = find(to_float(PHOTOGRAPH[None]))
    assert found.faces.tolist() == [1] and found.crops.shape == (1, 3, 96, 96)
    (box,) = found.boxes.tolist()
    assert all(box[0] < x < box[2] and box[1] < y < box[3] for x, y in EYES)
    assert box[2] - box[0] == pytest.approx(box[3] - box[1]) and 120 < box[2] - box[0] < 200
    # Pillow's own resizing of that part of the picture
    size, bilinear = (96, 96), Image.Resampling.BILINEAR
    expected = np.array(Image.fromarray(PHOTOGRAPH).resize(size, bilinear, box=tuple(box)))
    assert np.abs(to_uint8(found.crops)[0].astype(int) - expected).max() <= 2


def test_a_gradient_reaches_every_pixel_of_the_face_and_no_other(find):
    large = to_float(resized(PHOTOGRAPH, 1024, 1024)[None]).requires_grad_()
    found = find(large)
    found.crops.sum().backward()
    left, top, right, bottom = (round(x) for x in found.boxes[0].tolist())
    inside = large.grad[0, :, top + 2 : bottom - 2, left + 2 : right - 2]
    assert (right - left) > 3 * 96  # a crop of single points would leave most of them out
    assert inside.min() > 0
    reach = (right - left) // 96 + 2
    assert large.grad[0, :, : max(top - reach, 0)].abs().sum() == 0
    assert large.grad[0, :, :, right + reach :].abs().sum() == 0


def test_a_crop_averages_what_lies_between_its_pixels():
    noise = torch.rand(1, 3, 1000, 1000, generator=torch.Generator().manual_seed(0))
    found = crop(noise, torch.tensor([[0.0, 0.0, 1000.0, 1000.0]]), 150)
    whole = torch.nn.functional.interpolate(noise, (150, 150), mode="bilinear", antialias=True)
    torch.testing.assert_close(found[..., 5:-5, 5:-5], whole[..., 5:-5, 5:-5], atol=1e-4, rtol=0)
    assert found[..., 5:-5, 5:-5].std() < 0.03


def test_a_photograph_turned_by_its_camera_is_upright_again(find, tmp_path):
    sideways = Image.fromarray(PHOTOGRAPH).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    sideways.save(tmp_path / "turned.png", exif=exif)
    sideways.save(tmp_path / "as-it-lies.png")
    found = [
        find(to_float(read_image(tmp_path / f"{name}.png")[None]))
        for name in ("turned", "as-it-lies")
    ]
    assert [x.faces.tolist() for x in found] == [[1], [0]]
    torch.testing.assert_close(found[0].boxes, find(to_float(PHOTOGRAPH[None])).boxes)


@pytest.mark.parametrize("height, width", [(19, 19), (12, 300), (1, 1)])
def test_in_a_tiny_picture_nobody_is_seen(find, height, width):
    found = find(to_float(resized(PHOTOGRAPH, height, width)[None]))
    assert found.faces.tolist() == [0] and found.boxes.tolist() == [[0, 0, width, height]]
    assert found.crops.shape == (1, 3, 96, 96)


def test_where_there_is_no_face_the_whole_picture_stands_and_counts_as_none(find):
    found = find(to_float(FACELESS[None]))
    assert found.faces.tolist() == [0] and found.boxes.tolist() == [[0, 0, 512, 256]]


def test_of_two_faces_the_larger_is_judged_and_both_are_counted(find):
    small = np.zeros_like(PHOTOGRAPH)
    small[128:384, 128:384] = resized(PHOTOGRAPH, 256, 256)
    for pair, offset in (([small, PHOTOGRAPH], 512), ([PHOTOGRAPH, small], 0)):
        found = find(to_float(np.concatenate(pair, axis=1)[None]))
        assert found.faces.tolist() == [2]
        assert all(found.boxes[0, 0] < x + offset < found.boxes[0, 2] for x, _ in EYES)


def test_a_picture_is_judged_alike_alone_and_among_others(find):
    shifted = np.roll(PHOTOGRAPH, 40, axis=1)
    batch = to_float(np.stack([PHOTOGRAPH, np.full_like(PHOTOGRAPH, 128), shifted]))
    together, alone = find(batch), [find(image[None]) for image in batch]
    assert together.faces.tolist() == [1, 0, 1]
    torch.testing.assert_close(
        together.boxes, torch.cat([x.boxes for x in alone]), atol=0.1, rtol=0
    )


@pytest.mark.parametrize("side", [512, 1536])
def test_on_a_shrunk_copy_the_same_face_is_found(find, side):
    pixels = resized(PHOTOGRAPH, side, side)
    (box,), (sure,) = find._detector.detect(Image.fromarray(pixels))
    (shrunk,) = find._find(to_float(pixels[None]))
    assert sure > 0.99 and shrunk.shape == (1, 4)
    assert np.abs(shrunk[0] - box.astype(float)).max() < 0.03 * side


@pytest.fixture
def judge(tiny_clip, tmp_path):
    """The YAML of a zero-shot judge of faces."""
    config = {
        "kind": "clip",
        "model": tiny_clip,
        "attributes": {"age": {"classes": ["young", "old"]}},
        "descriptions": {"age": {"young": ["a child"], "old": ["a pensioner"]}},
        "faces": {"margin": 0.2, "size": 64},
    }
    path = tmp_path / "faces.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_a_judge_says_how_many_faces_it_found_and_which_it_judged(judge):
    found = load_judge(find_judge(judge))(to_float(np.stack([PHOTOGRAPH, PHOTOGRAPH[:, ::-1]])))
    assert found.seen.tolist() == [True, True] and found.faces.tolist() == [1, 1]
    mirrored = 512 - found.boxes[1, [2, 0]]
    torch.testing.assert_close(found.boxes[0, [0, 2]], mirrored, atol=6, rtol=0)


def test_a_photograph_is_measured_by_the_command(judge, tmp_path, monkeypatch, capsys):
    from evenhand.cli import main

    pictures = tmp_path / "an astronaut"
    pictures.mkdir()
    Image.fromarray(PHOTOGRAPH).save(pictures / "portrait.jpg", quality=95)
    Image.fromarray(FACELESS).save(pictures / "suit.png")
    Image.fromarray(resized(PHOTOGRAPH, 16, 16)).save(pictures / "icon.png")
    arguments = ["measure", "--images-from", pictures, "--judge", judge, "--out", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", ["evenhand", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, capsys.readouterr().err
    records = {r.image.rsplit("/", 1)[-1]: r for r in read(tmp_path / "run" / "records.jsonl")}
    assert {name: r.seen for name, r in records.items()} == {
        "portrait.jpg": True,
        "suit.png": False,
        "icon.png": False,
    }
    with torch.no_grad():
        pixels = read_image(pictures / "portrait.jpg")
        expected = load_judge(find_judge(judge))(to_float(pixels[None])).probs["age"][0].tolist()
    portrait = records["portrait.jpg"]
    assert list(portrait.probs["age"].values()) == pytest.approx(expected, abs=1e-4)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    (prompt,) = report["attributes"]["age"]["prompts"]
    assert prompt["prompt"] == "an astronaut" and report["images"] == 3
    unseen = report["attributes"]["age"]["splits"]["all"]["unseen"]["value"]
    assert unseen == pytest.approx(2 / 3)
