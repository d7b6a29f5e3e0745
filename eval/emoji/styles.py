r"""The embedded benchmark of subgroups: one group whose images are of three drawing styles.

    python eval/emoji/styles.py emoji-styles.parquet
    python eval/emoji/styles.py emoji-styles.parquet --seeds 1 --only group cluster

Women with dark skin in four occupations, drawn in three styles that the embedded model does not
know. At equal steps: one adapter for the group, one for each cluster (found by k-means, not given),
one for all with a learned token for each cluster; the base model, and fresh drawings as the
ceiling. `one style` is the control in which the group has no clusters; `no token` leaves the rare
word out. Held-out images, those of two tones that no training saw apart, and training images pass
through the autoencoder; everything is compared in the features of a judge of the benchmark's own,
and once more in those of `emoji-witness`. The recipe is train/dreambooth/emoji.yaml; how its
learning rate was set: eval/README.md.
Prints a table and writes eval/results/emoji-styles.json. A run that was cut goes on. One thread.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from typing import Any

import numpy as np
import torch
from arms import ARMS, Arm, Drawn, Plan, drawn_by, per_image, silhouettes, trained
from safetensors.torch import load_file, save_file
from styles_data import Cell, benchmark_judge, rendered, write_rendered
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.files import whole, write_json
from evenhand.core.resources import ROOT
from evenhand.diffusion.latents import round_trip
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.judges.base import Judge
from evenhand.judges.registry import load_judge
from evenhand.measure.groups import GroupImages, costs, measured, reported
from evenhand.recipes.judge import find_judge
from evenhand.recipes.model import load_model
from evenhand.reports.group_models import GroupReport
from evenhand.stats.groups import over_seeds
from evenhand.stats.shares import Estimate
from evenhand.training.checkpoints import step_generator
from evenhand.training.run_directory import versions

STYLES = ("fluent3d", "openmoji", "twemoji")
OCCUPATIONS = ("cook", "judge", "pilot", "scientist")
GROUP = {"gender": "woman", "tone": "dark"}
HELD_OUT_TONES = ("light", "medium")
PLAN = Plan(OCCUPATIONS, (GROUP["tone"], HELD_OUT_TONES))
TRAINING, HELD_OUT = 72, 192  # renderings, shared evenly by styles and occupations
SEEDS, SEED = (41, 42, 43), 40  # of the trainings; of the held-out images
COMPARED = ("precision", "coverage", "density", "kid")
MEMORISED = ("closer", "ratio", "closer_by_chance")
SHOWN = ("precision", "coverage", "density", "kid", "style_as_asked", "tones: precision")


def cells(styles: tuple[str, ...], tones: tuple[str, ...], n: int) -> list[Cell]:
    """So many cells, every combination as often."""
    kinds = [Cell(s, o, GROUP["gender"], t) for s in styles for o in OCCUPATIONS for t in tones]
    assert n % len(kinds) == 0
    return kinds * (n // len(kinds))


def _of_one_length(features: Tensor) -> Tensor:
    """Features `[N, D]`, each of the length of the root of D."""
    return F.normalize(features, dim=-1) * features.shape[-1] ** 0.5


class World:
    """What every arm shares: the base model, the judge, and the images that are held out."""

    def __init__(self, path: str, runs: pathlib.Path) -> None:
        self.path, self.runs = path, runs
        self.base = load_diffusion(load_model("emoji"))
        self.judge: Judge = benchmark_judge(path, self.base.pipe, runs / "judge")
        self.witness: Judge = load_judge(find_judge("emoji-witness"))
        self._passed: dict[tuple, Tensor] = {}

    def folder(self, name: str, seed: int) -> pathlib.Path:
        """Of an arm and a seed."""
        return self.runs / "".join(c if c.isalnum() else "-" for c in name) / str(seed)

    def passed(self, chosen: list[Cell], *key: Any) -> Tensor:
        """Renderings through the autoencoder; those of a key are the same every time."""
        if key not in self._passed:
            images = rendered(self.path, chosen, step_generator(SEED, *key))
            self._passed[key] = round_trip(self.base.pipe, images)
        return self._passed[key]

    def features(self, images: Tensor) -> Tensor:
        """Features of the benchmark's judge, of one length."""
        return _of_one_length(self.judge.features(images))

    def others(self, images: Tensor) -> Tensor:
        """Features of `emoji-witness`, which has seen neither these styles nor any training."""
        return _of_one_length(self.witness.features(images))

    def training(self, arm: Arm, seed: int) -> tuple[pathlib.Path, Tensor]:
        """The file of an arm's training images, and the images through the autoencoder."""
        styles = STYLES[-1:] if arm.one_style else STYLES
        chosen = cells(styles, (GROUP["tone"],), TRAINING)
        images = rendered(self.path, chosen, step_generator(seed, "training", *styles))
        file = self.runs / f"training-{len(styles)}-{seed}.parquet"
        if not file.is_file():
            write_rendered(file, chosen, images)
        return file, round_trip(self.base.pipe, images)

    def images(self, arm: Arm, folder: pathlib.Path, seed: int) -> Drawn:
        """The images of an arm's training, drawn once and kept; those of fresh drawings."""
        file = folder / "drawn.safetensors"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            if arm.fresh:
                group, tones = (
                    self.passed(cells(STYLES, kinds, n), "fresh", seed, n)
                    for kinds, n in zip(((GROUP["tone"],), HELD_OUT_TONES), (144, 96), strict=True)
                )
                numbers = (torch.zeros(len(x), dtype=torch.long) for x in (group, tones, group[:0]))
                made = Drawn((group, tones, group[:0]), tuple(numbers))
            else:
                made = drawn_by(arm, PLAN, GROUP, folder, self.base, seed)
            with whole(file) as temporary:
                save_file(made.tensors(), temporary)
        return Drawn.of(load_file(file))


def measure(
    world: World, arm: Arm, images: Drawn, training: Tensor, plain: Tensor
) -> dict[str, Estimate]:
    """All numbers of one training; `tones: ...` are of the tones that it has not seen."""
    styles = STYLES[-1:] if arm.one_style else STYLES
    found: dict[str, Estimate] = {}
    for name, tones, drawn in (
        ("", (GROUP["tone"],), images.parts[0]),
        ("tones: ", HELD_OUT_TONES, images.parts[1]),
    ):
        class_prompt = (plain, images.parts[2]) if not name and len(images.parts[2]) else None
        chosen = cells(styles, tones, HELD_OUT)
        group = GroupImages(
            drawn,
            world.passed(chosen, "held out", *styles, *tones),
            training,
            {"gender": GROUP["gender"]} if name else GROUP,
            [cell.style for cell in chosen],
            class_prompt,
        )
        of_part = measured(group, world.features, judge=world.judge)
        if not name:
            again = measured(dataclasses.replace(group, class_prompt=None), world.others)
            found |= {f"witness: {key}": again[key] for key in COMPARED}
        if name:  # the training images are of another tone: what is nearer to them says nothing
            of_part = {key: x for key, x in of_part.items() if key not in MEMORISED}
        found |= {f"{name}{key}": estimate for key, estimate in of_part.items()}
    return found


def one(world: World, name: str, seed: int, steps: int) -> tuple[dict[str, Estimate], dict]:
    """What an arm's training of a seed gives, kept in its folder; trained where it is not there."""
    arm, folder = ARMS[name], world.folder(name, seed)
    kept = folder / "measured.json"
    if not kept.is_file():
        file, training = world.training(arm, seed)
        began, extra = time.process_time(), dict[str, Any]()
        if arm.overrides is not None:
            extra = trained(arm, file, folder, seed=seed, steps=steps)
        images = world.images(arm, folder, seed)
        base = world.images(ARMS["base"], world.folder("base", seed), seed)
        found = measure(world, arm, images, training, base.parts[2])
        if not arm.fresh:
            found |= per_image(world.judge, images, PLAN, folder, file)
        write_json(
            kept,
            {
                "numbers": {key: estimate.__dict__ for key, estimate in found.items()},
                "cpu_seconds": round(time.process_time() - began, 1),
                **extra,
            },
        )
    values = json.loads(kept.read_text(encoding="utf-8"))
    return {k: Estimate(**v) for k, v in values.pop("numbers").items()}, values


def differences(
    rows: dict[str, dict[int, dict[str, Estimate]]], one: str, other: str
) -> dict[str, Estimate]:
    """Precision and coverage of an arm less those of another, trainings of a seed as pairs."""
    found, seeds = {}, sorted(rows[one].keys() & rows[other].keys())
    for name in ("precision", "coverage", "witness: precision", "witness: coverage"):
        pairs = [(rows[one][s][name], rows[other][s][name]) for s in seeds]
        values = np.array([a.value - b.value for a, b in pairs])
        half = [np.hypot(a.high - a.low, b.high - b.low) / 2 for a, b in pairs]
        low, high = values - half, values + half
        found[name] = over_seeds(values, low, high, n=pairs[0][0].n, within=(-1.0, 1.0))
    return found


def table(reports: dict[str, GroupReport]) -> str:
    """The arms as a table in Markdown."""
    lines = ["| arm | " + " | ".join(SHOWN) + " |", "|---|" + "---|" * len(SHOWN)]
    for name, report in reports.items():
        shown = [str(report.numbers.get(key, "–")) for key in SHOWN]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parquet")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--steps", type=int, default=321, help="of all adapters of an arm")
    parser.add_argument("--only", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/eval/styles"))
    parser.add_argument("--name", default="emoji-styles", help="of the file of results")
    parser.add_argument("--summary", action="store_true", help="of what is there; trains nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = World(args.parquet, args.runs)
    rows: dict[str, dict[int, dict[str, Estimate]]] = {name: {} for name in args.only}
    others: dict[str, dict[int, dict]] = {name: {} for name in args.only}
    for seed in SEEDS[: args.seeds]:
        for name in args.only:
            if args.summary and not (world.folder(name, seed) / "measured.json").is_file():
                continue
            rows[name][seed], others[name][seed] = one(world, name, seed, args.steps)
            numbers = {key: rows[name][seed].get(key) for key in SHOWN}
            print(f"{name}, seed {seed}:", {k: str(v) for k, v in numbers.items()}, flush=True)
    _write(world, {name: found for name, found in rows.items() if found}, others, args)


def _silhouettes(world: World, seeds: int) -> dict[str, dict]:
    """By k, of each seed: of the three styles, and of the one."""
    found: dict[str, dict] = {}
    for name in ("cluster", "one style: cluster"):
        found[name] = {}
        for seed in SEEDS[:seeds]:
            file, _ = world.training(ARMS[name], seed)
            folder = world.runs / "silhouettes" / f"{file.stem}"
            found[name][seed] = silhouettes(file, folder, seed)
        print(f"silhouette by k, {name}:", found[name])
    return found


def _write(world: World, rows: dict, others: dict, args: argparse.Namespace) -> None:
    """Prints the table and writes the results."""
    empty = (torch.zeros(n, 0) for n in (PLAN.counts[0], HELD_OUT, TRAINING))
    group, reports = GroupImages(*empty, group=GROUP), dict[str, GroupReport]()
    for name, found in rows.items():
        taken = {s: costs(world.folder(name, s) / "run") for s in found if ARMS[name].overrides}
        reports[name] = reported(found, group, adapters=taken)
    pairs = [("cluster", "group"), ("cluster", "shared"), ("shared", "group")]
    pairs += [("one style: cluster", "one style: group"), ("cluster", "cluster, no token")]
    both = [(a, b) for a, b in pairs if rows.get(a, {}).keys() & rows.get(b, {}).keys()]
    less = {f"{a} less {b}": differences(rows, a, b) for a, b in both}
    print(table(reports))
    for name, found in less.items():
        print(name, {key: str(estimate) for key, estimate in found.items()})
    write_json(
        ROOT / "eval" / "results" / f"{args.name}.json",
        {
            "steps": args.steps,
            "judge": world.judge.digest,
            "arms": {
                name: {**report.as_json(), "trainings": others[name]}
                for name, report in reports.items()
            },
            "silhouettes": _silhouettes(world, args.seeds),
            "less": {k: {n: e.rounded().__dict__ for n, e in v.items()} for k, v in less.items()},
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    main()
