"""Known shares of real photographs, recovered.

Trains heads on UTKFace, calibrates them, and measures folders built on purpose.

    python eval/utkface/shares.py utkface64.parquet

Prints the tables and writes eval/results/utkface.json. The parquet file holds 64 x 64 face crops
with columns image, age, gender, race, split (UTKFace, Zhang et al., CVPR 2017; for non-commercial
research). Nothing of it, and no network trained on it, is written outside runs/utkface.

1. Two heads by the recipe `classifiers/utkface`, of two seeds, are trained on `train`, the epoch
   chosen on `validation`.
2. Accuracy on `test`, the mean over classes and over images.
3. Folders of `test` images with known shares, no image twice in one; each is measured by `evenhand
   measure --images-from`. Each head is calibrated on `validation`.
Killed, it goes on where it was.
"""

import argparse
import itertools
import json
import pathlib
import tempfile

import numpy as np

from evenhand.classify.train_judge import train_judge
from evenhand.core.files import write_json
from evenhand.images.labelled import labelled, values
from evenhand.judges.calibrate import calibrate
from evenhand.measure import measure
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import load_judge_training
from evenhand.recipes.measure import Measure
from evenhand.stats.calibration import write_calibration
from evenhand.training.run_directory import versions

OUT = pathlib.Path(__file__).parents[1] / "results" / "utkface.json"
RUNS = pathlib.Path("runs/utkface")
HEADS = {"utkface": ["seed=1"], "utkface-judge": ["seed=2"]}  # one may train what the other judges
SHARES = {
    "gender": [(a, 1 - a) for a in (0.5, 0.65, 0.8, 0.95)]
    + [(1 - a, a) for a in (0.65, 0.8, 0.95)],
    "age": [(0.25,) * 4, (0.1, 0.7, 0.1, 0.1), (0.02, 0.95, 0.02, 0.01), (0.4, 0.3, 0.2, 0.1)],
}
SIZES = (60, 250, 1000, 2000)


def accuracies(head: str, data: str) -> dict:
    """Trains the head if it is not there, calibrates it, and returns its accuracies on `test`."""
    recipe, folder = load_judge_training("classifiers/utkface", HEADS[head]), RUNS / head
    made = folder / "classifier"
    if not (made / "classifier.yaml").exists():
        train_judge(recipe, data, folder)
    if not (made / "calibration.json").exists():
        found = calibrate(
            find_judge(str(made)),
            data,
            recipe.attributes,
            split="validation",
            column=recipe.split,
            domain="UTKFace 64x64",
        )
        write_calibration(made / "calibration.json", found)
    test = calibrate(
        find_judge(str(made)), data, recipe.attributes, split="test", column=recipe.split
    )
    result = {}
    for name, table in test.attributes.items():
        right = np.array([row[cls] for cls, row in table.items()])
        n = np.array([sum(row.values()) for row in table.values()])
        result[name] = {
            "accuracy": round(float(right.sum() / n.sum()), 4),
            "n": int(n.sum()),
            "mean_over_classes": round(float((right / n).mean()), 4),
        }
    return result


def folders(data: str, repeats: int, seed: int) -> list[dict]:
    """Every attribute, table of shares and size that the test images allow, several times.

    What lies in it.
    """
    recipe = load_judge_training("classifiers/utkface")
    rows = labelled(data, split=recipe.split)["test"]
    made = []
    for attribute, tables in SHARES.items():
        labels = recipe.attributes[attribute]
        truth = np.array([labels.find(v) for v in values(rows, labels.column, data)])
        pools = [np.flatnonzero(truth == k) for k in range(len(labels.names))]
        for number, (shares, size, repeat) in enumerate(
            itertools.product(tables, SIZES, range(repeats))
        ):
            counts = np.round(np.array(shares) * size).astype(int)
            if any(c > len(pool) for c, pool in zip(counts, pools, strict=True)):
                continue
            rng = np.random.default_rng([seed, len(attribute), number])
            picked = np.concatenate(
                [rng.choice(pool, c, replace=False) for pool, c in zip(pools, counts, strict=True)]
            )
            made.append(
                {
                    "attribute": attribute,
                    "truth": (counts / counts.sum()).tolist(),
                    "n": int(counts.sum()),
                    "repeat": repeat,
                    "rows": picked.tolist(),
                    "head": list(HEADS)[repeat % 2],
                }
            )
    return made


def measured(folder: dict, images: list[bytes]) -> dict:
    """Writes one folder and measures it."""
    with tempfile.TemporaryDirectory() as place:
        pictures = pathlib.Path(place) / "images"
        pictures.mkdir()
        for i in folder["rows"]:
            (pictures / f"{i:05}.jpg").write_bytes(images[i])
        report = measure(
            Measure(
                images_from=str(pictures),
                judge=str(RUNS / folder["head"] / "classifier"),
                batch=256,
                attributes=[folder["attribute"]],
                domain="UTKFace 64x64",
            ),
            pathlib.Path(place) / "run",
        )
    prompt = report.attributes[folder["attribute"]].prompts[0]
    assert prompt.corrected
    return {
        kind: [[e.value, e.low, e.high] for e in table.values()]
        for kind, table in (("shares", prompt.shares), ("corrected", prompt.corrected))
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--seed", type=int, default=2026)
    args = parser.parse_args()
    heads = {head: accuracies(head, args.data) for head in HEADS}
    for head, table in heads.items():
        for attribute, x in table.items():
            print(
                f"{head}, {attribute}: {x['accuracy']:.3f} right of {x['n']}, mean over classes "
                f"{x['mean_over_classes']:.3f}"
            )
    rows = labelled(args.data, split="split")["test"].with_format("arrow")
    images = [cell["bytes"] for cell in rows[:]["image"].to_pylist()]
    journal, found = RUNS / f"folders-{args.seed}.jsonl", {}
    if journal.exists():
        found = {
            json.dumps(row["key"]): row
            for row in map(json.loads, journal.read_text(encoding="utf-8").splitlines())
        }
    results = []
    for i, folder in enumerate(made := folders(args.data, args.repeats, args.seed)):
        key = [folder[k] for k in ("attribute", "truth", "n", "repeat")]
        if json.dumps(key) not in found:
            found[json.dumps(key)] = {"key": key, **measured(folder, images)}
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[json.dumps(key)]) + "\n")
        results.append({**folder, **found[json.dumps(key)]})
        if (i + 1) % 20 == 0:
            print(f"{i + 1} of {len(made)} folders", flush=True)
    table = []
    print(
        f"{'attribute':10} {'n':>5} {'folders':>7} {'MAE raw':>8} {'corrected':>9} {'ratio':>6} "
        f"{'covers raw':>10} "
        f"{'corrected':>9}"
    )
    for attribute, n in [*((a, n) for a in SHARES for n in SIZES), *((a, None) for a in SHARES)]:
        group = [r for r in results if r["attribute"] == attribute and n in (None, r["n"])]
        if not group:
            continue
        truth = np.array([r["truth"] for r in group])
        row = {"attribute": attribute, "n": n or "all", "folders": len(group)}
        for kind in ("shares", "corrected"):
            estimates = np.array([r[kind] for r in group])
            row[f"mae_{kind}"] = round(float(np.abs(estimates[..., 0] - truth).mean()), 4)
            row[f"covers_{kind}"] = round(
                float(((estimates[..., 1] <= truth) & (truth <= estimates[..., 2])).mean()), 4
            )
        row["ratio"] = round(row["mae_corrected"] / row["mae_shares"], 3)
        table.append(row)
        print(
            f"{attribute:10} {row['n']:>5} {len(group):7} {row['mae_shares']:8.4f} "
            f"{row['mae_corrected']:9.4f} "
            f"{row['ratio']:6.2f} {row['covers_shares']:10.3f} {row['covers_corrected']:9.3f}"
        )
    write_json(
        OUT,
        {
            "heads": heads,
            "seed": args.seed,
            "repeats": args.repeats,
            "versions": versions(),
            "folders": table,
        },
    )


if __name__ == "__main__":
    main()
