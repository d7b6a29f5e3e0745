"""LoRA of images with captions: the model learns to draw what the captions call them."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

from evenhand.core.adapters import LORA
from evenhand.core.prompts import Prompt
from evenhand.core.resources import one_spelling
from evenhand.devices import best_dtype, default_device, resolve_dtype
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.diffusion.references import save_references
from evenhand.diffusion.trainable import Trainable, attach
from evenhand.recipes.denoising import LoraTraining
from evenhand.recipes.model import Model, load_model
from evenhand.training.denoise import denoise
from evenhand.training.examples import Examples, captioned, of_the_model
from evenhand.training.processes import training
from evenhand.training.run_directory import machine, versions

CUTS = ("checkpoint_every", "checkpointing")  # only cut the work up


def train_lora(
    recipe: LoraTraining,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> pathlib.Path:
    """Trains LoRA on images with captions and writes an adapter.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
        name: of the recipe, for `adapter.json`.
        progress: called after every step with (steps done, losses and gradient norm), and with
            (0, `{"drawn": n}`) while images of prior preservation are drawn.

    Returns:
        folder of the adapter, `folder/adapter`, which any diffusers loads.

    Raises:
        UserError: images, captions or a model that cannot be had; another run's folder; a pipeline
            that cannot be trained on images; a training that diverged.
    """
    folder, model = pathlib.Path(folder), load_model(recipe.model)
    tell = progress or (lambda *_: None)
    if recipe.dtype == "auto":
        recipe = recipe.model_copy(update={"dtype": best_dtype(default_device())})
    settings = {
        **recipe.model_dump(mode="json"),
        "model": one_spelling(recipe.model),
        "images": {**recipe.images.model_dump(), "path": one_spelling(recipe.images.path)},
    }
    with training(folder, settings, free=CUTS) as accelerator:
        denoising = _loaded(recipe, model, accelerator)
        diffusion = denoising.diffusion
        cache = folder if accelerator.is_main_process else folder / f"{accelerator.process_index}"
        terms = {"loss": captioned(recipe.images, denoising, cache)}
        if recipe.prior:
            terms["prior"] = of_the_model(
                recipe.prior, denoising, cache, recipe.seed, lambda n: tell(0, {"drawn": n})
            )
        trainable = attach(diffusion, recipe.lora, seed=recipe.seed)
        if recipe.checkpointing:
            denoiser: Any = diffusion.denoiser
            denoiser.enable_gradient_checkpointing()
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
            with optimizer.averaged():
                _save(folder / "adapter", recipe, name, diffusion, trainable, terms["loss"])
    return folder / "adapter"


def _loaded(recipe: LoraTraining, model: Model, accelerator: Any) -> Denoising:
    """The model's denoising loss, on the grid of steps that the recipe names."""
    steps = recipe.num_inference_steps
    dtype = resolve_dtype(recipe.dtype or model.dtype, accelerator.device)
    diffusion = load_diffusion(
        model.model_copy(update={"dtype": dtype}),
        device=str(accelerator.device),
        settings={"num_inference_steps": steps} if steps else {},
    )
    return Denoising(diffusion)


def _save(
    folder: pathlib.Path,
    recipe: LoraTraining,
    name: str,
    diffusion: Diffusion,
    trainable: Trainable,
    learned: Examples,
) -> None:
    """Writes the adapter, and reference images of the first captions."""
    description = {
        "base_model": diffusion.source,
        "recipe": name,
        "settings": recipe.model_dump(mode="json"),
        "versions": versions(),
    }
    save_adapter(folder, LORA, trainable.state(), description)
    captions = dict.fromkeys(learned.captions)
    prompts = [Prompt(text, text, "captions", "train") for text in captions]
    save_references(folder, diffusion, prompts, recipe.seed, machine())
