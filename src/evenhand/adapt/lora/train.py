"""LoRA of images with captions: the model learns to draw what the captions call them."""

import os
import pathlib

from evenhand.recipes.denoising import LoraTraining
from evenhand.training.examples import examples_of
from evenhand.training.pictures import read_pictures
from evenhand.training.precision import settled
from evenhand.training.run_directory import Progress
from evenhand.training.train_on_images import settings_of, train_on


def train_lora(
    recipe: LoraTraining,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> pathlib.Path:
    """Trains LoRA, or all weights, on images with captions and writes the result.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
        name: of the recipe, for `adapter.json`.
        progress: called after every step with (steps done, losses and gradient norm), and with
            (0, `{"drawn": n}`) while images of prior preservation are drawn.

    Returns:
        folder of the adapter, `folder/adapter`, or of the model, `folder/model`; any diffusers
        loads them.

    Raises:
        UserError: images, captions or a model that cannot be had; another run's folder; a pipeline
            that cannot be trained on images; a training that diverged.
    """
    folder = pathlib.Path(folder)
    recipe = settled(recipe, [folder / "run.json"])
    pictures = read_pictures(recipe.images)
    settings = {
        **settings_of(recipe),
        "images": recipe.images.settings(),
        "pictures": {"images": pictures.digest},
    }
    return train_on(
        recipe,
        folder,
        lambda denoising, cache: {
            "loss": examples_of(pictures, denoising, cache / "images.safetensors", recipe.at_once)
        },
        settings=settings,
        name=name,
        progress=progress,
    )
