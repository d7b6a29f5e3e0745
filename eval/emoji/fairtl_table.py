"""The table of the benchmark of transfer: every arm, means over seeds, differences of arms."""

import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from evenhand.core.files import write_json
from evenhand.reports.comparison import compare
from evenhand.stats.groups import over_seeds
from evenhand.stats.shares import Estimate
from evenhand.training.run_directory import versions

SPLITS = ("trained", "held_out")
PLUS = "-plus"  # in the name of an arm that is held against the one without it


def write_table(
    names: Iterable[str],
    described: Callable[[str], dict[str, Any]],
    runs: pathlib.Path,
    out: pathlib.Path,
) -> None:
    """Prints what is done, and writes the results.

    Args:
        names: of all arms.
        described: what the results say of an arm.
        runs: where the folder of each arm is.
        out: the file of results.
    """
    rows = {}
    for name in names:
        path = runs / name / "result.json"
        if path.is_file():
            images = path.with_name("images.json")
            looked = json.loads(images.read_text(encoding="utf-8")) if images.is_file() else {}
            found = json.loads(path.read_text(encoding="utf-8"))
            rows[name] = {**found, **described(name), "images": looked}
            rounds = sorted((runs / name / "training").glob("round-*/critic.json"))
            if rounds:
                told = [json.loads(x.read_text(encoding="utf-8")) for x in rounds]
                rows[name]["critic_held_out_loss"] = [x["held_out_loss"] for x in told]
    print(
        f"{'arm':22} {'gap t/h':>10} {'less chance t/h':>32} {'majority':>10} {'expl':>5} "
        f"{'occ':>5} {'closer':>7} {'CPU s':>6}"
    )
    for name, row in rows.items():
        _tell(name, row)
    means, less = _means(rows), _differences(rows, runs)
    for title, table in (("mean over seeds", means), ("less", less)):
        for name, found in table.items():
            print(f"{title}: {name}", {key: _shown(x) for key, x in found.items()})
    values = {"versions": versions(), "arms": rows, "means": means, "less": less}
    write_json(out, values)


def _tell(name: str, row: dict[str, Any]) -> None:
    t, h = row["trained"], row["held_out"]
    gaps = " ".join("{:.2f} [{:.2f},{:.2f}]".format(*x["gap"]) for x in (t, h))
    closer = row["images"].get("closer", [None])[0]
    print(
        f"{name:22} {t['gap_found']:.2f}/{h['gap_found']:.2f} {gaps:>32} "
        f"{t['majority']:.2f}/{h['majority']:.2f} {row['explicit'][0]:.2f} "
        f"{h['occupation'][0]:.2f} {closer if closer is None else round(closer, 2)!s:>7} "
        f"{row['seconds']:6.0f}"
    )


def _shown(x: list[float | None]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*x)


def _means(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Of arms that were trained with seeds 1, 2 and 3: means with intervals for other seeds.

    What is as found has no interval of its own, so that the interval is of the seeds alone; the
    gap without chance has one for other names too.
    """
    means = {}
    for name in rows:
        stem = name.removesuffix("-1")
        seeds = [rows[f"{stem}-{s}"] for s in (1, 2, 3) if f"{stem}-{s}" in rows]
        if stem == name or len(seeds) < 3:
            continue
        found = {}
        for split in SPLITS:
            plain = [[row[split]["gap_found"]] * 3 for row in seeds]
            for key, of in (
                ("gap_found", plain),
                ("gap", [row[split]["gap"] for row in seeds]),
                ("majority", [[row[split]["majority"]] * 3 for row in seeds]),
                ("occupation", [row[split]["occupation"] for row in seeds]),
            ):
                found[f"{split}: {key}"] = _mean(of)
        found["explicit"] = _mean([row["explicit"] for row in seeds])
        if all("closer" in row["images"] for row in seeds):
            found["closer"] = _mean([row["images"]["closer"] for row in seeds])
        means[stem] = found
    return means


def _mean(values: list[list[float]], least: float = 0.0) -> list[float]:
    x, low, high = zip(*values, strict=True)
    return _plain(over_seeds(x, low, high, n=len(values), within=(least, 1.0)))


def _differences(
    rows: dict[str, dict[str, Any]], runs: pathlib.Path
) -> dict[str, dict[str, list[float]]]:
    """Gap of an arm less that of another, of images of the same prompts and seeds.

    And where both were trained with seeds 1, 2 and 3, the mean with an interval for other seeds.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for one in rows:
        other = one.replace(PLUS, "")
        if other != one and other in rows:
            both = compare(runs / other / "measure", runs / one / "measure")
            changes = both.change.attributes["gender"].splits
            found[f"{one} less {other}"] = {s: _plain(changes[s].gap) for s in SPLITS}
    for stem in [name.removesuffix("-1") for name in rows if PLUS in name and name.endswith("-1")]:
        pairs = [f"{stem}-{s} less {stem.replace(PLUS, '')}-{s}" for s in (1, 2, 3)]
        if found.keys() >= set(pairs):
            each = [found[pair] for pair in pairs]
            mean = {split: _mean([one[split] for one in each], -1.0) for split in SPLITS}
            found[f"{stem} less {stem.replace(PLUS, '')}, mean over seeds"] = mean
    return found


def _plain(x: Estimate) -> list[float]:
    return [round(float(y), 4) for y in (x.value, x.low, x.high)]
