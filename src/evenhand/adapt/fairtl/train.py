"""Transfer to a small balanced set of images.

fairTL and fairTL++ (Teo, Abdollahzadeh, Cheung, AAAI 2023) adapt a biased GAN to a small reference
set in which an attribute is balanced; no label of it is used. Carried over to diffusion:

- the denoising loss on the reference images, whose captions leave the class open (fairTL);
- feedback of the frozen model. Its predictions at the same captions, mixed into the target, would
  be the literal port: the result lies between the reference set and the biased model. So it is
  asked for prompts that say a class drawn from the target, or only where noise is low;
- or a critic that is trained anew as the model changes (the discriminator's counterpart);
- keeping what prompts that say a class mean: there the model is regressed onto itself;
- first the layers that a measured score names, then all (fairTL++'s linear probing).
"""

import os
import pathlib
from typing import Any

from evenhand.adapt.fairtl.critic import with_critic
from evenhand.adapt.fairtl.own_images import own_images, refuse_if_words_ignored
from evenhand.adapt.fairtl.reference import reference_set
from evenhand.adapt.fairtl.scores import probing
from evenhand.adapt.fairtl.weighting import weighted
from evenhand.core.prompts import load_prompts
from evenhand.core.resources import one_spelling
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.trainable import Trainable
from evenhand.recipes.fairtl import FairTl
from evenhand.training.denoise import Probing
from evenhand.training.examples import Examples, Teacher
from evenhand.training.pictures import Pictures, read_pictures
from evenhand.training.precision import settled
from evenhand.training.run_directory import Progress
from evenhand.training.train_on_images import settings_of, train_on


def train_fairtl(
    recipe: FairTl,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> pathlib.Path:
    """Adapts a model to a small balanced reference set and writes the result.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
            `reference.json` says what the reference set holds.
        name: of the recipe, for `adapter.json`.
        progress: called after every step with (steps done, losses and gradient norm), and before as
            `evenhand.adapt.train` says.

    Returns:
        folder of the adapter, `folder/adapter`, or of the model, `folder/model`.

    Raises:
        UserError: captions that tell a class, too few images, a model that does not follow words
            that it is asked for, and as the denoising trainer says.
    """
    folder = pathlib.Path(folder)
    recipe = settled(recipe, [folder / "run.json"])
    sets, tell = read_sets(recipe), progress or (lambda *_: None)

    def first(
        terms: dict[str, Examples],
        denoising: Denoising,
        trainable: Trainable,
        cache: pathlib.Path,
        accelerator: Any,
    ) -> Probing | None:
        begin = None
        if recipe.probing:
            reference, places = terms["loss"], (folder, cache)
            begin = probing(recipe, reference, denoising, trainable, *places, accelerator, tell)
        if recipe.critic:
            with_critic(recipe, terms, denoising, trainable, cache, tell)
        return begin

    return train_on(
        recipe,
        folder,
        lambda denoising, cache: losses(recipe, sets, denoising, cache, tell),
        settings=_settings(recipe, sets),
        name=name,
        progress=progress,
        first=first,
        rounds=recipe.critic.rounds if recipe.critic else 1,
    )


def read_sets(recipe: FairTl) -> dict[str, Pictures]:
    """The reference images of a recipe, and the biased set's, by the recipe's key."""
    found = {} if recipe.images is None else {"images": read_pictures(recipe.images)}
    if recipe.importance:
        found["importance"] = read_pictures(recipe.importance.images)
    return found


def losses(
    recipe: FairTl,
    sets: dict[str, Pictures],
    denoising: Denoising,
    folder: pathlib.Path,
    tell: Progress,
) -> dict[str, Examples]:
    """The terms of the loss, by name; a batch of each is drawn a step.

    Called before anything is trained: the model draws its own images here.
    """
    terms: dict[str, Examples] = {}
    feedback = recipe.feedback
    if recipe.images:
        pictures = sets["images"]
        terms["loss"] = on_reference(recipe, reference_set(recipe, pictures, denoising, folder))
        if recipe.importance:
            large = sets["importance"]
            terms |= weighted(recipe, terms["loss"], pictures, large, denoising, folder)
    if recipe.own and (recipe.said or recipe.keep):
        own = own_images(recipe, denoising, folder, tell)
        if feedback and recipe.said:
            (attribute,) = recipe.target.attributes
            refuse_if_words_ignored(own, attribute, denoising, recipe)
            terms["said"] = own.said(recipe.target.by_class, feedback.share)
        if recipe.keep:
            names = recipe.keep.attributes or recipe.target.attributes
            terms["keep"] = own.kept(names, recipe.keep.weight, recipe.keep.batch)
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


def _settings(recipe: FairTl, sets: dict[str, Pictures]) -> dict[str, Any]:
    """What the run's folder keeps, the names of the user's files in one spelling.

    Of images and prompt sets it keeps digests: the same name may hold others later.
    """
    own, held_out = recipe.own, recipe.held_out
    named = [name for name in (own and own.prompts, held_out) if name]
    found = {
        **settings_of(recipe),
        "images": recipe.images and recipe.images.settings(),
        "own": own and {**own.model_dump(mode="json"), "prompts": one_spelling(own.prompts)},
        "held_out": held_out and one_spelling(held_out),
        "pictures": {name: pictures.digest for name, pictures in sets.items()},
        "texts": {one_spelling(name): load_prompts(name).digest for name in named},
    }
    if recipe.importance:
        found["importance"] = {
            **recipe.importance.model_dump(mode="json"),
            "images": recipe.importance.images.settings(),
        }
    return found
