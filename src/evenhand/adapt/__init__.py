"""Adapting a generator: one method a folder, each by the schema of its recipe."""

import os
import pathlib

from evenhand.recipes.denoising import LoraTraining
from evenhand.recipes.dft import Dft
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.methods import Training
from evenhand.training.run_directory import Progress


def train(
    recipe: Training,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> pathlib.Path:
    """Fine-tunes a model by the method of a recipe and writes an adapter, or a model.

    Args:
        recipe: as `evenhand.recipes.methods.load_training` gives it.
        folder: run directory; a run of the same recipe in it is continued.
        name: of the recipe, for `adapter.json`.
        progress: called after every step; with (0, `{"drawn": n}`) while the model draws images of
            its own, and (0, `{"probed": n, "of": m}`) in the steps that find a training's first
            layers.

    Returns:
        folder of the adapter, of the set of adapters, or of the model.

    Raises:
        UserError: as the method's own function says.
    """
    if isinstance(recipe, Dft):
        from evenhand.adapt.dft.finetune import finetune

        return finetune(recipe, folder, name=name, progress=progress)
    if isinstance(recipe, Dreambooth):
        from evenhand.adapt.dreambooth.train import train_dreambooth

        return train_dreambooth(recipe, folder, name=name, progress=progress)
    if isinstance(recipe, FairTl):
        from evenhand.adapt.fairtl.train import train_fairtl

        return train_fairtl(recipe, folder, name=name, progress=progress)
    from evenhand.adapt.lora.train import train_lora

    return train_lora(recipe, folder, name=name, progress=progress)


def work_before(recipe: Training, run: pathlib.Path) -> tuple[int, int]:
    """What a training does before its first step: steps, and images of the model's own.

    Args:
        recipe: of the training.
        run: folder of a run of it.
    """
    if isinstance(recipe, Dft):
        return 0, 0
    steps, images = 0, recipe.prior.images if recipe.prior else 0
    if isinstance(recipe, FairTl):
        from evenhand.adapt.fairtl.cost import work_before as of_fairtl

        steps, own = of_fairtl(recipe, run)
        images += own
    return steps, images


def without_work_before(recipe: LoraTraining | FairTl | Dreambooth, images: int) -> Training:
    """A recipe whose method does next to nothing before its first step; for a dry run.

    Args:
        recipe: of the training.
        images: of the model's own that it still draws, about.
    """
    if isinstance(recipe, FairTl):
        from evenhand.adapt.fairtl.cost import without_work_before as of_fairtl

        return of_fairtl(recipe, images)
    return recipe
