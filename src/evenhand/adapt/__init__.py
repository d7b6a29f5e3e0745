"""Adapting a generator: one method a folder, each by the schema of its recipe."""

import os
import pathlib
from collections.abc import Callable

from evenhand.recipes.denoising import LoraTraining
from evenhand.recipes.dft import Dft

Progress = Callable[[int, dict[str, float]], None]  # (steps done, numbers of the step)


def train(
    recipe: Dft | LoraTraining,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> pathlib.Path:
    """Fine-tunes a model by the method of a recipe and writes an adapter.

    Args:
        recipe: as `evenhand.recipes.methods.load_training` gives it.
        folder: run directory; a run of the same recipe in it is continued.
        name: of the recipe, for `adapter.json`.
        progress: called after every step.

    Returns:
        folder of the adapter.

    Raises:
        UserError: as the method's own function says.
    """
    if isinstance(recipe, Dft):
        from evenhand.adapt.dft.finetune import finetune

        return finetune(recipe, folder, name=name, progress=progress)
    from evenhand.adapt.lora.train import train_lora

    return train_lora(recipe, folder, name=name, progress=progress)
