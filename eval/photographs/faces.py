"""The embedded model, fine-tuned on faces, and adapters of the groups of a biased part of them.

Everything that is made stays in runs/photographs.
"""

import pathlib
import sys

from evenhand.adapt import train
from evenhand.recipes.classify import Classify
from evenhand.recipes.methods import load_training

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "emoji"))
from clustered import Subgroups, Update, clustered  # noqa: E402

STEPS = 1500  # of the whole denoiser, on batches of 16
SEED = 31
WORDS = {"woman": "female", "man": "male"}


def faces(data: str, folder: pathlib.Path, progress: Update) -> pathlib.Path:
    """Fine-tunes the embedded model on the training images; returns the model's YAML.

    No label of an image is looked at: all have the same caption.
    """
    found = folder / "model.yaml"
    if not found.is_file():
        recipe = load_training(
            "lora/emoji",
            [
                "lora=null",
                "weights={part: denoiser}",
                f"images={{path: {data}, split: train, caption: a photo of a face, flip: true}}",
                f"steps={STEPS}",
                "batch=16",
                "at_once=16",
                "optimisation.learning_rate=3e-4",
                f"seed={SEED}",
            ],
        )
        train(recipe, folder, progress=lambda done, _: progress(done, STEPS))
    return found


def subgroups(
    folder: pathlib.Path, model: pathlib.Path, recipe: Classify, data: str, each: int,
    progress: Update,
) -> pathlib.Path:  # fmt: skip
    """Trains adapters of the recipe's groups, and draws by them; returns the images' folder."""
    sides = recipe.protected.classes
    how = Subgroups(
        [
            f"model={model}",
            f"groups={{gender: {recipe.target.model_dump(include={'column', 'classes'})}, "
            f"race: {recipe.protected.model_dump(include={'column', 'classes'})}}}",
            "clusters={features: {kind: pixels}, k: 3, floor: 20}",
        ],
        "{token} : a {race} {gender}",
        {
            f"{gender}-{side}": (
                {"gender": gender, "race": side},
                [{"gender": WORDS[gender], "race": race} for race in races],
            )
            for gender in WORDS
            for side, races in sides.items()
        },
        steps=2400,
    )
    clustered(folder, recipe, data, how, each=each, seed=SEED, progress=progress)
    return folder / "images"
