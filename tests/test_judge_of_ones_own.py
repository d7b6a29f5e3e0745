"""From a labelled folder and a folder of photographs to a corrected share, by the commands alone.

The photographs are NASA's portrait of the astronaut Eileen Collins, moved and tinted: the classes
are tints, since these tests look at the way and not at people.
"""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from skimage.data import astronaut

from evenhand.classify.labelled_images import images_of
from evenhand.images.labelled import labelled, pixels_of
from evenhand.images.tensors import to_float, to_uint8
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import load_judge_training

pytestmark = pytest.mark.filterwarnings("default:.*are left out, because judge:UserWarning")
PHOTOGRAPH = np.array(Image.fromarray(astronaut()).resize((160, 160)))
TINY = [
    "config={model_type: resnet, embedding_size: 8, hidden_sizes: [16, 32], depths: [1, 1], "
    "layer_type: basic}",
    "size=32",
    "epochs=6",
    "mixup=0",
    "mirror=false",
    "batch=16",
    "jitter=0.02",
    "optimisation={learning_rate: 5e-3, weight_decay: 0.05}",
]


def photograph(kind, rng):
    """A portrait: her face somewhere else each time, in the tint of its class."""
    moved = np.roll(PHOTOGRAPH, int(rng.integers(-30, 30)), axis=1).astype(float)
    tint = {"female": (1.0, 0.8, 0.8), "male": (0.8, 0.8, 1.0)}[kind]
    return (moved * tint * rng.uniform(0.8, 1.0)).astype(np.uint8)


def fill(folder, kinds, rng, nobody=0):
    folder.mkdir(parents=True)
    for i, kind in enumerate(kinds):
        Image.fromarray(photograph(kind, rng)).save(folder / f"{i:03}.png")
    for i in range(nobody):
        suit = PHOTOGRAPH[80:].astype(float) * rng.uniform(0.8, 1.0)
        Image.fromarray(suit.astype(np.uint8)).save(folder / f"nobody-{i}.png")


def run(*arguments, code=0):
    """Runs a command; what it said on stdout and stderr."""
    from evenhand.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evenhand", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert (stop.value.code or 0) == code


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A labelled folder `people`, and `head`, trained on it with faces by `classifiers/folder`."""
    import datasets

    place, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(place / "cache"))
        for kind in ("female", "male"):
            fill(place / "people" / kind, [kind] * 45, rng, nobody=3)
        arguments = ["classifiers/folder", place / "people", *TINY, "faces.margin=-.1"]
        run("classifier", "train", *arguments, "--out", place / "head")
        yield place


@pytest.fixture(autouse=True)
def cache(place, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(place / "cache"))


@pytest.fixture
def head(place, tmp_path):
    """A copy of the head, for tests that change it."""
    return shutil.copytree(place / "head" / "classifier", tmp_path / "classifier")


def test_a_folder_of_photographs_is_measured_and_corrected(place, tmp_path, capsys):
    kinds = ["female"] * 24 + ["male"] * 56
    fill(tmp_path / "street", kinds, np.random.default_rng(1), nobody=4)
    run("measure", "--images-from", tmp_path / "street", "--judge", place / "head" / "classifier",
        "--out", tmp_path / "run")  # fmt: skip
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    (prompt,) = report["attributes"]["gender"]["prompts"]
    woman = prompt["corrected"]["woman"]
    assert woman["low"] <= 0.3 <= woman["high"] and prompt["seen"] == 80
    printed = capsys.readouterr().out
    assert "gender: 1 folder, 84 images; the judge's accuracy" in printed
    assert "sees the faces in them" in printed


def test_training_and_judging_cut_out_alike(place, tmp_path):
    judge = load_judge(find_judge(str(place / "head" / "classifier")))
    config = yaml.safe_load((place / "head" / "classifier" / "classifier.yaml").read_text())
    assert config["faces"] == {"margin": -0.1, "confidence": 0.9, "size": 32}
    recipe = load_judge_training("classifiers/folder", [*TINY, "faces.margin=-.1"])
    rows = labelled(place / "people", seed=recipe.seed)["test"]
    images = images_of(rows, recipe, tmp_path, "people, test", "these", None)
    seen = [i for i in range(len(rows)) if "nobody" not in rows[i]["image"]["path"]]
    assert len(images) == len(seen)  # those without a face are left out
    for place_in, i in enumerate(seen[:4]):
        judged = to_uint8(judge._faces(to_float(pixels_of(rows[i])[None])).crops)[0]
        assert np.abs(images[place_in]["images"].numpy().astype(int) - judged).max() <= 1


def test_a_training_that_goes_on_looks_for_faces_once(place, tmp_path, monkeypatch):
    recipe = load_judge_training("classifiers/folder", [*TINY, "faces.margin=-.1"])
    rows = labelled(place / "people", seed=recipe.seed)["test"]
    given = recipe, tmp_path, "people, test", "these", None
    first = images_of(rows, *given)
    monkeypatch.setattr("evenhand.classify.labelled_images.FaceCrops", None)
    torch.testing.assert_close(images_of(rows, *given)[0]["images"], first[0]["images"])


def test_images_it_was_trained_on_calibrate_nothing(place, head, capsys):
    """All of the folder is named; the training's own rows are left out all the same."""
    run("calibrate", head, place / "people")
    found = json.loads((head / "calibration.json").read_text())["attributes"]["gender"]
    counted = sum(sum(row.values()) for row in found.values())
    trained = len(json.loads((head / "trained-on.json").read_text())["images"])
    assert counted == 96 - trained < 30
    said = capsys.readouterr()
    assert f"{trained} of 96 images are left out" in said.err
    assert "with fewer than 50 the intervals" in said.out


def test_a_calibration_keeps_the_attributes_it_does_not_speak_of(place, head, capsys):
    path = head / "calibration.json"
    before = json.loads(path.read_text())
    gender = before["attributes"]["gender"]
    before["attributes"]["age"], before["probabilities"]["age"] = (
        {"young": {"young": 9, "old": 1}, "old": {"young": 1, "old": 9}},
        {c: {"mean": {"young": 0.5, "old": 0.5},
             "products": {d: {"young": 0.25, "old": 0.25} for d in ("young", "old")}}
         for c in ("young", "old")},
    )  # fmt: skip
    path.write_text(json.dumps({**before, "domain": "drawings"}))
    run("calibrate", head, place / "people", "--labels", "gender=label", "--domain", "portraits")
    after = json.loads(path.read_text())
    assert (
        after["attributes"]["age"] == before["attributes"]["age"] and after["domain"] == "portraits"
    )
    assert after["attributes"]["gender"] != gender
    assert after["origins"] == {"age": {**after["origins"]["age"], "domain": "drawings"}}
    assert "age: kept, of" in capsys.readouterr().out
    path.write_text(json.dumps({**before, "digest": "of other weights"}))
    run("calibrate", head, place / "people", "--labels", "gender=label")
    assert set(json.loads(path.read_text())["attributes"]) == {"gender"}


def test_a_calibration_may_be_left_out(place, head, tmp_path, capsys):
    """Faces cut out otherwise make another judge, whose calibration this is not."""
    config = yaml.safe_load((head / "classifier.yaml").read_text())
    config["faces"]["margin"] = 0.2
    (head / "classifier.yaml").write_text(yaml.safe_dump(config))
    fill(tmp_path / "street", ["female"] * 4, np.random.default_rng(2))
    arguments = "measure", "--images-from", tmp_path / "street", "--judge", head
    run(*arguments, "--out", tmp_path / "a", code=2)
    assert "--calibration none" in capsys.readouterr().err
    run(*arguments, "--out", tmp_path / "a", "--calibration", "none")
    assert "--calibration none was asked for" in capsys.readouterr().out


WRONG = [
    (["calibrate", "HEAD", "TABLE"], "Say which holds 'gender', such as --labels gender=label"),
    (["calibrate", "HEAD", "OTHER", "--labels", "gender=label"],
     "no image is labelled 'woman' of 'gender'...its values are f, m...--labels-from: gender: "
     "{column: label"),
    (["calibrate", "siglip-faces", "PEOPLE"], "--labels gender=label"),
    (["calibrate", "HEAD", "PEOPLE", "--split-column", "part"], "no --split-column"),
    (["classifier", "train", "classifiers/folder", "PEOPLE", "split=part"], "split=null"),
    (["classifier", "train", "classifiers/folder", "OTHER"],
     "no image has class 'woman'...its values are f, m...attributes.gender.classes"),
    (["classifier", "train", "classifiers/folder", "PEOPLE", "faces.margin=-2"], "faces.margin"),
]  # fmt: skip


@pytest.mark.parametrize("arguments, message", WRONG)
def test_what_goes_wrong_says_what_to_do(place, head, tmp_path, capsys, arguments, message):
    for kind in ("f", "m"):
        fill(tmp_path / "other" / kind, ["female"] * 12, np.random.default_rng(3))
    labels = yaml.safe_load((head / "labels.yaml").read_text())
    if "TABLE" in arguments:  # as after a training on a table whose column was called otherwise
        labels["gender"]["column"] = "gender"
        (head / "labels.yaml").write_text(yaml.safe_dump(labels))
    names = {"HEAD": head, "PEOPLE": place / "people", "TABLE": place / "people",
             "OTHER": tmp_path / "other"}  # fmt: skip
    given = [names.get(x, x) for x in arguments]
    out = ["--out", tmp_path / "out"] if arguments[0] == "classifier" else []
    run(*given, *out, code=2)
    said = capsys.readouterr().err.strip()
    assert all(part in said for part in message.split("...")) and said.count("\n") == 0, said
