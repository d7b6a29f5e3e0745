r"""Classifiers of real photographs by group: gender, where "white or not" is a shortcut.

    python eval/photographs/classify.py utkface64.parquet
    python eval/photographs/classify.py utkface64.parquet --ratios .99 --only erm ffr+resampling
    python eval/photographs/classify.py utkface64.parquet --backbone FOLDER
    python eval/photographs/classify.py utkface64.parquet --ratios .97 --clustered \
        --only erm group_dro --name photographs-classify-clustered

Prints the table of each ratio and writes eval/results/photographs-classify.json, where a ratio's
table takes the place of the one before (`--name`: another file). The recipe is
train/classify/utkface.yaml: 4,000 of the training images at each ratio. The others of that split,
with fewer pixels, less colour and noise, stand in for a generator's: they show what balanced images
of another domain are worth, and nothing of any generator. `--backbone` adds a frozen network of
transformers or timm (a folder, or a Hub name) with a linear last layer. `--clustered` fine-tunes
the embedded model on the training images, trains adapters on the clusters of each group's images,
and adds two stages on what these draw (Basu et al.). Nothing of the data, and no network trained on
it, is written outside runs/photographs. Killed, it goes on.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from faces import faces, subgroups
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from evenhand.classify.run import classify
from evenhand.classify.tables import cut, read_real
from evenhand.cli.classify import tell
from evenhand.cli.show import progress
from evenhand.core.files import whole, write_json
from evenhand.core.resources import ROOT
from evenhand.images.labelled import pixels_of
from evenhand.images.tensors import to_float, to_uint8
from evenhand.recipes.classify import Classify, load_classify
from evenhand.reports.classify_models import SCORES
from evenhand.training.checkpoints import step_generator

RUNS = pathlib.Path("runs/photographs/classify")
SYNTHETIC = 2800  # of the rest of the images 1,414 are of the rarest group, and AIM-Fair takes .495


def worse(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images `[N, 3, S, S]` with 28 pixels a side, half the colour, and noise."""
    size = images.shape[-1]
    small = F.interpolate(images, (28, 28), mode="area")
    blurred = F.interpolate(small, (size, size), mode="bilinear")
    grey = blurred.mean(1, keepdim=True)
    noise = 0.04 * torch.randn(images.shape, generator=generator)
    return (grey + 0.5 * (blurred - grey) + noise).clamp(0, 1)


def stand_in(data: str, path: pathlib.Path, recipes: list[Classify]) -> None:
    """Writes the training images that no ratio uses, degraded, with their labels."""
    import datasets

    table = read_real(data, recipes[0])["train"]
    used = np.concatenate([cut(table, one.bias, one, "train") for one in recipes])
    rest = np.setdiff1d(np.arange(len(table.groups)), used)
    rows = []
    for i in rest.tolist():
        row = table.rows[i]
        generator = step_generator(0, table.digests[i])
        image = to_uint8(worse(to_float(pixels_of(row)[None]), generator))[0]
        rows.append({"image": Image.fromarray(image), "gender": row["gender"], "race": row["race"]})
    text = datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "gender": text, "race": text})
    with whole(path) as temporary:
        datasets.Dataset.from_list(rows, features=features).to_parquet(temporary)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.9, 0.97, 0.99])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="variants; all of the recipe when not given")
    parser.add_argument("--backbone", help="folder or Hub name of a trained network")
    parser.add_argument("--clustered", action="store_true")
    parser.add_argument("--name", default="photographs-classify", help="of the file of results")
    parser.add_argument("--set", nargs="+", default=[], help="KEY=VALUE of the recipe to change")
    args = parser.parse_args()

    def recipe(ratio: float, *more: str) -> Classify:
        return load_classify("utkface", [f"bias.ratio={ratio}", *more])

    synthetic = RUNS / "stand-in.parquet"
    if not synthetic.is_file():
        stand_in(args.data, synthetic, [recipe(r) for r in (0.9, 0.97, 0.99)])
    results = {}
    for ratio in args.ratios:
        images = [f"synthetic.path={synthetic}", f"synthetic.images={SYNTHETIC}"]
        one = recipe(ratio, f"seeds={args.seeds}", *images, *args.set)
        variants = {n: one.variants[n] for n in args.only or one.variants}
        if args.backbone:
            frozen = {"config": None, "path": args.backbone, "freeze": True}
            variants["frozen backbone"] = frozen
            variants["frozen backbone+resampling"] = {**frozen, "objective": "resampling"}
        if args.clustered:
            with progress("fine-tuning on faces") as update:
                model = faces(args.data, RUNS.parent / "faces", update)
            place = RUNS.parent / "subgroups" / f"{ratio:g}"
            with progress("training and drawing by clusters") as update:
                drawn_by = subgroups(place, model, one, args.data, SYNTHETIC // 4, update)
            drawn = {"synthetic": {"path": str(drawn_by), "images": SYNTHETIC}}
            variants["two_stage, clustered"] = {**one.variants["two_stage"], **drawn}
        one = one.model_copy(update={"variants": variants})
        with progress(f"ratio {ratio:g}") as update:
            report = classify(one, args.data, RUNS / f"{ratio:g}", progress=update)
        print(f"ratio {ratio:g}")
        tell(report)
        found = report.as_json()
        results[f"{ratio:g}"] = {
            "counts": found["counts"],
            "notes": found["notes"],
            "variants": {
                name: {key: v[key] for key in ("steps", "per_seed", "group_accuracy", *SCORES)}
                for name, v in found["variants"].items()
            },
            f"less_{report.reference}": found["differences"],
            "versions": found["versions"],
        }
        out = ROOT / "eval" / "results" / f"{args.name}.json"
        before = json.loads(out.read_text()) if out.is_file() else {}
        write_json(out, {**before, **results})


if __name__ == "__main__":
    main()
