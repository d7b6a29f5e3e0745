"""What every training by the denoising loss begins with, and what comes out of it."""

import itertools
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from evenhand.core.adapters import LORA
from evenhand.core.files import whole, write_json, write_text
from evenhand.core.prompts import Prompt
from evenhand.core.resources import one_spelling
from evenhand.devices import resolve_dtype
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.references import save_references
from evenhand.diffusion.trainable import Trainable, attach
from evenhand.recipes.denoising import DenoisingTraining
from evenhand.recipes.model import load_model
from evenhand.training.denoise import Probing, denoise
from evenhand.training.description import description
from evenhand.training.examples import Examples, of_the_model
from evenhand.training.processes import logged, training
from evenhand.training.run_directory import Progress, machine

Terms = Callable[[Denoising, pathlib.Path], dict[str, Examples]]  # of the model and a cache
First = Callable[[dict[str, Examples], Denoising, Trainable, pathlib.Path, Any], Probing | None]
CUTS = ("checkpoint_every", "save_every", "checkpointing")  # only cut the work up
MAY_MOVE = ("images.path", "importance.images.path")  # `pictures` are digests of what lies there
FREE = (*CUTS, *MAY_MOVE)


def train_on(
    recipe: DenoisingTraining,
    folder: pathlib.Path,
    terms_of: Terms,
    *,
    settings: dict[str, Any],
    name: str,
    progress: Progress | None,
    first: First | None = None,
    rounds: int = 1,
) -> pathlib.Path:
    """Trains one adapter, or the weights, on terms of the denoising loss and writes the result.

    Args:
        recipe: the settings, resolved.
        folder: run directory.
        terms_of: gives the terms of the loss, before anything is trained; those of prior
            preservation are added. The captions of the first term get reference images.
        settings: what the run's folder keeps.
        name: of the recipe, for `adapter.json`.
        progress: as of `evenhand.adapt.train`.
        first: called before the first step of each round, with the terms, which it may change, and
            a folder of the round; says what the round's first steps train, everything if None.
        rounds: that share the steps evenly; each goes on from the weights of the one before.

    Returns:
        folder of the adapter, or of the model.
    """
    place, tell = folder / recipe.makes, progress or (lambda *_: None)
    with training(folder, settings, free=FREE) as accelerator:
        denoising = load_denoising(recipe, accelerator)
        cache = folder if accelerator.is_main_process else folder / f"{accelerator.process_index}"
        terms = terms_of(denoising, cache) | of_the_model(recipe, denoising, cache, tell)
        trainable = attach_trained(recipe, denoising)

        def save(where: pathlib.Path) -> None:
            captions = next(iter(terms.values())).captions
            save_trained(where, recipe, name, denoising, trainable, captions)

        ends = [recipe.steps * number // rounds for number in range(rounds + 1)]
        for number, (before, end) in enumerate(itertools.pairwise(ends), 1):
            part = f"round-{number}" if rounds > 1 else ""
            of_round, where = dict(terms), cache / part
            where.mkdir(parents=True, exist_ok=True)
            begin = first(of_round, denoising, trainable, where, accelerator) if first else None
            steps = denoise(
                denoising,
                trainable,
                of_round,
                recipe.model_copy(update={"steps": end - before}),
                folder / part,
                accelerator=accelerator,
                report=logged(accelerator, tell, before),
                probing=begin,
                save=save,
            )
        steps.write(save, place)
    return place


def settings_of(recipe: DenoisingTraining) -> dict[str, Any]:
    """What a run's folder keeps of a recipe, the model's name in one spelling."""
    lora = recipe.lora and recipe.lora.settings()
    return {**recipe.model_dump(mode="json"), "model": one_spelling(recipe.model), "lora": lora}


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
    trainable = attach(denoising.diffusion, recipe.trained, seed=recipe.seed)
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
) -> None:
    """Writes the result: an adapter with reference images of the first captions, or a model.

    A model is a folder of diffusers; beside it stands `model.yaml`, by which evenhand samples it as
    it does the one that it comes from.

    Args:
        folder: of the result.
        recipe: of the training.
        name: of the recipe.
        denoising: the model.
        trainable: what was trained in it.
        captions: such as it was trained on.
    """
    diffusion = denoising.diffusion
    described = description(diffusion.source, name, recipe)
    if recipe.makes == "adapter":
        save_adapter(folder, LORA, trainable.state(), described)
        prompts = [Prompt(text, text, "captions", "train") for text in dict.fromkeys(captions)]
        save_references(folder, diffusion, prompts, recipe.seed, machine())
        return
    with whole(folder) as temporary:
        diffusion.pipe.save_pretrained(temporary)
        write_json(temporary / "trained.json", described)
    model = load_model(recipe.model).model_copy(update={"path": folder.name, "revision": None})
    text = yaml.safe_dump(model.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    write_text(folder.with_suffix(".yaml"), text)
