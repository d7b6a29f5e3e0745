r"""Known shares of real photographs, recovered.

Trains heads on labelled faces, calibrates them, and measures folders built on purpose.

    python eval/photographs/shares.py utkface64.parquet
    python eval/photographs/shares.py utkface64.parquet --recipe classifiers/utkface --heads 2 \
        --train 0 --sizes 60 250 1000 2000 --repeats 6

Prints the tables and writes eval/results/photographs-shares.json (of another recipe: its name). The
parquet file holds 64 x 64 face crops with columns image, age, gender, race, split (UTKFace, Zhang
et al., CVPR 2017; for non-commercial research). Nothing of it, and no network trained on it, is
written outside runs/photographs.

1. Heads by the recipe, of several seeds, are trained on `train`, the epoch chosen on `validation`.
2. Accuracy on `test`, the mean over classes and over images.
3. Folders of `test` images with known shares, no image twice in one; each is measured by `evenhand
   measure --images-from`. Each head is calibrated on `validation`.
Killed, it goes on where it was.
"""

import itertools
import json
import pathlib
import tempfile

import numpy as np
from head import DOMAIN, RECIPE, accuracies, arguments, part_of, runs_of, trained

from evenhand.core.files import write_json
from evenhand.images.labelled import labelled, values
from evenhand.measure import measure
from evenhand.recipes.judge_training import JudgeTraining
from evenhand.recipes.measure import Measure
from evenhand.training.run_directory import versions

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SHARES = {
    "gender": [(a, 1 - a) for a in (0.5, 0.65, 0.8, 0.95)]
    + [(1 - a, a) for a in (0.65, 0.8, 0.95)],
    "age": [(0.25,) * 4, (0.1, 0.7, 0.1, 0.1), (0.02, 0.95, 0.02, 0.01), (0.4, 0.3, 0.2, 0.1)],
}


def folders(
    data: str,
    recipe: JudgeTraining,
    heads: list[pathlib.Path],
    sizes: list[int],
    repeats: int,
    seed: int,
) -> list[dict]:
    """Every attribute, table of shares and size that the test images allow, several times.

    What lies in it.
    """
    rows = labelled(data, split=recipe.split)["test"]
    made = []
    for attribute, tables in SHARES.items():
        labels = recipe.attributes[attribute]
        truth = np.array([labels.find(v) for v in values(rows, labels.column, data)])
        pools = [np.flatnonzero(truth == k) for k in range(len(labels.names))]
        for (number, shares), size, repeat in itertools.product(
            enumerate(tables), sizes, range(repeats)
        ):
            counts = np.round(np.array(shares) * size).astype(int)
            if any(c > len(pool) for c, pool in zip(counts, pools, strict=True)):
                continue
            rng = np.random.default_rng([seed, len(attribute), number, size, repeat])
            picked = np.concatenate(
                [rng.choice(pool, c, replace=False) for pool, c in zip(pools, counts, strict=True)]
            )
            made.append(
                {
                    "attribute": attribute,
                    "truth": (counts / counts.sum()).tolist(),
                    "n": int(counts.sum()),
                    "size": size,
                    "repeat": repeat,
                    "rows": picked.tolist(),
                    "head": str(heads[repeat % len(heads)]),
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
                judge=folder["head"],
                batch=256,
                attributes=[folder["attribute"]],
                domain=DOMAIN,
            ),
            pathlib.Path(place) / "run",
        )
    assert report
    found = report.attributes[folder["attribute"]]
    prompt = found.prompts[0]
    tables = {"shares": prompt.shares, "corrected": prompt.corrected}
    return {
        "z": found.fit.z if found.fit else None,
        **{
            kind: table and [[e.value, e.low, e.high] for e in table.values()]
            for kind, table in tables.items()
        },
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 250, 1000])
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    data = part_of(args.data, args.recipe, args.train)
    made = [trained(args.recipe, seed, data) for seed in range(1, 1 + args.heads)]
    recipe = made[0][0]
    heads = {folder.parent.name: accuracies(*head, data) for head in made for folder in head[1:]}
    for head, table in heads.items():
        for attribute, x in table.items():
            print(
                f"{head}, {attribute}: {x['accuracy']:.3f} right of {x['n']}, mean over classes "
                f"{x['mean_over_classes']:.3f}, no face in {x['not_seen']}"
            )
    rows = labelled(data, split=recipe.split)["test"].with_format("arrow")
    images = [cell["bytes"] for cell in rows[:]["image"].to_pylist()]
    journal, found = runs_of(args.recipe) / f"folders-{args.seed}.jsonl", {}
    if journal.exists():
        found = {
            json.dumps(row["key"]): row
            for row in map(json.loads, journal.read_text(encoding="utf-8").splitlines())
        }
    results = []
    todo = folders(
        data, recipe, [folder for _, folder in made], args.sizes, args.repeats, args.seed
    )
    for i, folder in enumerate(todo):
        key = [folder[k] for k in ("attribute", "truth", "n", "repeat")]
        if json.dumps(key) not in found:
            found[json.dumps(key)] = {"key": key, **measured(folder, images)}
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[json.dumps(key)]) + "\n")
        results.append({**folder, **found[json.dumps(key)]})
        if (i + 1) % 20 == 0:
            print(f"{i + 1} of {len(todo)} folders", flush=True)
    name = "photographs-shares" if args.recipe == RECIPE else pathlib.Path(args.recipe).stem
    write_json(
        RESULTS / f"{name}.json",
        {
            "heads": heads,
            "seed": args.seed,
            "repeats": args.repeats,
            "versions": versions(),
            "folders": summary(results),
        },
    )


def summary(results: list[dict]) -> list[dict]:
    """By attribute and size: errors and coverage of the folders that were corrected; prints it."""
    table = []
    print(
        f"{'attribute':10} {'n':>5} {'folders':>7} {'refused':>7} {'MAE raw':>8} {'corrected':>9} "
        f"{'ratio':>6} {'covers raw':>10} {'corrected':>9}"
    )
    for attribute, n in [
        *((a, n) for a in SHARES for n in sorted({r["size"] for r in results})),
        *((a, None) for a in SHARES),
    ]:
        all_of = [r for r in results if r["attribute"] == attribute and n in (None, r["size"])]
        group = [r for r in all_of if r["corrected"]]
        if not group:
            continue
        truth = np.array([r["truth"] for r in group])
        refused = len(all_of) - len(group)
        row = {"attribute": attribute, "n": n or "all", "folders": len(all_of), "refused": refused}
        for kind in ("shares", "corrected"):
            estimates = np.array([r[kind] for r in group])
            row[f"mae_{kind}"] = round(float(np.abs(estimates[..., 0] - truth).mean()), 4)
            row[f"covers_{kind}"] = round(
                float(((estimates[..., 1] <= truth) & (truth <= estimates[..., 2])).mean()), 4
            )
        row["ratio"] = round(row["mae_corrected"] / row["mae_shares"], 3)
        table.append(row)
        print(
            f"{attribute:10} {row['n']:>5} {len(all_of):7} {refused:7} {row['mae_shares']:8.4f} "
            f"{row['mae_corrected']:9.4f} {row['ratio']:6.2f} {row['covers_shares']:10.3f} "
            f"{row['covers_corrected']:9.3f}"
        )
    return table


if __name__ == "__main__":
    main()
