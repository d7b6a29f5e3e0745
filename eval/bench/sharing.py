"""Several processes in one folder: the same result, in less time, and nothing twice.

    python eval/bench/sharing.py                 # prints and writes eval/results/bench-sharing.json
    python eval/bench/sharing.py --sets --kills 10    # writes eval/results/bench-sharing-sets.json

- `equal`: `evenhand measure` (with --sets `evenhand generate`, 400 images) by one process, by two,
  by three, and by two that are killed at random moments and one that finishes: are records and
  image files the same to the last bit, at one thread a process?
- `efficiency`: images a second of two processes over twice those of one, one thread each, from
  their first part to the last, so that loading the models does not count. Rounds in turns, medians.
- `twice`: two equal commands in one folder at once, for every verb that writes: `measure`,
  `measure --images-from`, `train`, `classifier train`. Drawing verbs must both succeed and share;
  of two trainings one must say who holds the lock.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import datasets
import torch
import yaml
from PIL import Image

from evenhand.core.files import digest, write_json
from evenhand.core.records import read
from evenhand.emoji.world import draw, load_world, sample_scene
from evenhand.images.tensors import to_uint8
from evenhand.training.run_directory import machine

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-sharing.json"
MEASURE = ["measure", "emoji", "--prompts", "emoji-occupations", "--split", "test"]
MEASURE += ["--attributes", "gender", "--explicit-images", "0"]
QUICK = ["--batch", "4", "--setting", "num_inference_steps=2", "--images"]
SET = ["generate", "emoji-balanced", "per_cell=10", "settings.num_inference_steps=8"]
SETS = OUT.with_name("bench-sharing-sets.json")
TRAIN = ["train", "dft/emoji-gender", "steps=1", "images=4", "prompts_per_step=1"]
TRAIN += [
    "explicit_images=0",
    "num_inference_steps=[2]",
    "gradient.calls=1",
    "preservation.seeds=4",
]


def start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen:
    """One command with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "evenhand", *arguments, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(*processes: subprocess.Popen) -> list[tuple[int, str]]:
    """Exit codes and what was said to the error stream."""
    found = [process.communicate()[1] for process in processes]
    return [(p.returncode, text) for p, text in zip(processes, found, strict=True)]


def outcome(folder: pathlib.Path) -> tuple[str, dict[str, str]]:
    """Digests of the records and of every image, those in the shards of a set among them."""
    paths = [*folder.glob("images/*"), *folder.glob("parquet/*")]
    return digest(folder / "records.jsonl"), {p.name: digest(p) for p in paths}


def killed(folder: pathlib.Path, command: list[str], rng: random.Random, parts: int) -> int:
    """Kills two processes at random moments and lets one finish; returns the parts at the kill."""
    pair, moment = [start(folder, *command) for _ in range(2)], rng.randrange(1, parts)
    while len(list(folder.glob("parts/*.jsonl"))) < moment and pair[0].poll() is None:
        time.sleep(0.05)
    for process in pair:
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.communicate()
    parts = len(list(folder.glob("parts/*.jsonl")))
    assert finish(start(folder, *command))[0][0] == 0
    return parts


def equal(place: pathlib.Path, kills: int, command: list[str]) -> dict:
    """Whether the number of processes, and their death, change anything."""
    outcomes, rng, parts = {}, random.Random(0), []
    for count in (1, 2, 3):
        codes = finish(*(start(place / str(count), *command) for _ in range(count)))
        assert all(code == 0 for code, _ in codes), codes
        outcomes[f"{count}"] = outcome(place / str(count))
    many = len(list((place / "1").glob("parts/*.jsonl")))
    for i in range(kills):
        parts.append(killed(place / f"killed-{i}", command, rng, many))
        outcomes[f"killed-{i}"] = outcome(place / f"killed-{i}")
    same = all(found == outcomes["1"] for found in outcomes.values())
    return {
        "same": same,
        "images": len(list((place / "1").glob("images/*"))),
        "parts": many,
        "parts_at_the_kills": parts,
    }


def rate_of(folder: pathlib.Path, processes: int, command: list[str]) -> float:
    """Images a second of a command between the first part and the last."""
    codes = finish(*(start(folder, *command) for _ in range(processes)))
    assert all(code == 0 for code, _ in codes), codes
    parts = sorted(folder.glob("parts/*.jsonl"), key=lambda p: p.stat().st_mtime)
    skip = processes  # each process's first part ends when its models are warm
    images = sum(p.read_bytes().count(b"\n") for p in parts[skip:])
    return images / (parts[-1].stat().st_mtime - parts[skip - 1].stat().st_mtime)


def efficiency(place: pathlib.Path, rounds: int, command: list[str]) -> dict:
    """How much of twice the rate two processes reach."""
    ratios = []
    for i in range(rounds):
        one, two = (rate_of(place / f"{i}-{n}", n, command) for n in (1, 2))
        ratios.append(two / (2 * one))
        print(f"  round: {one:.2f} and {two:.2f} images/s, efficiency {ratios[-1]:.2f}", flush=True)
    return {
        "rounds": rounds,
        "efficiency": round(statistics.median(ratios), 3),
    }


def people(place: pathlib.Path) -> pathlib.Path:
    """Forty drawings in a folder, and as labelled rows in a parquet file."""
    generator = torch.Generator().manual_seed(0)
    scene = sample_scene(60, generator=generator, even=True)
    genders = load_world().classes["gender"]
    rows = [
        {
            "image": Image.fromarray(pixels),
            "gender": genders[g],
            "split": ("train", "validation")[i % 2],
        }
        for i, (pixels, g) in enumerate(
            zip(to_uint8(draw(scene, generator=generator)), scene.gender, strict=True)
        )
        if genders[g] != "person"
    ]
    (place / "pictures").mkdir(parents=True)
    for i, row in enumerate(rows):
        row["image"].save(place / "pictures" / f"{i:02}.png")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "gender": datasets.Value("string"),
            "split": datasets.Value("string"),
        }
    )
    datasets.Dataset.from_list(rows, features=features).to_parquet(place / "people.parquet")
    classes = {"woman": ["woman"], "man": ["man"]}
    recipe = {
        "attributes": {"gender": {"column": "gender", "classes": classes}},
        "config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16],
                   "depths": [1, 1], "layer_type": "basic"},
        "size": 32, "split": "split", "epochs": 2, "optimisation": {"learning_rate": 5e-3},
    }  # fmt: skip
    (place / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return place


def twice(place: pathlib.Path, times: int) -> dict:
    """Two equal commands at once, for every verb that writes."""
    data = people(place / "data")
    verbs = {
        "measure": [*MEASURE, *QUICK, "4"],
        "measure --images-from": ["measure", "--images-from", str(data / "pictures"), "--judge",
                                  "emoji-judge", "--attributes", "gender"],
        "train": TRAIN,
        "classifier train": ["classifier", "train", *map(str, data.glob("*.yaml")),
                             *map(str, data.glob("*.parquet"))],
    }  # fmt: skip
    found = {}
    for verb, command in verbs.items():
        rows = []
        for i in range(times):
            folder = place / f"{verb.replace(' ', '-')}-{i}"
            codes = finish(start(folder, *command), start(folder, *command))
            if verb.startswith("measure"):
                records = read(folder / "records.jsonl")  # refuses what stands twice
                keys = {(r.prompt, r.seed) for r in records}
                rows.append(all(code == 0 for code, _ in codes) and len(keys) == len(records))
            else:
                held = [text for code, text in codes if code]
                rows.append(all("has been training here since" in text for text in held))
                rows[-1] &= any(code == 0 for code, _ in codes)
        found[verb] = {"times": times, "right": sum(rows)}
        print(f"  {verb}: right {sum(rows)} of {times} times", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=24, help="of each of six prompts, a round")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--sets", action="store_true", help="of `generate` instead of `measure`")
    args = parser.parse_args()
    alike = SET if args.sets else [*MEASURE, *QUICK, "24"]
    fast = [*MEASURE, "--images", str(args.images), "--batch", "8"]
    fast = ["generate", "emoji-balanced", "per_cell=8", "batch=8"] if args.sets else fast
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        result = {"equal": equal(place / "equal", args.kills, alike)}
        print(json.dumps(result["equal"]), flush=True)
        result["efficiency"] = efficiency(place / "efficiency", args.rounds, fast)
        if not args.sets:
            result["twice"] = twice(place / "twice", args.times)
    print(json.dumps(result, indent=1))
    write_json(SETS if args.sets else OUT, {**result, "processors": os.cpu_count(), **machine()})


if __name__ == "__main__":
    main()
