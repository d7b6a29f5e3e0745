"""LoRA of images with captions: the model learns to draw what the captions call them."""

import os
import pathlib
from collections.abc import Callable

from evenhand.core.resources import one_spelling
from evenhand.recipes.denoising import LoraTraining
from evenhand.training.denoise import denoise
from evenhand.training.denoised import (
    CUTS,
    attach_trained,
    load_denoising,
    place_of,
    resolved,
    save_trained,
    settings_of,
)
from evenhand.training.examples import captioned, of_the_model
from evenhand.training.processes import training


def train_lora(
    recipe: LoraTraining,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Callable[[int, dict[str, float]], None] | None = None,
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
    folder, recipe = pathlib.Path(folder), resolved(recipe)
    settings = {
        **settings_of(recipe),
        "images": {**recipe.images.model_dump(), "path": one_spelling(recipe.images.path)},
    }
    place, tell = place_of(recipe, folder), progress or (lambda *_: None)
    with training(folder, settings, free=CUTS) as accelerator:
        denoising = load_denoising(recipe, accelerator)
        cache = folder if accelerator.is_main_process else folder / f"{accelerator.process_index}"
        terms = {"loss": captioned(recipe.images, denoising, cache)}
        if recipe.prior:
            terms["prior"] = of_the_model(
                recipe.prior, denoising, cache, recipe.seed, lambda n: tell(0, {"drawn": n})
            )
        trainable = attach_trained(recipe, denoising)
        optimizer = denoise(
            denoising,
            trainable,
            terms,
            recipe,
            folder,
            accelerator=accelerator,
            report=tell,
        )
        if accelerator.is_main_process:
            captions = terms["loss"].captions
            with optimizer.averaged():
                save_trained(place, recipe, name, denoising, trainable, captions)
    return place
