"""Measures the embedded model against its own world and writes its card.

    python eval/emoji/model.py                   # prints; writes eval/results/emoji-model.json and the model's card

Judged by `emoji-judge`, which trains nothing. Explicit prompts: is the class said drawn? Neutral prompts: are the shares
those of the skew table? The run in runs/eval/emoji-model is continued when it was cut.
"""

import argparse
import pathlib
from collections import defaultdict

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evenhand.attributes import Attribute
from evenhand.cli.show import progress
from evenhand.config import Measure
from evenhand.emoji.world import HERE, load_world
from evenhand.files import write_json, write_text
from evenhand.measure import measure
from evenhand.records import Record
from evenhand.report import by_prompt, counts, read_run
from evenhand.sheets import write_contact_sheet
from evenhand.statistics import shares, wilson

OUT = pathlib.Path(__file__).parents[1] / "results" / "emoji-model.json"
ASKED = {"gender": 0.95, "tone": 0.90, "occupation": 0.97}
NEAR = {"gender": 0.06, "tone": 0.08}


def evaluate(records: list[Record]) -> dict:
    """Explicit fidelity per class, and the mean absolute difference from the skew table."""
    world, result = load_world(), {"explicit": {}, "neutral": {}}
    for a in ("gender", "tone"):
        said: dict[str, list[bool]] = defaultdict(list)
        for r in records:
            if a in r.states:
                said[r.states[a]].append(r.perceived.get(a) == r.states[a])
        result["explicit"][a] = {"all": wilson(sum(map(sum, said.values())), sum(map(len, said.values()))).as_dict(),
                                 "classes": {c: wilson(sum(v), len(v)).as_dict() for c, v in said.items()}}
        attribute = Attribute(name=a, classes=world.classes[a])
        groups = {rows[0].concept: rows for rows in by_prompt(r for r in records if not r.states).values()}
        found = {o: shares(counts(rows, attribute)) for o, rows in groups.items()}
        differences = {o: float(np.abs(p - world.shares(o, a)).mean()) for o, p in found.items()}
        result["neutral"][a] = {"mean_absolute_difference": float(np.mean(list(differences.values()))),
                                "images_an_occupation": min(map(len, groups.values())),
                                "occupations": {o: {"table": world.shares(o, a), "found": found[o].round(4).tolist(),
                                                    "difference": round(d, 4)} for o, d in differences.items()}}
    named: dict[str, list[bool]] = defaultdict(list)
    for r in records:
        named[r.concept].append(r.perceived.get("occupation") == r.concept)
    result["explicit"]["occupation"] = {"all": wilson(sum(map(sum, named.values())), len(records)).as_dict(),
                                        "classes": {c: wilson(sum(v), len(v)).as_dict() for c, v in named.items()}}
    return result


def card(result: dict) -> str:
    """The model's README.md."""
    environment = Environment(loader=FileSystemLoader(pathlib.Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
                              keep_trailing_newline=True, autoescape=False)
    return environment.get_template("model-card.md.j2").render(**result, world=load_world())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="of each neutral prompt")
    parser.add_argument("--explicit", type=int, default=12, help="of each prompt that says a class")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/eval/emoji-model"))
    parser.add_argument("--only-print", action="store_true", help="write nothing but the run")
    args = parser.parse_args()
    config = Measure(model="emoji", prompts=["emoji-occupations"], attributes=["gender", "tone"], images=args.images,
                     explicit_images=args.explicit, batch=32, seed=2024)
    with progress("drawing") as update:
        measure(config, args.runs, progress=update)
    run, records = read_run(args.runs)
    result = {"images": len(records), "settings": run["settings"]["settings"], "judge": run["settings"]["judge"],
              "versions": run["versions"], **evaluate(records)}
    for a, least in ASKED.items():
        entry = result["explicit"][a]
        worst = min(entry["classes"], key=lambda c, e=entry: e["classes"][c]["value"])
        print(f"{a} as asked: {entry['all']['value']:.3f} (wanted {least}), n {entry['all']['n']}; "
              f"worst {worst} {entry['classes'][worst]['value']:.3f}, n {entry['classes'][worst]['n']}")
    for a, most in NEAR.items():
        entry = result["neutral"][a]
        print(f"{a} from the skew table: {entry['mean_absolute_difference']:.3f} (wanted at most {most}), "
              f"n {entry['images_an_occupation']} an occupation")
    if not args.only_print:
        neutral = by_prompt(r for r in records if not r.states)
        write_json(OUT, result)
        write_text(HERE / "model" / "README.md", card(result))
        write_contact_sheet(HERE / "model" / "contact-sheet.jpg",
                            [(rows[0].concept, [args.runs / r.image for r in rows[:12]]) for rows in neutral.values()])


if __name__ == "__main__":
    main()
