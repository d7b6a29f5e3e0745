"""Transfer to a small balanced set of images.

fairTL and fairTL++ (Teo, Abdollahzadeh, Cheung, AAAI 2023) adapt a biased GAN to a small reference
set in which an attribute is balanced; no label of it is used. Carried over to diffusion:

- the denoising loss on the reference images, whose captions leave the class open (fairTL);
- feedback of the frozen model. Its predictions at the same captions, mixed into the target, would
  be the literal port: the result lies between the reference set and the biased model. So it is
  asked for prompts that say a class drawn from the target, or only where noise is low;
- keeping what prompts that say a class mean: there the model is regressed onto itself;
- first the layers that a measured score names, then all (fairTL++'s linear probing).
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

from evenhand.adapt.fairtl.own_images import own_images, refuse_deaf
from evenhand.adapt.fairtl.reference import reference_set
from evenhand.adapt.fairtl.scores import probing
from evenhand.adapt.fairtl.weighting import weighted
from evenhand.core.resources import one_spelling
from evenhand.diffusion.denoising import Denoising
from evenhand.recipes.denoising import Captioned
from evenhand.recipes.fairtl import FairTl
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
from evenhand.training.examples import Examples, Teacher, of_the_model
from evenhand.training.processes import training


def train_fairtl(
    recipe: FairTl,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> pathlib.Path:
    """Adapts a model to a small balanced reference set and writes the result.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
            `reference.json` says what the reference set holds.
        name: of the recipe, for `adapter.json`.
        progress: called after every step with (steps done, losses and gradient norm).

    Returns:
        folder of the adapter, `folder/adapter`, or of the model, `folder/model`.

    Raises:
        UserError: captions that tell a class, too few images, a model that does not follow words
            that it is asked for, and as the denoising trainer says.
    """
    folder, recipe = pathlib.Path(folder), resolved(recipe)
    place = place_of(recipe, folder)
    with training(folder, _settings(recipe), free=CUTS) as accelerator:
        denoising = load_denoising(recipe, accelerator)
        cache = folder if accelerator.is_main_process else folder / f"{accelerator.process_index}"
        terms = losses(recipe, denoising, cache)
        trainable = attach_trained(recipe, denoising)
        first = None
        if recipe.probing:
            where = (folder, cache)
            first = probing(recipe, terms["loss"], denoising, trainable, *where, accelerator)
        optimizer = denoise(
            denoising,
            trainable,
            terms,
            recipe,
            folder,
            accelerator=accelerator,
            report=progress or (lambda *_: None),
            probing=first,
        )
        if accelerator.is_main_process:
            captions = next(iter(terms.values())).captions
            with optimizer.averaged():
                save_trained(place, recipe, name, denoising, trainable, captions)
    return place


def losses(recipe: FairTl, denoising: Denoising, folder: pathlib.Path) -> dict[str, Examples]:
    """The terms of the loss, by name; a batch of each is drawn a step.

    Called before anything is trained: the model draws its own images here.
    """
    terms: dict[str, Examples] = {}
    feedback = recipe.feedback
    if recipe.images:
        found = reference_set(recipe, denoising, folder)
        terms["loss"] = on_reference(recipe, found)
        if recipe.importance:
            terms |= weighted(recipe, terms["loss"], denoising, folder)
    if recipe.own and (recipe.said or recipe.keep):
        own = own_images(recipe, denoising, folder)
        if feedback and recipe.said:
            (attribute,) = recipe.target.attributes
            refuse_deaf(own, attribute, denoising, recipe.seed, recipe.judge)
            terms["said"] = own.said(recipe.target.by_class, feedback.share)
        if recipe.keep:
            names = recipe.keep.attributes or recipe.target.attributes
            terms["keep"] = own.kept(names, recipe.keep.weight, recipe.keep.batch)
    if recipe.prior:
        terms["prior"] = of_the_model(recipe.prior, denoising, folder, recipe.seed)
    return terms


def on_reference(recipe: FairTl, found: Examples) -> Examples:
    """The reference images as a term of the loss, with the frozen model's share of their target."""
    feedback = recipe.feedback
    if feedback is None:
        return found
    if feedback.asked == "said":
        return Examples(found.latents, found.captions, 1 - feedback.share)
    gate = feedback.gate if feedback.asked == "gated" else None
    teacher = Teacher(found.captions, feedback.share, gate)
    return Examples(found.latents, found.captions, teacher=teacher)


def _settings(recipe: FairTl) -> dict[str, Any]:
    """What the run's folder keeps, the names of the user's files in one spelling."""

    def spelt(images: Captioned | None) -> dict[str, Any] | None:
        return images and {**images.model_dump(), "path": one_spelling(images.path)}

    found = {**settings_of(recipe), "images": spelt(recipe.images)}
    if recipe.importance:
        found["importance"] = {
            **recipe.importance.model_dump(mode="json"),
            "images": spelt(recipe.importance.images),
        }
    return found
