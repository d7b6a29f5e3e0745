"""Classifiers trained on labelled images and calibrated.

Tiny networks of the real classes, real data sets.
"""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from evenhand.classify.judge_network import new_network, write_judge
from evenhand.classify.labelled_images import LabelledImages
from evenhand.classify.train_judge import (
    accuracy,
    class_weights,
    loss_of,
    train_judge,
)
from evenhand.core.errors import UserError
from evenhand.core.locks import exclusive
from evenhand.emoji.world import draw, load_world, sample_scene
from evenhand.images.augmentation import augmented, mixed
from evenhand.images.labelled import labelled, pixels_of
from evenhand.judges.calibrate import calibrate
from evenhand.judges.registry import load_judge
from evenhand.measure import measure
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import JudgeTraining
from evenhand.recipes.labels import Labels
from evenhand.recipes.measure import Measure

NETWORK = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "layer_type": "basic",
}
GENDER = Labels(column="gender", classes={"woman": ["woman"], "man": ["man"]})


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A parquet file of 240 drawings, with gender, a number for the tone, and a split."""
    import datasets

    generator = torch.Generator().manual_seed(0)
    scene = sample_scene(360, generator=generator, even=True)
    genders = load_world().classes["gender"]
    rows = [
        {
            "image": Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()),
            "gender": genders[g],
            "tone": int(t),
            "split": ("train", "train", "train", "validation", "test")[i % 5],
        }
        for i, (image, g, t) in enumerate(
            zip(draw(scene, generator=generator), scene.gender, scene.tone, strict=True)
        )
    ]
    path = tmp_path_factory.mktemp("people") / "people.parquet"
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "gender": datasets.Value("string"),
            "tone": datasets.Value("int32"),
            "split": datasets.Value("string"),
        }
    )
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def recipe(**rest):
    tones = Labels(column="tone", bins={"lighter": (0, 3), "darker": (3, 5)})
    return JudgeTraining(
        **{
            "attributes": {"tone": tones, "gender": GENDER},
            "config": NETWORK,
            "size": 32,
            "split": "split",
            "jitter": 0.02,
            "epochs": 6,
            "batch": 16,
            "optimisation": {"learning_rate": 5e-3, "weight_decay": 0.05},
            "dtype": "float32",
            **rest,
        }
    )


@pytest.fixture(scope="module")
def trained(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("head")
    return train_judge(recipe(), people, folder), folder


def test_a_head_is_trained_loaded_by_name_of_its_folder_and_calibrated(trained, people):
    made, _ = trained
    found = calibrate(
        find_judge(str(made)),
        people,
        recipe().attributes,
        split="test",
        column="split",
        domain="drawings",
    )
    tone = found.attributes["tone"]
    assert sum(tone["lighter"].values()) + sum(tone["darker"].values()) == 72
    assert all(tone[c][c] / sum(tone[c].values()) > 0.7 for c in ("lighter", "darker"))
    assert (
        30 < sum(sum(row.values()) for row in found.attributes["gender"].values()) < 60
    )  # persons have no label
    assert found.digest == load_judge(find_judge(str(made))).digest and found.domain == "drawings"
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    load_judge(find_judge(str(made)))(images).logits["gender"].sum().backward()
    assert images.grad.abs().sum() > 0


def test_a_folder_is_corrected_by_the_mean_probabilities(trained, people, tmp_path):
    made, attributes = trained[0], {"tone": recipe().attributes["tone"]}
    known = calibrate(find_judge(str(made)), people, attributes, split="validation", column="split")
    (tmp_path / "calibration.json").write_text(known.model_dump_json())
    (tmp_path / "images").mkdir()
    for i, row in enumerate(labelled(people, split="split")["test"]):
        (tmp_path / "images" / f"{i}.png").write_bytes(row["image"]["bytes"])
    found = measure(
        Measure(
            images_from=str(tmp_path / "images"),
            judge=str(made),
            attributes=["tone"],
            calibration=str(tmp_path / "calibration.json"),
        ),
        tmp_path / "run",
    )
    of_test = calibrate(find_judge(str(made)), people, attributes, split="test", column="split")
    n = {c: sum(row.values()) for c, row in of_test.attributes["tone"].items()}
    given = sum(n[c] * of_test.probabilities["tone"][c].mean["darker"] for c in n) / sum(n.values())
    a = {c: known.probabilities["tone"][c].mean["darker"] for c in n}
    corrected = found.attributes["tone"].prompts[0].corrected["darker"].value
    assert corrected == pytest.approx(
        np.clip((given - a["lighter"]) / (a["darker"] - a["lighter"]), 0, 1), abs=1e-3
    )


def test_images_and_labels_are_mixed_in_pairs_by_the_same_share(people, tmp_path):
    labels, generator = torch.arange(8)[:, None], torch.Generator().manual_seed(0)
    images, pairs = mixed(
        labels[:, :, None, None].expand(8, 3, 2, 2).float(), labels, 0.4, generator=generator
    )
    assert sum(share for _, share in pairs) == pytest.approx(1) and 0 < pairs[0][1] < 1
    torch.testing.assert_close(
        images[:, 0, 0, 0], sum(share * truth[:, 0] for truth, share in pairs)
    )

    made = train_judge(recipe(mixup=0.4, epochs=1), people, tmp_path / "mixed")
    plain = train_judge(recipe(epochs=1), people, tmp_path / "plain")
    assert load_judge(find_judge(str(made))).digest != load_judge(find_judge(str(plain))).digest


def test_a_recipe_may_have_an_image_judged_with_its_mirror_image(tmp_path):
    single, judge = (
        load_judge(
            find_judge(
                str(
                    write_judge(
                        tmp_path / str(mirror), *new_network(recipe()), recipe(mirror=mirror)
                    )
                )
            )
        )
        for mirror in (False, True)
    )
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, sides = (
        judge(images).probs["gender"],
        [single(x).probs["gender"] for x in (images, images.flip(-1))],
    )
    assert not torch.allclose(*sides, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, sum(sides) / 2)
    torch.testing.assert_close(found, judge(images.flip(-1)).probs["gender"])
    assert single.digest != judge.digest


@pytest.mark.parametrize("patience, epochs", [(1, 2), (None, 4)])
def test_training_stops_early_where_patience_says_so(people, tmp_path, patience, epochs):
    vit = {
        "model_type": "vit",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }  # without batch statistics, so that nothing changes at this rate
    steps, still = (
        [],
        recipe(config=vit, patience=patience, epochs=4, optimisation={"learning_rate": 1e-12}),
    )
    for _ in range(2):  # ended early, it does not train on when it is repeated
        with pytest.raises(UserError, match="every validation image is called"):
            train_judge(
                still,
                people,
                tmp_path / "run",
                progress=lambda done, total, _: steps.append((done, total)),
            )
    assert len(steps) == steps[-1][0] and steps[-1][0] * 4 == steps[-1][1] * epochs


def test_the_digest_is_of_the_weights(trained, tmp_path):
    import shutil

    made, _ = trained
    shutil.copytree(made, tmp_path / "same")
    assert (
        load_judge(find_judge(str(tmp_path / "same"))).digest
        == load_judge(find_judge(str(made))).digest
    )
    weights = tmp_path / "same" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-4] ^= 1
    weights.write_bytes(bytes(data))
    assert (
        load_judge(find_judge(str(tmp_path / "same"))).digest
        != load_judge(find_judge(str(made))).digest
    )


def test_transformers_loads_it_without_the_toolkit(trained):
    from transformers import AutoModelForImageClassification

    labels = AutoModelForImageClassification.from_pretrained(trained[0]).config.id2label
    assert list(labels.values()) == [
        "tone: lighter",
        "tone: darker",
        "gender: woman",
        "gender: man",
    ]


def test_a_finished_or_cut_training_goes_on_and_another_is_refused(trained, people):
    made, folder = trained
    before = (made / "model.safetensors").read_bytes()
    assert (train_judge(recipe(), people, folder) / "model.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="recipe.seed was 0, is 1"):
        train_judge(recipe(seed=1), people, folder)


def test_a_training_on_a_folder_that_changed_is_refused_and_one_that_moved_goes_on(tmp_path):
    data = tmp_path / "data"
    for i in range(80):
        name, colour = (("woman", (100 + i, 0, 0)), ("man", (0, 0, 100 + i)))[i % 2]
        (data / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), colour).save(data / name / f"{i}.png")
    labels = GENDER.model_copy(update={"column": "label"})
    colours = recipe(attributes={"gender": labels}, split=None)
    made = train_judge(colours, data, tmp_path / "run")
    weights, trained_on = (made / name for name in ("model.safetensors", "trained-on.json"))
    before = weights.read_bytes(), trained_on.read_bytes()
    moved = data.rename(tmp_path / "moved")
    train_judge(colours, moved, tmp_path / "run")
    assert (weights.read_bytes(), trained_on.read_bytes()) == before
    Image.new("RGB", (32, 32), "blue").save(moved / "man" / "one more.png")
    with pytest.raises(UserError, match="other settings: images.train was '.*', is '"):
        train_judge(colours, moved, tmp_path / "run")
    assert (weights.read_bytes(), trained_on.read_bytes()) == before


def test_a_second_training_in_a_folder_is_told_who_works_there(people, tmp_path):
    with (
        exclusive(tmp_path / "run", "training"),
        pytest.raises(UserError, match="Wait until it ends"),
    ):
        train_judge(recipe(epochs=1), people, tmp_path / "run")


def test_a_cut_training_gives_the_same_judge_and_no_global_generator_counts(people, tmp_path):
    class Cut(Exception):
        pass

    def cut(done, total, words):
        if done == 20:
            raise Cut

    short = recipe(epochs=2, mixup=0.4)
    state = torch.get_rng_state()
    whole = train_judge(short, people, tmp_path / "whole")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    with pytest.raises(Cut):
        train_judge(short, people, tmp_path / "cut", progress=cut)
    resumed = train_judge(short, people, tmp_path / "cut")
    assert (resumed / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()


def test_a_damaged_checkpoint_is_named(trained, people, tmp_path):
    import shutil

    folder = shutil.copytree(trained[1], tmp_path / "run")
    (folder / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(UserError, match=r"run/checkpoint\.pt: cannot be read as a checkpoint"):
        train_judge(recipe(), people, folder)


@pytest.mark.parametrize("rate", [1e9, 1e30])
def test_a_diverged_training_writes_no_judge_and_names_the_cause(people, tmp_path, rate):
    with pytest.raises(UserError, match="lower optimisation.learning_rate"):
        train_judge(recipe(optimisation={"learning_rate": rate}), people, tmp_path / "run")
    assert not (tmp_path / "run" / "classifier").exists()


def test_one_process_trains(people, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="trained by one process"):
        train_judge(recipe(), people, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_without_a_label_of_an_attribute_do_not_count_for_it():
    """The loss of labelled images alone; of an attribute without any, nothing; of none, None."""
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    plain, even = recipe(smoothing=0), [torch.ones(2), torch.ones(2)]
    labels = torch.tensor([[0, 1], [1, 0], [0, 0]])

    def loss(known):
        return loss_of(logits, {"pairs": [(labels, torch.tensor(known), 1.0)]}, plain, even)

    tone = torch.nn.functional.cross_entropy(logits[:2, :2], labels[:2, 0])
    gender = torch.nn.functional.cross_entropy(logits[:1, 2:], labels[:1, 1])
    some = loss([[True, True], [True, False], [False, False]])
    torch.testing.assert_close(some, tone + gender)
    torch.testing.assert_close(loss([[True, False], [True, False], [False, False]]), tone)
    assert loss([[False, False]] * 3) is None


def test_accuracy_is_the_mean_over_classes_and_attributes_of_labelled_images(people):
    rows = LabelledImages(labelled(people, split="split")["validation"], recipe(), "here")
    right = rows.labels.clone()
    assert accuracy(right, rows) == 1
    lighter = rows.labels[:, 0] == 0
    assert accuracy(torch.stack([lighter.long(), right[:, 1]], 1), rows) == 0.5
    always_first = torch.zeros_like(right)
    assert accuracy(always_first, rows) == 0.5  # whatever the classes' numbers are
    unknown = ~rows.known[:, 1]
    assert unknown.any()  # drawings that say person
    right[unknown, 1] = 1 - right[unknown, 1]
    assert accuracy(right, rows) == 1


def test_balance_gives_every_class_of_an_attribute_the_same_weight(people):
    rows = LabelledImages(labelled(people, split="split")["train"], recipe(), "here")
    for place, weights in enumerate(class_weights(rows, recipe(balance=True))):
        counts = torch.bincount(rows.labels[rows.known[:, place], place])
        assert len(set(counts.tolist())) > 1
        torch.testing.assert_close(weights * counts, torch.full((2,), counts.sum() / 2))
    assert all((w == 1).all() for w in class_weights(rows, recipe(balance=False)))


def test_a_backbone_is_frozen_but_for_its_head(trained, people, tmp_path):
    made, _ = trained
    again = train_judge(
        recipe(config=None, path=str(made), freeze=True, epochs=1, attributes={"gender": GENDER}),
        people,
        tmp_path,
    )
    from safetensors.torch import load_file

    before, after = load_file(made / "model.safetensors"), load_file(again / "model.safetensors")
    changed = {
        k
        for k in after
        if before[k].shape != after[k].shape or not torch.equal(before[k], after[k])
    }
    assert changed and all("classifier" in k for k in changed), changed


def test_a_head_is_trained_on_frozen_features_of_clip(tiny_clip, people, tmp_path):
    from safetensors.torch import load_file

    made = train_judge(
        recipe(config=None, path=tiny_clip, freeze=True, epochs=1), people, tmp_path / "run"
    )
    weights, base = (
        load_file(made / "model.safetensors"),
        load_file(f"{tiny_clip}/model.safetensors"),
    )
    shared = [k for k in weights if k in base]
    assert len(shared) > 10 and all(torch.equal(weights[k], base[k]) for k in shared)
    assert weights["classifier.weight"].shape[0] == 4
    assert load_judge(find_judge(str(made)))(torch.rand(2, 3, 64, 64)).probs["gender"].shape == (
        2,
        2,
    )


def test_a_random_split_keeps_its_seed_from_training_to_calibration(trained, tmp_path):
    for i in range(200):
        name = ("woman", "man")[i % 2]
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (i, 0, 0)).save(tmp_path / "data" / name / f"{i}.png")

    def reds(rows):
        return {int(pixels_of(row)[0, 0, 0]) for row in rows}

    parts = {seed: labelled(tmp_path / "data", seed=seed) for seed in (0, 5)}
    assert reds(parts[0]["test"]) & reds(parts[5]["train"]) and not reds(parts[5]["test"]) & reds(
        parts[5]["train"]
    )
    folder, by_label = tmp_path / "data", {"gender": GENDER.model_copy(update={"column": "label"})}
    found = calibrate(find_judge(str(trained[0])), folder, by_label, split="validation", seed=5)
    names = parts[5]["validation"].features["label"].names
    kept_back = [names[k] for k in parts[5]["validation"]["label"]]
    assert {c: sum(r.values()) for c, r in found.attributes["gender"].items()} == {
        c: kept_back.count(c) for c in ("woman", "man")
    }


def test_a_labelled_image_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "data" / "woman").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "data" / "woman" / "large.png")
    (row,) = [row for rows in labelled(tmp_path / "data").values() for row in rows]
    assert pixels_of(row, 8).shape == (8, 8, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(UserError, match=r"woman/large.png: too large .*; leave it out"):
            pixels_of(row)
    (tmp_path / "data" / "woman" / "large.png").write_bytes(b"GIF89a, or not")
    with pytest.raises(UserError, match=r"woman/large.png: .*; leave it out"):
        pixels_of(row)
    with pytest.raises(UserError, match="the image of {'label': 3}: is not there"):
        pixels_of({"image": None, "label": 3})


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"split": "part"},
            "has no column 'part' that says the split; its columns are image,",
        ),
        (
            {"attributes": {"age": Labels(column="age", classes={"a": [1], "b": [2]})}},
            "has no column 'age'",
        ),
        (
            {
                "attributes": {
                    "gender": Labels(column="gender", classes={"woman": ["woman"], "nobody": ["x"]})
                }
            },
            "no image has class 'nobody' of 'gender'",
        ),
        ({"config": {"model_type": "resnett"}}, "an image classifier of .* cannot be loaded"),
        ({"config": None, "path": "nowhere/at-all"}, "network 'nowhere/at-all' cannot be loaded"),
    ],
)
def test_what_cannot_be_trained_is_named(people, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train_judge(recipe(**change), people, tmp_path / "run")


def test_impossible_recipes_are_refused():
    for change, message in [
        ({"path": "x"}, "give either path"),
        ({"config": None}, "give either"),
        ({"freeze": True}, "freeze"),
        (
            {"attributes": {"gender": Labels(column="gender", classes={"woman": ["woman"]})}},
            "gender has the class 'woman' alone",
        ),
        ({"learning_rate": 1e-3}, "learning_rate is now optimisation.learning_rate"),
    ]:
        with pytest.raises(ValueError, match=message):
            recipe(**change)
    with pytest.raises(ValueError, match="either classes or bins"):
        Labels(column="x")
    with pytest.raises(ValueError, match="a value stands in two classes"):
        Labels(column="x", classes={"a": ["1"], "b": [1]})


def test_calibrations_that_make_no_sense_are_refused(trained, people):
    made = str(trained[0])
    for labels, message in [
        ({"height": GENDER}, "unknown attribute 'height'"),
        ({"tone": GENDER}, "the labels mean woman, man; classifier .* knows lighter, darker"),
        (
            {"gender": Labels(column="gender", classes={"woman": ["woman"], "man": ["nobody"]})},
            "no image is labelled 'man'",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            calibrate(find_judge(made), people, labels, split="test", column="split")
    with pytest.raises(UserError, match="unknown split 'tests'"):
        calibrate(find_judge(made), people, {"gender": GENDER}, split="tests", column="split")


def test_a_folder_of_class_folders_is_a_labelled_data_set(trained, tmp_path):
    for name, colour in (("woman", "red"), ("man", "blue")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (16, 16), colour).save(tmp_path / "data" / name / f"{i}.png")
    found = calibrate(
        find_judge(str(trained[0])),
        tmp_path / "data",
        {"gender": GENDER.model_copy(update={"column": "label"})},
    )
    assert {c: sum(row.values()) for c, row in found.attributes["gender"].items()} == {
        "woman": 5,
        "man": 5,
    }
    with pytest.raises(UserError, match="labelled images cannot be loaded"):
        labelled(tmp_path / "nowhere")


def test_augmentation_keeps_range_and_can_be_none():
    images = torch.rand(6, 3, 16, 16)
    generator = torch.Generator().manual_seed(0)
    moved = augmented(images, 0.2, flip=True, generator=generator)
    assert (
        moved.shape == images.shape
        and moved.min() >= 0
        and moved.max() <= 1
        and not torch.allclose(moved, images)
    )
    same = augmented(images, 0.0, flip=False, generator=generator)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


def test_the_command_trains_calibrates_and_prints(people, tmp_path, monkeypatch, capsys):
    import sys

    from evenhand.cli import main

    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe(epochs=1).model_dump(mode="json")))
    for arguments in (
        ["classifier", "train", tmp_path / "mine.yaml", people, "--out", tmp_path / "run"],
        [
            "calibrate",
            tmp_path / "run" / "classifier",
            people,
            "--split",
            "validation",
            "--split-column",
            "split",
            "--domain",
            "drawings",
        ],
    ):
        monkeypatch.setattr(sys, "argv", ["evenhand", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "gender: called" in out and "calibration.json" in out
    card = (tmp_path / "run" / "classifier" / "README.md").read_text()
    assert "| gender, truly | images |" in card and "It names what it perceives" in card
    assert (
        json.loads((tmp_path / "run" / "classifier" / "calibration.json").read_text())["domain"]
        == "drawings"
    )
