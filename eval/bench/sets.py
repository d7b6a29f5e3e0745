"""What `evenhand generate` makes of the embedded model, and how fast.

    python eval/bench/sets.py                 # all; 40 minutes on two quiet cores
    python eval/bench/sets.py --only merge

Prints and writes eval/results/bench-sets.json.

- `full`: the recipe `emoji-balanced`, 4,000 images in 40 cells: are all quotas full; the share of
  wrong labels that the judge's calibration predicts, against the share about which `emoji-witness`
  disagrees, a third classifier that neither filters nor trains; does the context tell the cell,
  before filling and after; what labels can be told by;
- `witness`: about what share of right labels `emoji-witness` would disagree by its own errors, as
  its calibration counts them: less than this, and `full` shows no wrong label;
- `rate`: images a second of `generate` over those of `measure`, same model, steps and batch, in
  turns, the median; from the first part to the last;
- `neutral`: neutral prompts alone, without and with the adapter `emoji-gender-tone`: how often an
  image is of the rarest cell, and whether the table fills;
- `merge`: seconds and peak memory of putting 100,000 rows of metadata together, in a process of its
  own.
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
from collections import Counter
from typing import Any

import numpy as np

from evenhand.core.files import write_json, write_text
from evenhand.core.records import Record, read, write_records
from evenhand.core.work import part_of
from evenhand.generate.drawn import Drawn, drawn_lines, packed
from evenhand.generate.fill import fill
from evenhand.generate.plan import plan
from evenhand.generate.report import SetReport, read_set
from evenhand.generate.sizes import WishedSize
from evenhand.generate.summary import summary
from evenhand.measure.rows import units_of
from evenhand.recipes.generate import load_generate
from evenhand.stats.shares import Estimate, wilson

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-sets.json"
ROWS = 100_000  # of metadata
ADAPTER = "adapters=[{name: emoji-gender-tone}]"


def made(folder: pathlib.Path, *words: str) -> SetReport:
    """The report of a set that the command line made."""
    from sharing import finish, start  # loads torch, which `merge` shall do without

    (code, text) = finish(start(folder, "generate", *words))[0]
    assert code == 0, text
    found = read_set(folder)
    assert found
    return found


def plain(found: Estimate | None) -> list[float | None] | None:
    return None if found is None else [found.value, found.low, found.high]


def witnessed(folder: pathlib.Path, names: list[str]) -> dict[str, Any]:
    """What a third classifier says of the labels of a set."""
    from evenhand.images.io import read_images
    from evenhand.images.tensors import in_batches
    from evenhand.judges.base import answers
    from evenhand.judges.registry import load_judge
    from evenhand.recipes.judge import find_judge

    judge = load_judge(find_judge("emoji-witness"), device="cpu")
    records = {str(folder / r.image): r for r in read(folder / "records.jsonl")}
    wrong: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    for paths, images in in_batches(read_images(records), 128):
        found = answers(judge, images)
        for i, path in enumerate(paths):
            label = records[path].perceived
            other = [
                name
                for name in names
                if judge.classes(name)[int(found.logits[name][i].argmax())] != label[name]
            ]
            wrong.update(other)
            if other:
                cells["/".join(label[name] for name in names)] += 1
    n = len(records)
    return {
        "disagrees": plain(wilson(cells.total(), n).rounded()),
        "about": {name: wrong[name] / n for name in names},
        "cells_with_most": dict(cells.most_common(4)),
    }


def full(place: pathlib.Path, per_cell: int) -> dict[str, Any]:
    """The whole set, and a third classifier's word on it."""
    started = time.perf_counter()
    report = made(place, "emoji-balanced", f"per_cell={per_cell}")
    seconds = time.perf_counter() - started
    expected = [x.before for x in report.noise or []]
    return {
        "images": report.images,
        "drawn": report.drawn,
        "minutes": round(seconds / 60, 1),
        "cells": len(report.places),
        "cells_full": sum(p.images == p.quota for p in report.places),
        "least_acceptance": min(p.acceptance.value or 0 for p in report.places),
        "rejected": report.rejected,
        "wrong_predicted": plain(report.wrong),
        "wrong_predicted_unfiltered": statistics.mean(x.value or 0 for x in expected),
        "calibration_does_not_hold_for": report.misfits,
        "witness": witnessed(place, ["gender", "tone"]),
        "chi_square_before_filling": vars(report.before_filling) if report.before_filling else None,
        "chi_square_after_filling": vars(report.after_filling) if report.after_filling else None,
        "told_by": {
            f"{x.label} by {x.told_by}": [x.accuracy.value, x.chance] for x in report.shortcuts
        },
        "digest": report.digest,
    }


def witness() -> dict[str, float]:
    """How often the third classifier disagrees with labels that are right, by attribute."""
    from evenhand.recipes.judge import find_judge
    from evenhand.stats.calibration import read_calibration

    path = find_judge("emoji-witness").beside("calibration.json")
    assert path
    table = read_calibration(path)
    shares = {}
    for name, classes in {"gender": ["woman", "man"], "tone": None}.items():
        confusion = table.attributes[name]
        wrong = [
            1 - confusion[true][true] / sum(confusion[true].values())
            for true in classes or confusion
        ]
        shares[name] = round(statistics.mean(wrong), 5)
    return shares


def rate(place: pathlib.Path, rounds: int) -> dict[str, Any]:
    """Images a second of generating over those of measuring."""
    from sharing import rate_of

    measure = ["measure", "emoji", "--prompts", "emoji-occupations", "--split", "test"]
    measure += ["--attributes", "gender,tone", "--explicit-images", "0", "--images", "56"]
    commands = {"measure": measure, "generate": ["generate", "emoji-balanced", "per_cell=8"]}
    rates: dict[str, list[float]] = {name: [] for name in commands}
    for i in range(rounds):
        for name, command in commands.items():
            rates[name].append(rate_of(place / f"{name}-{i}", 1, command))
        print({name: round(found[-1], 2) for name, found in rates.items()}, flush=True)
    ratios = [g / m for g, m in zip(rates["generate"], rates["measure"], strict=True)]
    return {
        "rounds": rounds,
        "of_measure": round(statistics.median(ratios), 3),
        "images_a_second": {k: round(statistics.median(v), 2) for k, v in rates.items()},
    }


def neutral(place: pathlib.Path, images: int) -> dict[str, Any]:
    """Acceptance of the rarest cell without and with an adapter; does the table fill with it."""
    counted = ["emoji-balanced-neutral", f"per_cell={images}", f"budget={images}"]
    found: dict[str, Any] = {}
    for name, more in (("without", []), ("with", [ADAPTER])):
        report = made(place / name, *counted, *more)
        rarest = min(report.places, key=lambda p: p.acceptance.value or 0)
        found[name] = {
            "rarest": "/".join(rarest.cell.values()),
            "acceptance": plain(rarest.acceptance),
            "by_cell": {"/".join(p.cell.values()): p.acceptance.value for p in report.places},
        }
    rarest = found["without"]["rarest"]
    before, after = (found[name]["by_cell"][rarest] for name in ("without", "with"))
    least = [min(found[name]["by_cell"].values()) for name in ("without", "with")]
    found["times_in_that_cell"] = round(after / before, 2) if before else None
    found["times_least_acceptance"] = round(least[1] / least[0], 2) if least[0] else None
    table = made(place / "table", "emoji-balanced-neutral", ADAPTER)
    found["table_with"] = {
        "images": table.images,
        "drawn": table.drawn,
        "full": not table.short,
    }
    return found


def write_rows(folder: pathlib.Path) -> None:
    """Parts of a set of 100,000 images, as if they had been drawn."""
    planned = plan(load_generate("emoji-balanced", [f"per_cell={ROWS // 40}"]))
    turns = [i % 40 for i in range(ROWS)]
    rows, _ = planned.rows(turns, {})
    chance = np.random.default_rng(0)
    classes = {name: attribute.classes for name, attribute in planned.judge.known.items()}
    for name, unit in units_of(rows, planned.config.batch, 0).items():
        drawn = []
        for prompt, seed in unit:
            probs = {
                a: {c: 0.96 if c == prompt.states[a] else 0.04 / (len(table) - 1) for c in table}
                for a, table in classes.items()
            }
            record = Record(prompt.text, prompt.concept, prompt.family, prompt.split, seed, "s@1",
                            f"images/{seed:016x}.png", probs, states=prompt.states)  # fmt: skip
            vector = packed(chance.standard_normal(192))
            drawn.append(Drawn(record, "", f"{seed % 2**48:012x}", 4000, 0.5, 0.1, vector))
        write_text(part_of(folder, name), drawn_lines(drawn))


def merge(folder: pathlib.Path) -> dict[str, Any]:
    """Puts the rows together, in this process."""
    started = time.perf_counter()
    planned = plan(load_generate("emoji-balanced", [f"per_cell={ROWS // 40}"]))
    sizes = [WishedSize(planned.quotas, planned.budget)]
    filled = fill(planned, sizes, folder, lambda rows, streams: "")
    found = summary(planned, sizes, filled, planned.settings)
    write_records(folder, [entry.drawn.record for entry in filled.ledger.taken])
    write_json(folder / "dataset.json", found.as_json())
    seconds = time.perf_counter() - started
    return {
        "rows": found.images,
        "seconds": round(seconds, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "torch_loaded": "torch" in sys.modules,
    }


def merged(place: pathlib.Path) -> dict[str, Any]:
    """`merge` in a process of its own."""
    write_rows(place)
    words = [sys.executable, __file__, "--merge", str(place)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("full", "witness", "rate", "neutral", "merge")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-cell", type=int, default=100, help="images of `full`")
    parser.add_argument("--neutral", type=int, default=1200, help="images that are compared")
    parser.add_argument("--merge", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.merge:
        print(json.dumps(merge(args.merge)))
        return
    from evenhand.training.run_directory import machine

    result = json.loads(OUT.read_text()) if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for name in args.only:
            result[name] = {
                "full": lambda: full(place / "full", args.per_cell),
                "witness": witness,
                "rate": lambda: rate(place / "rate", args.rounds),
                "neutral": lambda: neutral(place / "neutral", args.neutral),
                "merge": lambda: merged(place / "merge"),
            }[name]()
            print(name, json.dumps(result[name], indent=1), flush=True)
            write_json(OUT, {**result, **machine()})


if __name__ == "__main__":
    main()
