"""How fast measuring is, reading a folder of JPEGs, and a report of many records.

    python eval/bench/throughput.py

Prints and writes eval/results/bench-throughput.json.

- `measure`: images a second of `evenhand measure` on the embedded model (sampling, judging, PNG
  files, parts) over those of calls of the stock pipeline whose images are dropped; a bare batch
  follows each measured one, so that other programs on the machine disturb both alike; the median;
- `folder`: images a second of reading 64 x 64 JPEGs alone, of judging alone, and of `measure
  --images-from` (report left out), by the tiny judge of the embedded model, which needs the same
  processors as reading, and by the network of `train/classifiers/utkface.yaml`, its weights random;
- `report`: seconds and peak memory of `evenhand report` on 100,000 records, in a process of its
  own, which imports no torch.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from evenhand.classify.judge_network import new_network, write_judge
from evenhand.core.files import write_json
from evenhand.core.records import Record, write_records
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.emoji.world import draw, sample_scene
from evenhand.images.folders import files_in
from evenhand.images.io import read_images
from evenhand.images.tensors import in_batches, to_uint8
from evenhand.judges.base import Judge
from evenhand.judges.registry import load_judge
from evenhand.measure import measure, plan
from evenhand.measure.plan import GeneratorPlan
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import load_judge_training
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import load_model
from evenhand.training.run_directory import machine

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-throughput.json"


def seconds(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def measured(config: Measure, folder: str) -> list[float]:
    """Measures, and returns the times at which each batch was done."""
    marks: list[float] = []
    run = pathlib.Path(folder) / "run"
    measure(config, run, progress=lambda *_: marks.append(time.perf_counter()))
    return marks


def drawing(images: int, batch: int) -> dict:
    """The rate of measuring, over that of a bare loop."""
    config = Measure(
        model="emoji",
        prompts=["emoji-occupations"],
        splits=["test"],
        attributes=["gender"],
        images=images,
        explicit_images=0,
        batch=batch,
    )
    planned = plan(config)
    assert isinstance(planned, GeneratorPlan)
    model = load_model("emoji")
    pipe, call = load_diffusion(model).pipe, model.settings.call()
    pipe.set_progress_bar_config(disable=True)
    prompts, seeds = zip(*((p.text, seed) for p, seed in planned.rows[:batch]), strict=True)

    def bare() -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        pipe(list(prompts), generator=generators, **call)

    ratios: list[float] = []
    since = last = 0

    def after_a_batch(done: int, total: int) -> None:
        nonlocal since, last
        ours, alone = time.perf_counter() - since, seconds(bare)
        if last and done > last:  # loading the models is in the time of the first
            ratios.append(alone / ours)
            print(f"  {alone:.2f} s bare, {ours:.2f} s measured", flush=True)
        since, last = time.perf_counter(), done

    bare()
    with tempfile.TemporaryDirectory() as place:
        measure(config, pathlib.Path(place) / "run", progress=after_a_batch)
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75)).round(3).tolist()
    return {
        "batch": batch,
        "batches": len(ratios),
        "rate_of_the_bare_loop": median,
        "quartiles": [low, high],
    }


def folder(count: int) -> dict:
    """Rates of reading, judging, and both."""
    generator = torch.Generator().manual_seed(0)
    pictures = draw(sample_scene(500, generator=generator, even=True), generator=generator)
    with tempfile.TemporaryDirectory() as place:
        images = pathlib.Path(place) / "images"
        images.mkdir()
        for i in range(count):
            array = to_uint8(pictures[i % 500])
            Image.fromarray(array).save(images / f"{i:05}.jpg", quality=90)
        files, recipe = files_in(images), load_judge_training("classifiers/utkface")
        head = write_judge(pathlib.Path(place) / "head", *new_network(recipe), recipe)
        reading = seconds(lambda: [None for _ in in_batches(read_images(files), 64)])
        result: dict[str, Any] = {"images": count, "reading_per_s": round(count / reading)}
        for name, judge in (("emoji judge", "emoji-judge"), ("utkface head", str(head))):
            classifier = load_judge(find_judge(judge))

            def judged(classifier: Judge = classifier) -> None:
                with torch.no_grad():
                    for start in range(0, count, 64):
                        classifier(
                            pictures[[i % 500 for i in range(start, min(start + 64, count))]]
                        )

            judging = count / seconds(judged)
            marks = measured(
                Measure(images_from=str(images), judge=judge, attributes=["gender"], batch=64),
                str(pathlib.Path(place) / name),
            )
            result[name] = {
                "judging_per_s": round(judging),
                "measuring_per_s": round((count - 64) / (marks[-1] - marks[0])),
            }
    return result


def report(count: int) -> dict:
    """Seconds and memory of a report of many records."""
    settings = plan(
        Measure(
            model="emoji", prompts=["emoji-occupations"], attributes=["gender", "tone"], images=1
        )
    ).settings
    settings["judge"]["digest"], settings["source"] = settings["calibration"]["digest"], "none"
    classes = {a: entry["classes"] for a, entry in settings["attributes"].items()}
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        run = pathlib.Path(place)
        write_json(run / "run.json", {"settings": settings, **machine()})
        rows = []
        probs = {
            a: torch.rand(count, len(c), generator=generator).pow(4) for a, c in classes.items()
        }
        probs = {
            a: (p / p.sum(-1, keepdim=True)).round(decimals=4).tolist() for a, p in probs.items()
        }
        for i in range(count):
            name = f"occupation {i // 100}"
            rows.append(
                Record(
                    f"a photo of {name}",
                    name,
                    "occupations",
                    "test",
                    i,
                    "none",
                    f"images/{i}.png",
                    {a: dict(zip(c, probs[a][i], strict=True)) for a, c in classes.items()},
                )
            )
        write_records(run, rows)
        code = (
            "import sys; sys.argv = ['evenhand', 'report', sys.argv[1]]\nfrom evenhand.cli "
            "import main\n"
            "try:\n    main()\nexcept SystemExit:\n    assert 'torch' not in sys.modules"
        )
        taken = seconds(
            lambda: subprocess.run(
                [sys.executable, "-c", code, str(run)], check=True, stdout=subprocess.DEVNULL
            )
        )
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"records": count, "seconds": round(taken, 1), "memory_mb": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=40, help="of each of the six held-out prompts"
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--only", choices=("measure", "folder", "report"))
    args = parser.parse_args()
    parts = {
        "report": lambda: report(args.records),
        "folder": lambda: folder(args.files),
        "measure": lambda: drawing(args.images, 16),
    }
    result = json.loads(OUT.read_text()) if args.only and OUT.exists() else {}
    for name in [args.only] if args.only else parts:
        result[name] = {**parts[name](), **machine()}
        print(json.dumps({name: result[name]}, indent=1), flush=True)
    write_json(OUT, result)


if __name__ == "__main__":
    main()
