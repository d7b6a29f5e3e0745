"""kill -9 at random moments of a small chain: the finished page has the same numbers as without.

    python eval/bench/chain.py

A chain of all verbs (measure, train, measure, generate twice, classify) on the embedded model, a
minute long, is done once in one go. Then it is begun in new folders and killed at moments drawn
evenly over the time that the uninterrupted one took, started again after each kill, until ten kills
have hit a chain at work; each folder is finished. Prints at which stage each kill came, and whether
all numbers of all folders are equal (time and memory left out). Writes
eval/results/bench-chain.json. One thread.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import yaml

from evenhand.chain.models import read_chain
from evenhand.core.files import write_json
from evenhand.core.resources import ROOT
from evenhand.training.run_directory import machine

OUT = ROOT / "eval" / "results" / "bench-chain.json"
HOW = {
    "model": "emoji",
    "prompts": ["emoji-occupations"],
    "splits": ["test"],
    "attributes": ["gender"],
    "images": 4,
    "explicit_images": 0,
    "settings": {"num_inference_steps": 4},
    "batch": 4,
}
TRAINED = ["steps=4", "images=2", "prompts_per_step=1", "explicit_images=0", "checkpoint_every=1",
           "preservation.seeds=2", "num_inference_steps=[2]", "gradient.calls=1"]  # fmt: skip
DRAWN = ["contexts.vocabulary={title: [singer, farmer]}", "per_cell=3", "filter.confidence=0",
         "budget=24", "settings.num_inference_steps=4", "batch=4"]  # fmt: skip
CLASSIFIED = [
    "bias={ratio: .75, images: 80}",
    "size=32",
    "synthetic.images=12",
    "schedule={real: {epochs: 3}, synthetic: {epochs: 3}, tune_real: {epochs: 2}}",
]
CHAIN = {
    "data": {
        "drawings": ["singer", "farmer"],
        "splits": {"train": 40, "validation": 4, "test": 10},
    },
    "stages": {
        "before": {"measure": HOW},
        "dft": {"train": "dft/emoji-gender", "set": TRAINED},
        "after-dft": {"measure": HOW, "adapter": "dft"},
        "set-words": {"generate": "emoji-chain-words", "set": DRAWN},
        "set-dft": {"generate": "emoji-chain-words", "set": [*DRAWN, "seed=1"], "adapter": "dft"},
        "classifiers": {
            "classify": "emoji-chain",
            "set": CLASSIFIED,
            "sets": {"words": "set-words", "dft": "set-dft"},
        },
    },
}


def start(recipe: pathlib.Path, folder: pathlib.Path) -> subprocess.Popen:
    """The chain in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "evenhand", "chain", str(recipe), "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def at_work(folder: pathlib.Path) -> str:
    """The first stage that is not done."""
    for name in CHAIN["stages"]:
        path = folder / "stages" / f"{name}.json"
        if not path.is_file() or json.loads(path.read_text())["made"] is None:
            return name
    return "page"


def killed(recipe: pathlib.Path, folder: pathlib.Path, moment: float) -> str | None:
    """Kills the chain after so many seconds; the stage that it was at, None where it had ended."""
    process = start(recipe, folder)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return at_work(folder)
    assert process.returncode == 0, f"{folder}: ended with {process.returncode}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    rng, stages, equal = random.Random(0), list[str](), list[bool]()
    with tempfile.TemporaryDirectory() as place:
        recipe = pathlib.Path(place) / "chain.yaml"
        recipe.write_text(yaml.safe_dump(CHAIN, sort_keys=False))
        whole, began = pathlib.Path(place) / "whole", time.monotonic()
        assert start(recipe, whole).wait() == 0
        seconds = time.monotonic() - began
        numbers = read_chain(whole / "chain.json").numbers()
        print(f"uninterrupted: {seconds:.0f} s", flush=True)
        while len(stages) < args.kills:
            folder = pathlib.Path(place) / f"killed-{len(equal)}"
            while len(stages) < args.kills:
                stage = killed(recipe, folder, rng.uniform(0, seconds))
                if stage is None:
                    break
                stages.append(stage)
                print(f"  kill {len(stages)}: at {stage}", flush=True)
            assert start(recipe, folder).wait() == 0
            equal.append(read_chain(folder / "chain.json").numbers() == numbers)
            print(f"  finished after it: numbers equal: {equal[-1]}", flush=True)
    result = {
        "kills": len(stages),
        "at": stages,
        "chains": len(equal),
        "equal": sum(equal),
        "uninterrupted_s": round(seconds),
        **machine(),
    }
    print(json.dumps(result, indent=1))
    write_json(OUT, result)


if __name__ == "__main__":
    main()
