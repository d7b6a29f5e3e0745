"""How fast measuring is, reading a folder of JPEGs, and a report of many records.

    python eval/bench/throughput.py

Prints and writes eval/results/bench-throughput.json.

- `measure`: images a second of `evenhand measure` on the embedded model (sampling, judging, PNG
  files, the journal) over those of a loop that calls the stock pipeline with the same batches and
  drops the images; rounds are interleaved, medians of them;
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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

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
    measure(
        config, pathlib.Path(folder) / "run", progress=lambda *_: marks.append(time.perf_counter())
    )
    return marks


def drawing(rounds: int, images: int, batch: int) -> dict:
    """Rates of measuring and of a bare loop."""
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
    rows = planned.rows
    model = load_model("emoji")
    diffusion = load_diffusion(model)
    pipe, call = diffusion.pipe, model.settings.call()

    def bare() -> None:
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            generators = [torch.Generator().manual_seed(seed) for _, seed in part]
            pipe([p.text for p, _ in part], generator=generators, **call)

    pipe.set_progress_bar_config(disable=True)
    times: dict[str, list[float]] = {"bare": [], "measure": []}
    bare()
    for _ in range(rounds):
        times["bare"].append(seconds(bare))
        with tempfile.TemporaryDirectory() as folder:
            marks = measured(config, folder)
        times["measure"].append(
            (marks[-1] - marks[0]) * len(rows) / (len(rows) - batch)
        )  # loading the models is before the first
        print(f"  round: bare {times['bare'][-1]:.1f} s, measure {times['measure'][-1]:.1f} s")
    ratio = statistics.median(b / m for b, m in zip(times["bare"], times["measure"], strict=True))
    return {
        "images": len(rows),
        "batch": batch,
        "rounds": rounds,
        "rate_of_the_bare_loop": round(ratio, 3),
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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=40, help="of each of the six held-out prompts, a round"
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=100_000)
    args = parser.parse_args()
    result = {
        "report": report(args.records),
        "folder": folder(args.files),
        "measure": drawing(args.rounds, args.images, 16),
    }
    print(json.dumps(result, indent=1))
    write_json(OUT, {**result, **machine()})


if __name__ == "__main__":
    main()
