"""Transfer to a reference set on the embedded model, beside its peers: the benchmark's table.

    python eval/emoji/fairtl.py                    # all arms that are not done yet, then the table
    python eval/emoji/fairtl.py --only encoder-1000-1 --only source
    python eval/emoji/fairtl.py --table            # what is done, without running anything

Writes eval/results/emoji-fairtl.json. Reference sets are drawings of 14 occupations' names with
captions that leave the gender open, women and men alike within each title; the six held-out
occupations are in none. `emoji-judge`, which trained nothing, perceives 40 or 24 images of each of
six trained and six held-out names, and 4 of each prompt that says a gender, at guidance 1. Runs in
runs/eval/fairtl are continued when they were cut. How the schedule was set: eval/README.md.
"""

import argparse
import json
import pathlib
import time
from typing import Any

from fairtl_arms import Arm, arms
from fairtl_sets import HELD_OUT, JUDGED, Looking, prompts, reference, scene, write_set
from fairtl_table import write_table

from evenhand.adapt import train
from evenhand.core.files import write_json
from evenhand.core.locks import exclusive
from evenhand.core.records import read_run
from evenhand.core.resources import ROOT
from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.recipes.methods import load_training

OUT = ROOT / "eval" / "results" / "emoji-fairtl.json"
RUNS = pathlib.Path("runs/eval/fairtl")
IMAGES, EXPLICIT = 24, 4  # of a prompt
MORE = 40  # of the arms `encoder-1000`


def sets_of(arm: Arm) -> tuple[pathlib.Path | None, pathlib.Path | None]:
    """The folders of an arm's reference set, and of the same scenes drawn again."""
    if not arm.images or arm.recipe != "fairtl/emoji":
        return None, None
    here = reference(RUNS / "sets", arm.images, arm.seed, skewed=arm.skewed)
    again = scene(arm.images, arm.seed, skewed=arm.skewed)
    return here, write_set(here.with_name(f"{here.name}-twin"), again, 1000 + arm.seed)


def trained(name: str, arm: Arm) -> tuple[pathlib.Path, float]:
    """Trains an arm, once; returns its adapter or model, and the processor's seconds."""
    folder, done = RUNS / name / "training", RUNS / name / "trained.json"
    if done.is_file():
        found = json.loads(done.read_text(encoding="utf-8"))
        return folder / found["place"], found["seconds"]
    changes = [f"seed={arm.seed}", *arm.changes]
    if arm.images and arm.recipe == "fairtl/emoji":
        changes = [f"images.path={sets_of(arm)[0]}", *changes]
    biased = reference(RUNS / "sets", 1000, 77, skewed=True) if "importance" in name else None
    changes = [x.replace("BIASED", str(biased)) for x in changes]
    if arm.start:
        changes.append(f"lora.start={trained(arm.start, arms()[arm.start])[0]}")
    recipe = load_training(arm.recipe, changes)
    started = time.process_time()
    place = train(recipe, folder, name=arm.recipe, progress=lambda *_: None)
    seconds = time.process_time() - started
    write_json(done, {"place": place.name, "seconds": round(seconds, 1)})
    return place, seconds


def images_of(name: str) -> int:
    """Neutral images of a prompt by which an arm is judged."""
    return MORE if name.startswith("encoder-1000") else IMAGES


def explicit_of(name: str) -> int:
    """Images of each prompt that says a gender; more of the source, which mixes them."""
    return EXPLICIT if name in arms() else 12


def judged(name: str, place: pathlib.Path | None) -> dict[str, Any]:
    """Gap, shares, explicit prompts and occupations of the source or an adapted model."""
    model = str(place.with_suffix(".yaml")) if place and place.name == "model" else "emoji"
    config = Measure(
        model=model,
        adapter=str(place) if place and place.name == "adapter" else None,
        prompts=[prompts(RUNS, {"trained": JUDGED, "held_out": HELD_OUT})],
        judge="emoji-judge",
        attributes=["gender"],
        target={"gender": {"woman": 0.5, "man": 0.5}},
        images=images_of(name),
        explicit_images=explicit_of(name),
        batch=24,
        seed=2027,
    )
    report = measure(config, RUNS / name / "measure")
    found = report.attributes["gender"]
    assert found.explicit is not None
    out: dict[str, Any] = {"explicit": plain_of(found.explicit.all)}
    for split in ("trained", "held_out"):
        x = found.splits[split]
        out[split] = {
            "gap_found": x.gap_found,
            "gap_floor": x.gap_floor,
            "gap": plain_of(x.gap),
            "discrepancy": plain_of(x.discrepancy),
            "majority": majority(report, split),
            "occupation": plain_of(report.concept_fidelity[split]),
        }
    return out


def plain_of(x: Any) -> list[float | None] | None:
    """Value and interval of a report's number."""
    return x and [None if y is None else round(float(y), 4) for y in (x.value, x.low, x.high)]


def majority(report: Any, split: str) -> float:
    """Mean share, among women and men, of the class that the source draws more often of a name."""
    from evenhand.emoji.world import load_world

    shares = []
    for prompt in report.attributes["gender"].prompts:
        if prompt.split == split:
            table = load_world().shares(prompt.concept, "gender")
            first = "woman" if table[0] > table[1] else "man"
            found = {c: prompt.shares[c].value or 0.0 for c in ("woman", "man")}
            shares.append(found[first] / max(sum(found.values()), 1e-9))
    return round(sum(shares) / len(shares), 4)


def mixed() -> dict[str, Any]:
    """The peer that puts a class word, drawn from the target, in front: of the source's images."""
    records = [r for r in read_run(RUNS / "source" / "measure")[1] if r.states]
    out = {}
    for split in ("trained", "held_out"):
        gaps = []
        for concept in JUDGED if split == "trained" else HELD_OUT:
            mine = [r for r in records if r.concept == concept]
            called = [max(r.probs["gender"], key=r.probs["gender"].__getitem__) for r in mine]
            women, men = called.count("woman"), called.count("man")
            gaps.append(abs(women - men) / (women + men))
        out[split] = {"gap_found": round(sum(gaps) / len(gaps), 4)}
    return out


def described(name: str) -> dict[str, Any]:
    """What a row of the results says of its arm."""
    arm = arms().get(name)
    said = {"reference_images": arm.images, "changes": arm.changes} if arm else {}
    return {"images_of_a_prompt": images_of(name), "of_an_explicit_one": explicit_of(name), **said}


def run(name: str, looking: list[Looking] | None) -> None:
    """Trains and judges an arm, once, and then, unless `looking` is None, looks at its images."""
    path, images = RUNS / name / "result.json", RUNS / name / "images.json"
    with exclusive(RUNS / name, "benchmark"):
        arm = arms().get(name)
        if not path.is_file():
            place, seconds = trained(name, arm) if arm else (None, 0.0)
            found = {**judged(name, place), "seconds": round(seconds, 1)}
            if arm is None:
                found["mixed"] = mixed()
            write_json(path, found)
        if looking is not None and not images.is_file():
            if not looking:
                looking.append(Looking())
            sets = sets_of(arm) if arm else (None, None)
            write_json(images, looking[0].measured(RUNS / name / "measure", *sets))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], help="an arm, or source")
    parser.add_argument("--only-judge", action="store_true", help="no measures of image sets")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    looking: list[Looking] = []
    if not args.table:
        for name in args.only or [*list(arms())[:4], "source", *list(arms())[4:]]:
            run(name, None if args.only_judge else looking)
            print(f"done: {name}", flush=True)
    write_table(["source", *arms()], described, RUNS, OUT)


if __name__ == "__main__":
    main()
