"""Trains an adapter of the embedded model, measures it on held-out occupations, and verifies it.

    python eval/emoji/adapter.py emoji-gender
    python eval/emoji/adapter.py emoji-gender-tone --images 300
    python eval/emoji/adapter.py emoji-gender --only-measure    # the adapter that ships, as it is
    python eval/emoji/adapter.py --only-verify                  # all that ship, as they are

Writes adapters/NAME/ and eval/results/NAME.json. The recipe is train/dft/NAME.yaml; that of
`emoji-gender-fairtl` is train/fairtl/emoji.yaml, on 1,000 drawings. Runs in runs/eval/NAME are
continued when they were cut. The numbers are those of the adapter's file, loaded
by the stock pipeline and judged by `emoji-judge`, which trained nothing. `evenhand verify` measures
them a second time, from fresh seeds: these are the ones that the card and the result show. The exit
code is 1 where one of them does not agree with the first. `--only-sweep` draws the sweep alone;
further options are those of `evenhand sweep`.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

from fairtl_sets import reference

from evenhand.cli.show import progress
from evenhand.cli.train import run as train
from evenhand.core.adapters import find_adapter, shipped_adapters
from evenhand.core.files import write_json
from evenhand.core.records import read_run
from evenhand.core.resources import ROOT
from evenhand.core.schema import read_json
from evenhand.measure import measure
from evenhand.recipes.dft import Dft, load_recipe
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.measure import Measure
from evenhand.recipes.methods import load_training
from evenhand.reports.card import write_card
from evenhand.reports.changes import Comparison
from evenhand.reports.html import write_comparison
from evenhand.reports.sheets import write_contact_sheet
from evenhand.reports.tally import by_prompt

RESULTS = ROOT / "eval" / "results"
TRANSFER = "emoji-gender-fairtl"  # the adapter that was trained on a reference set


def recipe_name(name: str) -> str:
    """The recipe of an adapter."""
    return "fairtl/emoji" if name == TRANSFER else f"dft/{name}"


def recipe_of(name: str) -> Dft | FairTl:
    """The recipe of an adapter, with the reference set that its training takes."""
    if name != TRANSFER:
        return load_recipe(recipe_name(name))
    images = reference(pathlib.Path("runs/eval") / name, 1000, 1)
    recipe = load_training(recipe_name(name), [f"images.path={images}", "seed=1"])
    assert isinstance(recipe, FairTl)
    return recipe


def sweep(name: str, *options: str) -> None:
    """Runs `evenhand sweep`, which puts what it finds into adapter.json and the card."""
    out = pathlib.Path("runs/eval") / name / "sweep"
    command = [sys.executable, "-m", "evenhand", "sweep", name, "--out", str(out), *options]
    subprocess.run(command, check=True)


def verify(name: str) -> bool:
    """Runs `evenhand verify` on an adapter that ships; its fresh numbers become the result."""
    folder = ROOT / "adapters" / name
    more = [] if (folder / "references.json").exists() else ["--write-references"]
    done = subprocess.run([sys.executable, "-m", "evenhand", "verify", name, *more])
    if done.returncode == 0:
        write_result(name)
    return done.returncode == 0


def write_result(name: str) -> None:
    """Writes eval/results/NAME.json: the recipe, and the report in the adapter's folder."""
    recipe = recipe_of(name).model_dump(mode="json")
    found = read_json(ROOT / "adapters" / name / "report.json", what="a report")
    write_json(RESULTS / f"{name}.json", {"recipe": recipe, **found})


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


def measured(
    recipe: Dft | FairTl, name: str, images: int, explicit: int, runs: pathlib.Path
) -> Comparison:
    """The model without and with the adapter on held-out prompts."""
    prompts, wished = recipe.prompts if isinstance(recipe, Dft) else recipe.held_out, recipe.target
    assert prompts is not None
    config = Measure(
        model=recipe.model,
        prompts=[prompts] if isinstance(prompts, str) else list(prompts),
        splits=["test"],
        attributes=wished.attributes,
        joint=len(wished.attributes) > 1,
        target=wished.shares,
        images=images,
        explicit_images=explicit,
        batch=32,
        seed=2024,
    )
    for label, adapter in (("before", None), ("after", name)):
        with progress(label) as update:
            measure(config.model_copy(update={"adapter": adapter}), runs / label, progress=update)
    return write_comparison(runs / "before", runs / "after", runs)


def trained(recipe: Dft | FairTl, name: str, runs: pathlib.Path) -> None:
    """Trains the recipe, and puts the adapter where the others are that ship."""
    started, folder = time.monotonic(), ROOT / "adapters" / name
    adapter = train(recipe, runs / "training", recipe_name(name))
    minutes = (time.monotonic() - started) / 60
    print(f"training took {minutes:.1f} minutes (nothing when the run was finished before)")
    folder.mkdir(parents=True, exist_ok=True)
    for file in (find_adapter(adapter).weights.name, "adapter.json", "references.json"):
        shutil.copy(adapter / file, folder / file)
    shutil.copytree(adapter / "references", folder / "references", dirs_exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="of adapters; all that ship when none is given")
    parser.add_argument("--images", type=int, help="of each held-out prompt; 100, in a sweep 24")
    parser.add_argument("--explicit", type=int, help="of each that says a class; 16, in a sweep 8")
    parser.add_argument(
        "--only-measure", action="store_true", help="train nothing: measure the adapter that ships"
    )
    parser.add_argument(
        "--only-verify", action="store_true", help="measure nothing but what the verification does"
    )
    parser.add_argument(
        "--only-sweep", action="store_true", help="sweep the adapter that ships, write its card"
    )
    args, of_sweep = parser.parse_known_args()
    if args.only_sweep:
        given = {"--images": args.images, "--explicit": args.explicit}
        of_sweep += [x for k, n in given.items() if n is not None for x in (k, str(n))]
    failed = []
    for name in args.names or shipped_adapters():
        recipe, runs = recipe_of(name), pathlib.Path("runs/eval") / name
        folder = ROOT / "adapters" / name
        if args.only_sweep:
            sweep(name, *of_sweep)
            continue
        if not (args.only_measure or args.only_verify):
            trained(recipe, name, runs)
        if not args.only_verify:
            write_card(
                folder, measured(recipe, name, args.images or 100, args.explicit or 16, runs)
            )
            picture(runs, folder)
            sweep(name, *of_sweep)
        if not verify(name):
            failed.append(name)
    sys.exit(f"not verified: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
