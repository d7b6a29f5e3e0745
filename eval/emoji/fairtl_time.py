"""What a held-out gap costs: a reference set, direct fine-tuning, and one after the other.

    python eval/emoji/fairtl_time.py
    python eval/emoji/fairtl_time.py --seeds 1 2 3

Three routes on the embedded model, in one run on one thread: `fairtl` (train/fairtl/emoji with
1,000 drawings, no judge), `dft` (train/dft/emoji-gender, which asks its trainer's judge and draws
in every step), and `dft after fairtl` (the latter begun from the former's adapter; `gently`: at a
fifth of the learning rate, so that its first steps do not undo what it begins from). On the way
`emoji-judge` looks at 64 images of each of six held-out occupations; what the looking takes is not
counted. The times are the processor's seconds. Prints the gap at each look, and when the mean gap
was first at most .3, .25 and .15 (.10 by chance). Writes eval/results/emoji-fairtl-time.json;
routes that were done stay in runs/eval/fairtl-time.
"""

import argparse
import json
import pathlib
import shutil
import sys
import time
from typing import Any

import torch
from fairtl_sets import reference

from evenhand.core.files import write_json
from evenhand.core.resources import ROOT
from evenhand.recipes.methods import load_training
from evenhand.training.run_directory import versions

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
from to_target import looked_at  # noqa: E402

RUNS = pathlib.Path("runs/eval/fairtl-time")
OUT = ROOT / "eval" / "results" / "emoji-fairtl-time.json"
LEVELS = (0.3, 0.25, 0.15)
GENTLY = "dft after fairtl, gently"
ROUTES = ("fairtl", "dft", "dft after fairtl", GENTLY)


def route(name: str, seed: int) -> dict[str, Any]:
    """The looks of a route, trained once; the adapter of `fairtl` is kept for the one after it."""
    slug = name.replace(",", "").replace(" ", "-")
    path, adapter = RUNS / f"{slug}-{seed}.json", RUNS / f"adapter-{seed}"
    if not path.is_file():
        if name == "fairtl":
            images = reference(RUNS, 1000, seed)
            changes = [f"images.path={images}", f"seed={seed}", "save_every=20"]
            recipe = load_training("fairtl/emoji", changes)
        elif name == "dft":
            recipe = load_training("dft/emoji-gender", [f"seed={seed}", "save_every=15"])
        else:
            begun = [f"lora.start={adapter}", "steps=40", f"seed={seed}", "save_every=10"]
            rate = ["optimisation.learning_rate=1e-3"] if name == GENTLY else []
            recipe = load_training("dft/emoji-gender", [*begun, *rate])

        def keep(folder: pathlib.Path) -> None:
            if name == "fairtl":
                shutil.copytree(folder / "adapter", adapter, dirs_exist_ok=True)

        least = 0.0 if name == "fairtl" else min(LEVELS)  # the one after it needs all its steps
        label = f"{name}, seed {seed}"
        found = looked_at(recipe, least, label, time.process_time, finished=keep)
        write_json(path, found)
    return json.loads(path.read_text(encoding="utf-8"))


def first_at(found: dict[str, Any], level: float, before: float) -> float | None:
    """Seconds until the gap was first at most `level`, those `before` the route began included."""
    at = [found["taken"][step] for step, gap in found["gaps"].items() if gap <= level]
    return min(at) + before if at else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in args.seeds:
        begun = 0.0
        for name in ROUTES:
            found = route(name, seed)
            before = begun if "after" in name else 0.0
            begun = found["seconds"] if name == "fairtl" else begun
            rows.append({"route": name, "seed": seed, "before": round(before, 1), **found})
            looks = ", ".join(
                f"{found['taken'][s] + before:.0f} s {g:.2f}" for s, g in found["gaps"].items()
            )
            print(f"{name}, seed {seed}: {looks}")
            for level in LEVELS:
                at = first_at(found, level, before)
                print(f"  at most {level}: " + ("never" if at is None else f"after {at:.0f} s"))
    write_json(OUT, {"routes": rows, "versions": versions()})


if __name__ == "__main__":
    main()
