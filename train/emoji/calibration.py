"""Calibrates the classifiers of the embedded world on images of the embedded model.

    python train/emoji/calibration.py

A calibration needs images of the kind that is measured, and their true classes. The embedded model
draws blurred and broken figures at times, of which a rendering holds none; of what it draws nobody
knows the truth. So half-noised renderings are drawn anew by the model from the caption that says
their classes (SDEdit, Meng et al., ICLR 2022, arXiv 2108.01073): the model's images, of a known
person. Of the renderings, whose seed nothing was trained with, 3,000 are redrawn; 4 minutes on two
cores. In 15 of them judge and trainer name the same other gender: so many people the model changes
at most, or draws so that they can be told by nobody.

Writes src/evenhand/emoji/classifiers/*/calibration.json.
"""

import argparse
import pathlib

import datasets
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from evenhand.core.attributes import Attribute
from evenhand.core.records import image_seed
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.emoji.world import HERE, caption, draw, load_world, sample_scene
from evenhand.images.tensors import to_uint8
from evenhand.judges.calibrate import calibrate
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import find_judge
from evenhand.recipes.labels import Labels
from evenhand.recipes.model import load_model
from evenhand.stats.calibration import write_calibration
from evenhand.training.checkpoints import step_generator

ATTRIBUTES = ("occupation", "gender", "tone")
STRENGTH = 0.6  # share of the sampling steps that the model redraws; at .7 it changes some people
BATCH = 50


def redrawn(n: int, path: pathlib.Path) -> None:
    """Writes n renderings, redrawn by the embedded model, with their labels, as a parquet file."""
    world, model = load_world(), load_model("emoji")
    generator = step_generator(world.seeds["sprites_held_out"], "calibration")
    classes = {"occupation": list(world.occupations), **world.classes}
    pipe = StableDiffusionImg2ImgPipeline(
        **load_diffusion(model).pipe.components, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for start in range(0, n, BATCH):
        scene = sample_scene(BATCH, generator=generator, even=True)
        labels = [
            {a: classes[a][int(getattr(scene, a)[i])] for a in ATTRIBUTES} for i in range(BATCH)
        ]
        captions = [
            caption(row["occupation"], {a: row[a] for a in world.classes}) for row in labels
        ]
        images = pipe(
            captions,
            image=draw(scene, generator=generator),
            strength=STRENGTH,
            generator=[
                torch.Generator().manual_seed(image_seed("calibration", 0, text, start + i))
                for i, text in enumerate(captions)
            ],
            output_type="pt",
            **model.settings.call(),
        ).images
        rows += [
            {"image": Image.fromarray(image), **row}
            for image, row in zip(to_uint8(images), labels, strict=True)
        ]
        print(f"{len(rows)} of {n} redrawn", flush=True)
    features = datasets.Features(
        {"image": datasets.Image(), **{a: datasets.Value("string") for a in ATTRIBUTES}}
    )
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


def calibrate_judge(name: str, data: pathlib.Path) -> dict[str, float]:
    """Writes what the classifier calls the images beside its weights.

    Returns the accuracies, means over classes.
    """
    judge = load_judge(find_judge(name))
    labels = {a: Labels(column=a, classes={c: [c] for c in judge.classes(a)}) for a in ATTRIBUTES}
    found = calibrate(find_judge(name), data, labels, domain="emoji world")
    found = found.model_copy(
        update={
            "data": "renderings with sprites_held_out's seed, redrawn by the embedded model",
            "probabilities": {
                a: table for a, table in found.probabilities.items() if a in judge.attributes
            },
        }
    )  # 20 x 20 x 20 else
    write_calibration(
        HERE / "classifiers" / name.removeprefix("emoji-") / "calibration.json", found
    )
    return {
        a: found.confusion(Attribute(name=a, classes=judge.classes(a))).accuracy for a in ATTRIBUTES
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/emoji"))
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    data = args.runs / f"redrawn-{args.images}.parquet"
    if not data.exists():
        redrawn(args.images, data)
    for folder in sorted((HERE / "classifiers").iterdir()):
        found = calibrate_judge(f"emoji-{folder.name}", data)
        print(f"emoji-{folder.name}", {a: round(r, 4) for a, r in found.items()}, flush=True)


if __name__ == "__main__":
    main()
