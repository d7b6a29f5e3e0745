r"""The embedded benchmark of classifiers: every arm and objective, by group, with intervals.

    python eval/emoji/classify.py
    python eval/emoji/classify.py --ratios .95 --only erm ffr ffr+resampling
    python eval/emoji/classify.py --adapted --only erm ffr ffr+resampling \
        --name emoji-classify-adapted
    python eval/emoji/classify.py --clustered --seeds 3 --only erm group_dro two_stage \
        two_stage+all --name emoji-classify-clustered
    python eval/emoji/classify.py --ratios .95 --seeds 3 --name emoji-classify-resnet \
        --set 'config={model_type: resnet, embedding_size: 16, hidden_sizes: [16, 32, 64, 128], \
        depths: [2, 2, 2, 2], layer_type: basic}' mask.k=.89 --only erm all_tensors complement \
        aim_fair aim_fair+grad_rms aim_fair+weight_rms aim_fair+fisher aim_fair+frozen_norms \
        all_tensors+frozen_norms random_1 random_2 random_3 random_4 random_5

Women and men, where skin tone is a shortcut: 1,000 degraded drawings as `real` images, the embedded
model's images of prompts that say both as synthetic ones. The recipe is train/classify/emoji.yaml.
`--adapted` adds the same variants on images of the adapted model (adapters/emoji-gender-tone), of
prompts that say neither, sorted into groups by `emoji-judge`. `--clustered` adds them on images by
adapters that were trained on clusters of each group's real images (`clustered.py`). The last
command is the mask on a ResNet of 62 tensors.
Prints the table of each ratio and writes eval/results/emoji-classify.json; a run that was cut goes
on, and one with more variants or seeds adds to it. One thread.
"""

import argparse
import json
import pathlib

import torch
from classify_sets import adapted, real, synthetic
from clustered import clustered

from evenhand.classify.run import classify
from evenhand.cli.classify import tell
from evenhand.cli.show import progress
from evenhand.core.files import write_json
from evenhand.core.resources import ROOT
from evenhand.recipes.classify import load_classify
from evenhand.reports.classify_models import SCORES, ClassifyReport

SPLITS = {"train": 500, "validation": 100, "test": 500}  # images of each group
DRAWN = 500  # synthetic images of each group: enough to fill up at a ratio of .99
SEED = 21


def numbers(report: ClassifyReport) -> dict:
    """What is kept of a report: no list of tensors, no settings."""
    kept = ("arm", "objective", "steps", "epochs", "group_accuracy", "per_seed", *SCORES)
    return {
        "seeds": next(iter(report.variants.values())).seeds,
        "counts": report.counts,
        "notes": report.notes,
        "variants": {
            name: one.model_dump(mode="json", include={*kept, "deviation", "mask_parameters"})
            for name, one in report.variants.items()
        },
        "less_" + report.reference: {
            name: {score: found.__dict__ for score, found in scores.items()}
            for name, scores in report.differences.items()
        },
        "masks": {
            name: [row.tensor for row in one.mask if row.trained]
            for name, one in report.variants.items()
            if one.mask
        },
        "versions": report.versions,
    }


def elsewhere(variants: dict[str, dict], word: str, images: pathlib.Path) -> dict[str, dict]:
    """The variants on other synthetic images, with a word behind their names."""
    return {
        f"{name}, {word}": {**changes, "synthetic": {"path": str(images)}}
        for name, changes in variants.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.95, 0.99])
    parser.add_argument("--only", nargs="+", help="variants; all of the recipe when not given")
    parser.add_argument("--adapted", action="store_true")
    parser.add_argument("--clustered", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", default="emoji")
    parser.add_argument("--set", nargs="+", default=[], help="KEY=VALUE of the recipe to change")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/eval/classify"))
    parser.add_argument("--name", default="emoji-classify", help="of the file of results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not (args.runs / "real.parquet").is_file():
        real(args.runs / "real.parquet", SPLITS, SEED)
    if len(list((args.runs / "synthetic").glob("*.parquet"))) < 4:
        with progress("drawing") as update:
            synthetic(args.runs / "synthetic", DRAWN, SEED, update)
    if args.adapted:
        with progress("drawing by the adapted model") as update:
            adapted(args.runs / "adapted", DRAWN, SEED, update)
    results = {}
    for ratio in args.ratios:
        recipe = load_classify(
            args.recipe,
            [
                f"bias.ratio={ratio}",
                f"seeds={args.seeds}",
                f"synthetic.path={args.runs / 'synthetic'}",
                *args.set,
            ],
        )
        variants = {n: recipe.variants[n] for n in args.only or recipe.variants}
        plain = {name: changes for name, changes in variants.items() if "arm" in changes}
        if args.adapted:
            variants |= elsewhere(plain, "adapted", args.runs / "adapted")
        if args.clustered:
            made = args.runs / f"clustered-{ratio:g}"
            with progress("training and drawing by clusters") as update:
                clustered(
                    made, recipe, args.runs / "real.parquet", each=DRAWN, seed=SEED, progress=update
                )
            variants |= elsewhere(plain, "clustered", made / "images")
        recipe = recipe.model_copy(update={"variants": variants})
        folder = args.runs / args.name / f"{ratio:g}"
        with progress(f"ratio {ratio:g}") as update:
            report = classify(recipe, args.runs / "real.parquet", folder, progress=update)
        print(f"ratio {ratio:g}")
        tell(report)
        results[f"{ratio:g}"] = numbers(report)
        out = ROOT / "eval" / "results" / f"{args.name}.json"
        before = json.loads(out.read_text()) if out.is_file() else {}
        write_json(out, {**before, **results})


if __name__ == "__main__":
    main()
