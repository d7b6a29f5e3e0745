"""How many images `measure --until` saves on the embedded model's occupations.

    python eval/bench/until.py                   # prints and writes eval/results/bench-until.json

The 20 occupations' names, attribute gender. The plan gives every prompt the images that a share of
one half would need for the same width; `--until` stops each prompt once its shares are known, with
intervals that still cover what they say (`eval/bench/coverage`). When it stops is chance: the
mean over several seeds counts. Truth is the world's skew table, up to what the model has learned of
it.
"""

import argparse
import pathlib

import yaml

from evenhand.cli.show import progress
from evenhand.core.files import write_json, write_text
from evenhand.emoji.world import load_world
from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.stats.stopping import LOOK, images_for
from evenhand.training.run_directory import machine

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-until.json"
RUNS = pathlib.Path("runs/eval/until")


def draw(prompts: pathlib.Path, width: float, seed: int) -> dict:
    """One run: images drawn and planned, the widest interval, images of each occupation."""
    config = Measure(
        model="emoji",
        prompts=[str(prompts)],
        attributes=["gender"],
        explicit_images=0,
        until=width,
        batch=32,
        seed=seed,
        images=-(-images_for(width) // LOOK) * LOOK,
    )
    with progress(f"until +- {width:g}, seed {seed}") as update:
        report = measure(config, RUNS / f"{width:g}-{seed}", progress=update)
    assert report.stopping
    return {
        **report.stopping.model_dump(mode="json"),
        "seed": seed,
        "images": {p.concept: p.images for p in report.attributes["gender"].prompts},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--widths", type=float, nargs="+", default=[0.1, 0.07])
    args = parser.parse_args()
    prompts = RUNS / "names.yaml"
    names = {
        "version": 1,
        "source": "world.yaml",
        "licence": "CC0-1.0",
        "family": "names",
        "templates": ["an emoji of {a} {concept}"],
        "concepts": {"all": list(load_world().occupations)},
    }
    write_text(prompts, yaml.safe_dump(names))
    rows = []
    for width in args.widths:
        runs = [draw(prompts, width, seed) for seed in args.seeds]
        planned, drawn = runs[0]["planned"], [run["drawn"] for run in runs]
        rows.append(
            {
                "width": width,
                "planned": planned,
                "saved": round(1 - sum(drawn) / len(drawn) / planned, 4),
                "runs": runs,
            }
        )
        print(
            f"+- {width:g}: {' / '.join(map(str, drawn))} of {planned} images, "
            f"{rows[-1]['saved']:.0%} saved in the mean; "
            f"widest interval +- {max(run['widest'] for run in runs):.3f}"
        )
    write_json(OUT, {"rows": rows, **machine()})


if __name__ == "__main__":
    main()
