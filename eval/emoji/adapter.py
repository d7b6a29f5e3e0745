"""Trains an adapter of the embedded model, measures it on held-out occupations, writes its card.

    python eval/emoji/adapter.py emoji-gender
    python eval/emoji/adapter.py emoji-gender-tone --images 300
    python eval/emoji/adapter.py emoji-gender --only-measure    # the adapter that ships, as it is
    python eval/emoji/adapter.py emoji-gender --only-sweep --strength .5,1 --guidance 1,2,4

Writes adapters/NAME/ and eval/results/NAME.json. The recipe is train/dft/NAME.yaml. Runs in
runs/eval/NAME are continued when they were cut. The numbers are those of the adapter's file, loaded
by the stock pipeline and judged by `emoji-judge`, which trained nothing. `--only-sweep` draws the
sweep alone: the card's other numbers are those of eval/results/NAME.json. Further options are those
of `evenhand sweep`.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

from evenhand.cli.show import console, progress, summary
from evenhand.cli.train import run as train
from evenhand.core.adapters import find_adapter
from evenhand.core.files import write_json
from evenhand.core.records import read_run
from evenhand.core.resources import ROOT
from evenhand.core.schema import check, read_json
from evenhand.measure import measure
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.measure import Measure
from evenhand.reports.card import write_card
from evenhand.reports.changes import Comparison
from evenhand.reports.html import write_comparison
from evenhand.reports.sheets import write_contact_sheet
from evenhand.reports.tally import by_prompt

RESULTS = ROOT / "eval" / "results"


def sweep(name: str, *options: str) -> None:
    """Runs `evenhand sweep`, which puts what it finds into adapter.json."""
    out = pathlib.Path("runs/eval") / name / "sweep"
    command = [sys.executable, "-m", "evenhand", "sweep", name, "--out", str(out), *options]
    subprocess.run(command, check=True)


def picture(runs: pathlib.Path, folder: pathlib.Path) -> None:
    """The first ten images of each held-out occupation, before over after, the same seeds."""
    tables = {
        label: by_prompt(r for r in read_run(runs / label)[1] if not r.states)
        for label in ("before", "after")
    }
    rows = []
    for prompt, records in tables["before"].items():
        rows += [
            (
                f"{records[0].concept}, {label}" if label == "before" else "after",
                [runs / label / r.image for r in table[prompt][:10]],
            )
            for label, table in tables.items()
        ]
        rows.append(("", []))
    write_contact_sheet(folder / "before-after.jpg", rows[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--images", type=int, default=100, help="of each held-out prompt")
    parser.add_argument(
        "--explicit", type=int, default=16, help="of each held-out prompt that says a class"
    )
    parser.add_argument(
        "--only-measure", action="store_true", help="train nothing: measure the adapter that ships"
    )
    parser.add_argument(
        "--only-sweep", action="store_true", help="sweep the adapter that ships, write its card"
    )
    args, of_sweep = parser.parse_known_args()
    recipe, runs, folder = (
        load_recipe(f"dft/{args.name}"),
        pathlib.Path("runs/eval") / args.name,
        ROOT / "adapters" / args.name,
    )
    if args.only_sweep:
        sweep(args.name, *of_sweep)
        found = read_json(RESULTS / f"{args.name}.json", what="a result")
        found.pop("recipe")
        write_card(folder, check(Comparison, found, where=args.name))
        return
    if not args.only_measure:
        started = time.monotonic()
        trained = train(recipe, runs / "training", f"dft/{args.name}")
        print(
            f"training took {(time.monotonic() - started) / 60:.1f} minutes (nothing when the "
            "run was finished before)"
        )
        folder.mkdir(parents=True, exist_ok=True)
        for file in (find_adapter(trained).weights.name, "adapter.json"):
            shutil.copy(trained / file, folder / file)
    prompts, wished = recipe.prompts, recipe.target
    config = Measure(
        model=recipe.model,
        prompts=[prompts] if isinstance(prompts, str) else list(prompts),
        splits=["test"],
        attributes=wished.attributes,
        joint=len(wished.attributes) > 1,
        target=wished.shares,
        images=args.images,
        explicit_images=args.explicit,
        batch=32,
        seed=2024,
    )
    for label, adapter in (("before", None), ("after", args.name)):
        with progress(label) as update:
            measure(config.model_copy(update={"adapter": adapter}), runs / label, progress=update)
    result = write_comparison(runs / "before", runs / "after", runs)
    sweep(args.name, *of_sweep)
    write_card(folder, result)
    picture(runs, folder)
    write_json(
        RESULTS / f"{args.name}.json",
        {"recipe": recipe.model_dump(mode="json"), **result.as_json()},
    )
    console.print(summary([result.before, result.after], result.change))
    print(f"adapter: {folder}")


if __name__ == "__main__":
    main()
