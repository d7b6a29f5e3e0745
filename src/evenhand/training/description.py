"""What the description of a training's result says of how it was made."""

from typing import Any

from evenhand.diffusion.trainable import started_from
from evenhand.recipes.denoising import DenoisingTraining
from evenhand.recipes.dft import Dft
from evenhand.training.run_directory import versions


def description(source: str, name: str, recipe: Dft | DenoisingTraining) -> dict[str, Any]:
    """The base model, the recipe, its settings, versions, and the adapter that it began from.

    Args:
        source: of the base model, as it was loaded.
        name: of the recipe.
        recipe: of the training.
    """
    return {
        "base_model": source,
        "recipe": name,
        "settings": recipe.model_dump(mode="json"),
        "versions": versions(),
        **started_from(recipe.trained),
    }
