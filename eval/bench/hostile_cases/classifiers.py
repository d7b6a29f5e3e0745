"""Bad inputs of `evenhand classifier train` and `evenhand calibrate`."""

import pathlib

import yaml

from hostile_cases.case import Case, copied, pictures

NETWORK = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "layer_type": "basic",
}
RECIPE = {
    "attributes": {"gender": {"column": "label", "classes": {c: [c] for c in ("man", "woman")}}},
    "config": NETWORK,
    "size": 32,
    "epochs": 1,
    "batch": 8,
    "dtype": "float32",
}
TRAIN = "classifier train ./r.yaml labelled --out k"
DATA = {"labelled": copied("labelled")}
CALIBRATE = "calibrate emoji-judge labelled --labels gender=label"
SPARSE = {"labelled": copied("labelled", lambda p: [x.unlink() for x in p.glob("*/man/*")])}


def recipe(data: dict = DATA, **changes) -> dict:
    return {**data, "r.yaml": yaml.safe_dump({**RECIPE, **changes})}


def labels(**changes) -> dict:
    return {"gender": {"column": "label", **changes}}


def written(folder: pathlib.Path, out: str) -> bool:
    return (folder / "k" / "classifier" / "classifier.yaml").exists()


TRAININGS = [
    Case("right", TRAIN, None, recipe(), written),
    Case("recipe misspelt", "classifier train classifiers/utkfaces x", "unknown recipe"),
    Case("data not there", TRAIN, "no such file or folder", recipe({})),
    Case(
        "data without images",
        TRAIN,
        "cannot be loaded|no column 'image'",
        recipe({"labelled/a.txt": "x"}),
    ),
    Case(
        "a text as parquet",
        TRAIN.replace("labelled", "x.parquet"),
        "cannot be loaded",
        recipe({"x.parquet": "x"}),
    ),
    Case(
        "no column",
        TRAIN,
        "has no column 'sex'",
        recipe(attributes=labels(column="sex", classes={"a": [1], "b": [2]})),
    ),
    Case("no split of that name", TRAIN, "has no column 'part'", recipe(split="part")),
    Case(
        "one class",
        TRAIN,
        "a judge tells two or more apart",
        recipe(attributes=labels(classes={"man": ["man"]})),
        fault=18,
    ),
    Case(
        "a class without images",
        TRAIN,
        "no image has class 'x'",
        recipe(attributes=labels(classes={"man": ["man"], "x": ["x"]})),
        fault=18,
    ),
    Case(
        "a class without values",
        TRAIN,
        "classes.x",
        recipe(attributes=labels(classes={"man": ["man"], "x": []})),
    ),
    Case(
        "a value of two classes",
        TRAIN,
        "stands in two classes",
        recipe(attributes=labels(classes={"a": ["man"], "b": ["man"]})),
    ),
    Case(
        "bins of words",
        TRAIN,
        "is no number to put into bins",
        recipe(attributes=labels(bins={"a": [0, 1], "b": [1, 2]})),
    ),
    Case(
        "bins that overlap",
        TRAIN,
        "two bins overlap",
        recipe(attributes=labels(bins={"a": [0, 9], "b": [1, 20]})),
    ),
    Case(
        "an empty bin",
        TRAIN,
        "a bin is empty",
        recipe(attributes=labels(bins={"a": [9, 0], "b": [20, 30]})),
    ),
    Case(
        "classes and bins",
        TRAIN,
        "either classes or bins",
        recipe(attributes=labels(classes={"a": ["man"]}, bins={"b": [1, 2]})),
    ),
    Case(
        "no images of a class left",
        TRAIN,
        "has no column 'label'",
        recipe(SPARSE),
        fault=18,
    ),
    Case("depths in words", TRAIN, "config", recipe(config={**NETWORK, "depths": "x"}), fault=20),
    Case(
        "model type misspelt",
        TRAIN,
        "config",
        recipe(config={**NETWORK, "model_type": "resnot"}),
        fault=20,
    ),
    Case(
        "sizes that do not fit",
        TRAIN,
        "config|network",
        recipe(config={**NETWORK, "depths": [1]}),
        fault=20,
    ),
    Case("both path and config", TRAIN, "give either path", recipe(path="x")),
    Case("a network nobody can fetch", TRAIN, "cannot be loaded", recipe(path="a/b", config=None)),
    Case("freeze nothing", TRAIN, "freeze keeps a trained network", recipe(freeze=True)),
    Case("no epochs", f"{TRAIN} epochs=0", "epochs: Input should be greater", recipe()),
    Case("size 1", f"{TRAIN} size=1", "every validation image is called", recipe()),
    Case(
        "a rate of 1e9",
        f"{TRAIN} optimisation.learning_rate=1e9",
        "lower optimisation.learning_rate",
        recipe(),
        fault=1,
    ),
    Case("mixup nan", f"{TRAIN} mixup=.nan", "finite", recipe(), fault=1),
    Case(
        "a broken image",
        TRAIN,
        "leave it out",
        recipe(
            {
                "labelled": copied(
                    "labelled", lambda p: [x.write_bytes(b"x") for x in p.glob("train/*/*")]
                )
            }
        ),
        fault=13,
    ),
    Case(
        "out is a measurement",
        TRAIN.replace("--out k", "--out run"),
        "other settings",
        {**recipe(), "run": copied("run")},
        fault=17,
    ),
    Case(
        "out is somebody's", TRAIN, "holds files but no run.json", {**recipe(), "k/a.txt": "mine"}
    ),
    Case(
        "several processes",
        TRAIN,
        "trained by one process",
        recipe(),
        fault=63,
        process={"WORLD_SIZE": "2", "RANK": "0"},
    ),
]
CALIBRATIONS = [
    Case(
        "right",
        f"{CALIBRATE} --out c.json",
        None,
        {"labelled": copied("labelled-three")},
        lambda f, out: (f / "c.json").exists(),
    ),
    Case(
        "judge misspelt",
        "calibrate emoji-juge labelled --labels gender=label",
        "unknown judge",
        DATA,
    ),
    Case("no labels", "calibrate emoji-judge labelled", "name the column that holds", DATA),
    Case(
        "attribute misspelt",
        "calibrate emoji-judge labelled --labels gendre=label",
        "unknown attribute",
        DATA,
    ),
    Case("attribute twice", f"{CALIBRATE} --labels gender=x", "named twice", DATA, fault=7),
    Case(
        "both kinds of labels",
        f"{CALIBRATE} --labels-from l.yaml",
        "either --labels or",
        {**DATA, "l.yaml": "{}"},
        fault=7,
    ),
    Case(
        "a column that is none",
        "calibrate emoji-judge labelled --labels gender=sex",
        "has no column 'sex'",
        DATA,
    ),
    Case("data not there", "calibrate emoji-judge nowhere --labels gender=label", "no such file"),
    Case("a class nobody has", CALIBRATE, "no image is labelled 'person'", DATA),
    Case("a split that is none", f"{CALIBRATE} --split tset", "unknown split 'tset'", DATA),
    Case(
        "a split column that is none",
        f"{CALIBRATE} --split-column part --split x",
        "has no column 'part'",
        DATA,
    ),
    Case(
        "a broken image",
        f"{CALIBRATE} --out c.json",
        None,
        {"labelled": copied("labelled-three", lambda p: next(p.glob("*/man/*")).write_bytes(b"x"))},
        lambda folder, out: "1 of 60 images could not be read" in out,
        13,
    ),
    Case(
        "out is somebody's file",
        f"{CALIBRATE} --out notes.txt",
        "cannot be read as a calibration",
        {**DATA, "notes.txt": "mine"},
    ),
    Case(
        "out is below a file",
        f"{CALIBRATE} --out x/c.json",
        "x",
        {"labelled": copied("labelled-three"), "x": "mine"},
    ),
    Case(
        "labels' file a list",
        "calibrate emoji-judge labelled --labels-from l.yaml",
        "holds no mapping",
        {**DATA, "l.yaml": "- a"},
    ),
    Case(
        "labels' file of words",
        "calibrate emoji-judge labelled --labels-from l.yaml",
        "labels of gender",
        {**DATA, "l.yaml": "gender: label"},
    ),
    Case(
        "a folder that is no judge",
        "calibrate ./pics labelled --labels gender=label",
        "no judge's folder",
        {**DATA, "pics": pictures(1)},
    ),
    Case(
        "a judge's file cut",
        "calibrate ./j labelled --labels gender=label",
        "cannot be read|mapping|kind",
        {**DATA, "j/classifier.yaml": "kind"},
    ),
]
CASES = [*TRAININGS, *CALIBRATIONS]
