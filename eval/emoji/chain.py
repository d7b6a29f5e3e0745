r"""The whole chain on the embedded world, by every route, over several seeds.

    python eval/emoji/chain.py
    python eval/emoji/chain.py --seeds 1 2 3 --table       the table again, nothing is run

Each seed is the chain `train/chains/emoji.yaml` (runs/eval/chain/seed-N), in which trainings, sets,
real images and classifiers have that seed, and every arm has three classifiers. The measurements
are of six occupations that no training sees, at the same seeds in all chains. Prints for each route
and seed: gap before, after and change, images accepted, wrong labels expected, worst group of the
classifiers, less that of those without drawn images, minutes; then the means over the seeds, whose
intervals are of Student's t: for other seeds of everything. Writes eval/results/emoji-chain.json; a
run that was cut goes on.
"""

import argparse
import math
import pathlib
import statistics
from typing import Any

from scipy import stats

from evenhand.chain import chain
from evenhand.chain.models import ChainReport, read_chain
from evenhand.cli.chain import tell
from evenhand.cli.show import progress
from evenhand.core.files import write_json
from evenhand.core.resources import ROOT, find_yaml
from evenhand.core.schema import check, read_yaml
from evenhand.recipes.chain import Chain
from evenhand.stats.shares import Estimate

OUT = ROOT / "eval" / "results" / "emoji-chain.json"
SEEDS = [1, 2, 3]
OF_AN_ARM = 3  # classifiers
Range = tuple[float, float]
RANGES: dict[str, Range] = {  # of numbers that are no shares
    "gap_change": (-1, 1),
    "worst_less_without": (-1, 1),
    "minutes": (0, math.inf),
}


def chain_of(seed: int) -> Chain:
    """The chain that ships, all its draws but those of the measurements of this seed."""
    values = read_yaml(find_yaml("train/chains", "emoji"))
    values["data"]["seed"] = seed
    for stage in values["stages"].values():
        changes = [f"seed={seed}"] if "measure" not in stage else []
        if "classify" in stage:
            changes = [f"seeds={OF_AN_ARM}", f"seed={OF_AN_ARM * seed}"]
        stage["set"] = [*stage.get("set", []), *changes]
    return check(Chain, values, where=f"emoji, seed {seed}")


def rows_of(report: ChainReport) -> dict[str, dict[str, Any]]:
    """The numbers of each route, and of the classifiers without drawn images."""
    found: dict[str, dict[str, Any]] = {}
    for route in report.routes:
        gap, made = route.gap, route.set
        found[route.name] = {
            "gap_before": gap and gap.before,
            "gap_after": gap and gap.found,
            "gap_change": gap and gap.change,
            "accepted": made and made.accepted,
            "wrong": made and made.wrong,
            "images": made and made.images,
            "wished": made and made.wished,
            "worst": {arm.name: arm.worst for arm in route.arms},
            "worst_less_without": {arm.name: arm.worst_change for arm in route.arms},
            "minutes": round(route.seconds / 60, 1),
        }
    for table in report.classifiers:
        found["without"] = {"worst": {a.name: a.worst for a in table.arms if not a.set}}
    return found


def mean(values: list[float], within: Range) -> Estimate:
    """The mean over seeds, with Student's interval, cut at what is possible."""
    n = len(values)
    if n < 2:
        return Estimate(values[0], None, None, n)
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(values) / math.sqrt(n)
    centre = statistics.mean(values)
    return Estimate(
        centre, max(centre - half, within[0]), min(centre + half, within[1]), n
    ).rounded()


def means_of(rows: list[dict[str, Any]], within: Range = (0, 1)) -> dict[str, Any]:
    """The mean of every number that all seeds have, group by group."""
    found: dict[str, Any] = {}
    for key, first in rows[0].items():
        values, possible = [row.get(key) for row in rows], RANGES.get(key, within)
        if isinstance(first, dict):
            found[key] = means_of(values, possible)
        elif isinstance(first, Estimate) and all(v and v.value is not None for v in values):
            found[key] = mean([v.value for v in values], possible)
        elif isinstance(first, float):
            found[key] = mean(values, possible)
    return found


def plain(value: Any) -> Any:
    """Estimates as tables."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return value.__dict__ if isinstance(value, Estimate) else value


def shown(name: str, row: dict[str, Any]) -> None:
    """Prints a row of numbers, in words."""
    parts = []
    for key, value in row.items():
        if isinstance(value, dict):
            parts += [f"{key} ({arm}) {found}" for arm, found in value.items()]
        elif value is not None:
            parts.append(f"{key} {value}")
    print(f"  {name}: {'; '.join(parts)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--table", action="store_true", help="of the chains that are there")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/eval/chain"))
    args = parser.parse_args()
    rows: dict[int, dict[str, dict[str, Any]]] = {}
    minutes: dict[str, float] = {}
    for seed in args.seeds:
        folder = args.runs / f"seed-{seed}"
        if args.table:
            report = read_chain(folder / "chain.json")
        else:
            report = chain(chain_of(seed), folder, name=f"emoji, seed {seed}", progress=progress)
        print(f"seed {seed}")
        tell(report)
        rows[seed] = rows_of(report)
        names = list(rows[seed])
        means = {name: means_of([found[name] for found in rows.values()]) for name in names}
        minutes[str(seed)] = round(sum(stage.seconds for stage in report.stages) / 60, 1)
        result = {
            "seeds": {str(s): plain(found) for s, found in rows.items()},
            "means": plain(means),
            "minutes": minutes,
            "versions": report.versions,
        }
        write_json(OUT, result)
        print(f"means of {len(rows)} seeds")
        for name, row in means.items():
            shown(name, row)


if __name__ == "__main__":
    main()
