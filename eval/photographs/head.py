"""The heads: trained on `train`, calibrated on `validation`, looked at on `test`."""

import argparse
import json
import pathlib

import numpy as np
from pyarrow import parquet

from evenhand.classify.train_judge import train_judge
from evenhand.core.files import whole, write_json
from evenhand.judges.calibrate import calibrate
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import JudgeTraining, load_judge_training
from evenhand.stats.calibration import write_calibration

RECIPE = "classifiers/utkface-faces"
DOMAIN = "UTKFace 64x64"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The arguments of both commands: the data, and how the heads are trained."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--train", type=int, default=5000, help="images to train on; 0: all")
    parser.add_argument("--seed", type=int, default=2026)
    return parser


def runs_of(recipe: str) -> pathlib.Path:
    """Where what is made by a recipe lies; nothing of it belongs to the project."""
    return pathlib.Path("runs/photographs") / pathlib.Path(recipe).stem


def part_of(data: str, recipe: str, train: int) -> str:
    """A file with fewer images to train on, drawn by chance, and as few to choose the epoch by.

    Args:
        data: parquet with a column `split`.
        recipe: whose runs keep the file.
        train: images of `train` that are kept, and a fifth as many of `validation`; what is left
            of `validation` joins `test`. 0 keeps the file as it is.
    """
    if not train:
        return data
    part = runs_of(recipe) / f"train-{train}.parquet"
    if not part.exists():
        table = parquet.read_table(data)
        names = np.array(table["split"].to_pylist())
        order = np.random.default_rng(0).permutation(len(names))
        fewer = order[names[order] == "train"][train:]
        names[order[names[order] == "validation"][train // 5 :]] = "test"
        table = table.set_column(table.column_names.index("split"), "split", [names])
        with whole(part) as temporary:
            kept = np.setdiff1d(np.arange(len(names)), fewer)
            parquet.write_table(table.take(kept), temporary)
    return str(part)


def trained(recipe: str, seed: int, data: str) -> tuple[JudgeTraining, pathlib.Path]:
    """The recipe with that seed, and the folder of its judge; trained and calibrated once."""
    values, folder = load_judge_training(recipe, [f"seed={seed}"]), runs_of(recipe) / f"seed-{seed}"
    made = folder / "classifier"
    if not (made / "classifier.yaml").exists():
        train_judge(values, data, folder, progress=_say)
    if not (made / "calibration.json").exists():
        found = calibrate(
            find_judge(str(made)),
            data,
            values.attributes,
            split="validation",
            column=values.split,
            domain=DOMAIN,
        )
        write_calibration(made / "calibration.json", found)
    return values, made


def accuracies(recipe: JudgeTraining, made: pathlib.Path, data: str) -> dict:
    """By attribute: accuracy on `test`, its mean over the classes, images, and those not seen."""
    kept = made / "accuracies.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    found = calibrate(
        find_judge(str(made)), data, recipe.attributes, split="test", column=recipe.split
    )
    result = {}
    for name, table in found.attributes.items():
        right = np.array([row[cls] for cls, row in table.items()])
        n = np.array([sum(row.values()) for row in table.values()])
        result[name] = {
            "accuracy": round(float(right.sum() / n.sum()), 4),
            "n": int(n.sum()),
            "mean_over_classes": round(float((right / n).mean()), 4),
            "not_seen": sum(row["not seen"] for row in table.values()),
        }
    write_json(kept, result)
    return result


def _say(done: int, total: int, words: str = "") -> None:
    if done % 50 == 0 or done == total:
        print(f"{done} of {total}, {words}", flush=True)
