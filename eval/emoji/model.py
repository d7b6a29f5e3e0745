"""Measures the embedded model against its own world and writes its card.

    python eval/emoji/model.py

Prints; writes eval/results/emoji-model.json and the model's card. Judged by `emoji-judge`, which
trains nothing. Explicit prompts: is the class said drawn? Neutral prompts: are the shares those of
the skew table? Prompts that leave a class open in words ("women and men : "): is it drawn evenly,
and as said where one is said after all? The runs in runs/eval/emoji-model are continued when they
were cut.
"""

import argparse
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evenhand.cli.show import progress
from evenhand.core.attributes import Attribute
from evenhand.core.files import write_json, write_text
from evenhand.core.prompts import load_prompts
from evenhand.core.records import Record, read_run
from evenhand.emoji.world import HERE, load_world
from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.reports.models import ExplicitReport, Report
from evenhand.reports.sheets import write_contact_sheet
from evenhand.reports.tally import by_prompt, counts
from evenhand.stats.floors import distance_floor
from evenhand.stats.shares import shares, wilson

OUT = pathlib.Path(__file__).parents[1] / "results" / "emoji-model.json"
ASKED = {"gender": 0.95, "tone": 0.90, "occupation": 0.97}
NEAR = {"gender": 0.06, "tone": 0.08}


def evaluate(records: list[Record]) -> dict:
    """Explicit fidelity per class, and the mean absolute difference from the skew table."""
    world, result = load_world(), {"explicit": {}, "neutral": {}}
    titles = by_prompt(r for r in records if not r.states)
    for a in ("gender", "tone"):
        result["explicit"][a] = as_said(records, a)
        attribute = Attribute(name=a, classes=world.classes[a])
        groups = {rows[0].concept: rows for rows in titles.values()}
        found = {title: shares(counts(rows, attribute)) for title, rows in groups.items()}
        differences = {
            title: float(np.abs(p - world.shares(title, a)).mean()) for title, p in found.items()
        }
        chance = {
            t: distance_floor(tuple(world.shares(t, a)), len(rows)) * 2 / len(found[t])
            for t, rows in groups.items()
        }
        kinds = {
            "names": [t for t in groups if t in world.occupations],
            "titles": [t for t in groups if t not in world.occupations],
        }
        result["neutral"][a] = {
            "kinds": {
                kind: {
                    "titles": len(members),
                    "images_each": min(len(groups[t]) for t in members),
                    "mean_absolute_difference": float(np.mean([differences[t] for t in members])),
                    "by_chance": float(np.mean([chance[t] for t in members])),
                }
                for kind, members in kinds.items()
            },
            "titles": {
                t: {
                    "table": world.shares(t, a),
                    "found": found[t].round(4).tolist(),
                    "difference": round(d, 4),
                }
                for t, d in differences.items()
            },
        }
    named = ((world.titles[r.concept], r.perceived.get("occupation")) for r in records)
    result["explicit"]["occupation"] = proportions((name, found == name) for name, found in named)
    return result


def proportions(found: Iterable[tuple[str, bool]]) -> dict:
    """How many are true: `all`, and of each class."""
    classes: dict[str, list[bool]] = defaultdict(list)
    for cls, right in found:
        classes[cls].append(right)
    found = ExplicitReport(
        all=wilson(sum(map(sum, classes.values())), sum(map(len, classes.values()))),
        classes={c: wilson(sum(v), len(v)) for c, v in classes.items()},
    )
    return found.model_dump(mode="json")


def as_said(records: list[Record], attribute: str) -> dict:
    """How many prompts that say a class of the attribute are drawn so."""
    return proportions(
        (r.states[attribute], r.perceived.get(attribute) == r.states[attribute])
        for r in records
        if attribute in r.states
    )


def draw(
    folder: pathlib.Path,
    titles: list[str],
    images: int,
    explicit: int,
    front: str = "",
    attributes: Sequence[str] = ("gender", "tone"),
) -> tuple[Report, list[Record]]:
    """Measures the model on titles of the world, with words in front of every prompt.

    The report and the records.
    """
    prompts = load_prompts("emoji-occupations")
    said = {
        a: {c: front + wording for c, wording in prompts.explicit[a].items()} for a in attributes
    }
    prompts = prompts.model_copy(
        update={
            "concepts": {"all": titles},
            "templates": [front + t for t in prompts.templates],
            "explicit": said,
        }
    )
    write_text(folder.with_suffix(".yaml"), yaml.safe_dump(prompts.model_dump()))
    config = Measure(
        model="emoji",
        prompts=[str(folder.with_suffix(".yaml"))],
        attributes=list(attributes),
        images=images,
        explicit_images=explicit,
        batch=32,
        seed=2024,
    )
    with progress(f"drawing {len(titles)} titles {front}") as update:
        report = measure(config, folder, progress=update)
    return report, read_run(folder)[1]


def left_open(folder: pathlib.Path, attribute: str, images: int, explicit: int) -> dict:
    """The mean gap where words leave the attribute open, and how many keep what they say."""
    report, records = draw(
        folder,
        list(load_world().occupations),
        images,
        explicit,
        load_world().captions["open"][attribute]["front"],
        [attribute],
    )
    found = report.attributes[attribute].splits["all"]
    return {
        **found.model_dump(mode="json", include={"prompts", "images", "gap", "gap_floor"}),
        "explicit": as_said(records, attribute),
    }


def card(result: dict) -> str:
    """The model's README.md."""
    environment = Environment(
        loader=FileSystemLoader(pathlib.Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template("model-card.md.j2").render(**result, world=load_world())


def tell(result: dict) -> None:
    """Prints each figure beside what was wanted of it."""
    for a, least in ASKED.items():
        entry = result["explicit"][a]
        worst = min(entry["classes"], key=lambda c, e=entry: e["classes"][c]["value"])
        print(
            f"{a} as asked: {entry['all']['value']:.3f} (wanted {least}), n {entry['all']['n']}; "
            f"worst {worst} {entry['classes'][worst]['value']:.3f}, n "
            f"{entry['classes'][worst]['n']}"
        )
    for a, most in NEAR.items():
        for kind, entry in result["neutral"][a]["kinds"].items():
            print(
                f"{a} from the skew table, {entry['titles']} {kind}: "
                f"{entry['mean_absolute_difference']:.3f} "
                f"(wanted at most {most}; {entry['by_chance']:.3f} by chance), n "
                f"{entry['images_each']} each"
            )
    for a, entry in result["left_open"].items():
        print(
            f"{a} left open in words: gap {entry['gap']['value']:.3f} ({entry['gap_floor']:.3f} "
            "by chance), "
            f"as asked all the same {entry['explicit']['all']['value']:.3f}, n "
            f"{entry['explicit']['all']['n']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200, help="of each occupation's name")
    parser.add_argument("--title-images", type=int, default=40, help="of each of its other titles")
    parser.add_argument(
        "--explicit",
        type=int,
        default=12,
        help="of each prompt that names an occupation and a class",
    )
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/eval/emoji-model"))
    parser.add_argument("--only-print", action="store_true", help="write nothing but the run")
    args = parser.parse_args()
    report, records = draw(
        args.runs / "names", list(load_world().occupations), args.images, args.explicit
    )
    records += draw(
        args.runs / "titles",
        [t for t in load_world().titles if t not in load_world().occupations],
        args.title_images,
        1,
    )[1]
    run = report.run
    result = {
        "images": len(records),
        "settings": run.settings["settings"],
        "judge": run.settings["judge"],
        "versions": run.versions,
        **evaluate(records),
        "left_open": {
            a: left_open(args.runs / f"{a}-left-open", a, args.images // 2, args.explicit // 3)
            for a in NEAR
        },
    }
    tell(result)
    if not args.only_print:
        rows = by_prompt(
            r for r in records if not r.states and r.concept in load_world().occupations
        )
        write_json(OUT, result)
        write_text(HERE / "model" / "README.md", card(result))
        write_contact_sheet(
            HERE / "model" / "contact-sheet.jpg",
            [
                (group[0].concept, [args.runs / "names" / r.image for r in group[:12]])
                for group in rows.values()
            ],
        )


if __name__ == "__main__":
    main()
