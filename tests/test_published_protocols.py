"""The published protocols of `train/classify/` on data in the published layouts, at toy size."""

import csv

import numpy as np
import pytest
from PIL import Image

from evenhand.classify.experiment import prepare
from evenhand.classify.run import classify
from evenhand.recipes.classify import load_classify

COLUMNS = {
    "celeba-aim-fair": ["image_id", "Smiling", "Male", "partition"],
    "celeba-ffr": ["image_id", "Smiling", "Male", "partition"],
    "utkface-ffr": ["image", "gender", "age", "split"],
    "waterbirds": ["img_id", "img_filename", "y", "split", "place", "place_filename"],
    "spuco-animals": ["image", "class", "background", "split"],
}
NUMBERED, NAMED = ("0", "1", "2"), ("train", "validation", "test")
ANIMALS = {
    "landbird": ("land", "water"),
    "waterbird": ("land", "water"),
    "small_dog": ("indoor", "outdoor"),
    "big_dog": ("indoor", "outdoor"),
}


def groups_of(name):
    """The values of target and shortcut of every group, in the recipe's order, and the splits."""
    if name.startswith("celeba"):
        return [(y, s) for y in ("-1", "1") for s in ("-1", "1")], NUMBERED
    if name == "utkface-ffr":  # 13 years: in no class
        return [(y, s) for y in ("male", "female") for s in ("4", "33", "13")], NAMED
    if name == "waterbirds":
        return [(y, s) for y in ("0", "1") for s in ("0", "1")], NUMBERED
    return [(y, s) for y, both in ANIMALS.items() for s in both], NAMED


@pytest.fixture(scope="module", params=COLUMNS)
def published(request, tmp_path_factory):
    """A recipe's name and a table of 20 training images a group in its layout."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    groups, splits = groups_of(name)
    chance, rows = np.random.default_rng(0), []
    for split, n in zip(splits, (20, 4, 4), strict=True):
        for y, s in groups:
            for _ in range(n):
                file = f"{len(rows):04}.png"
                Image.fromarray(chance.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / file)
                row = [file, y, s, split]
                if name == "waterbirds":
                    row = [str(len(rows)), file, y, split, s, "/p/place.jpg"]
                rows.append(row)
    table = folder / "metadata.csv"
    with table.open("w", newline="") as text:
        csv.writer(text).writerows([COLUMNS[name], *rows])
    return name, table


TRAINED = {  # images of each group, in the recipe's order
    "celeba-aim-fair": [1, 9, 9, 1],
    "celeba-ffr": [1, 20, 20, 1],
    "utkface-ffr": [1, 20, 20, 1],
    "waterbirds": [20] * 4,
    "spuco-animals": [20] * 8,
}


def test_a_published_recipe_reads_its_data_and_cuts_it_as_published(published):
    name, table = published
    changes = ["bias.images=20"] if name == "celeba-aim-fair" else []
    recipe = load_classify(name, [*changes, "synthetic=null", "arm=real"])
    experiment = prepare(recipe, table)
    (arm,) = experiment.arms.values()
    shape = (len(recipe.target.names), len(recipe.protected.names))
    assert experiment.real["train"].counts(shape, arm.real).ravel().tolist() == TRAINED[name]
    test = experiment.real["test"]
    assert set(test.counts(shape).ravel()) == {4} and len(test.groups) == 4 * len(TRAINED[name])
    assert test.left_out == (8 if name == "utkface-ffr" else 0)


def test_a_published_recipe_trains_a_toy_network(published, tmp_path):
    name, table = published
    recipe = load_classify(
        name,
        [
            "arm=real",
            "synthetic=null",
            "path=null",
            "config={model_type: resnet, embedding_size: 4, hidden_sizes: [8], depths: [1], "
            "layer_type: basic}",
            "size=16",
            "batch=16",
            "dtype=float32",
            "seeds=1",
            "schedule.real.epochs=1",
            *(["bias.images=40"] if name == "celeba-aim-fair" else []),
        ],
    )
    report = classify(recipe, table, tmp_path)
    (one,) = report.variants.values()
    assert len(report.groups) == len(TRAINED[name]) and one.steps >= 2
    assert report.settings["select"] == recipe.select
