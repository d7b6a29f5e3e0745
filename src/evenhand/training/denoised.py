"""What every training by the denoising loss begins with, and what comes out of it."""

import pathlib
from collections.abc import Iterable
from typing import Any, TypeVar

from evenhand.core.adapters import LORA
from evenhand.core.prompts import Prompt
from evenhand.core.resources import one_spelling
from evenhand.devices import best_dtype, default_device, resolve_dtype
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.references import save_references
from evenhand.diffusion.trainable import Trainable, attach
from evenhand.recipes.denoising import DenoisingTraining
from evenhand.recipes.model import load_model
from evenhand.training.run_directory import machine, versions

Recipe = TypeVar("Recipe", bound=DenoisingTraining)
CUTS = ("checkpoint_every", "checkpointing")  # only cut the work up


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with the dtype that `auto` means here."""
    if recipe.dtype != "auto":
        return recipe
    return recipe.model_copy(update={"dtype": best_dtype(default_device())})


def settings_of(recipe: DenoisingTraining) -> dict[str, Any]:
    """What a run's folder keeps of a recipe, the model's name in one spelling."""
    return {**recipe.model_dump(mode="json"), "model": one_spelling(recipe.model)}


def load_denoising(recipe: DenoisingTraining, accelerator: Any) -> Denoising:
    """The model's denoising loss, on the grid of steps that the recipe names."""
    steps, model = recipe.num_inference_steps, load_model(recipe.model)
    dtype = resolve_dtype(recipe.dtype or model.dtype, accelerator.device)
    diffusion = load_diffusion(
        model.model_copy(update={"dtype": dtype}),
        device=str(accelerator.device),
        settings={"num_inference_steps": steps} if steps else {},
    )
    return Denoising(diffusion)


def attach_trained(recipe: DenoisingTraining, denoising: Denoising) -> Trainable:
    """What the recipe trains, in the model."""
    trainable = attach(denoising.diffusion, recipe.lora, seed=recipe.seed)
    if recipe.checkpointing:
        denoiser: Any = denoising.diffusion.denoiser
        denoiser.enable_gradient_checkpointing()
    return trainable


def save_trained(
    folder: pathlib.Path,
    recipe: DenoisingTraining,
    name: str,
    denoising: Denoising,
    trainable: Trainable,
    captions: Iterable[str],
    **more: Any,
) -> None:
    """Writes the adapter, with reference images of the first captions."""
    diffusion = denoising.diffusion
    description = {
        "base_model": diffusion.source,
        "recipe": name,
        "settings": recipe.model_dump(mode="json"),
        "versions": versions(),
        **more,
    }
    save_adapter(folder, LORA, trainable.state(), description)
    prompts = [Prompt(text, text, "captions", "train") for text in dict.fromkeys(captions)]
    save_references(folder, diffusion, prompts, recipe.seed, machine())
