"""An adapter for each group of labelled images, or each cluster of one; or one and their tokens."""

import functools
import os
import pathlib
from typing import Any

import torch

from evenhand.adapt.dreambooth.clusters import columns_of
from evenhand.adapt.dreambooth.groups import Part, find_groups
from evenhand.adapt.dreambooth.learned import (
    UNTOLD,
    Learned,
    encoded_parts,
    learned_by,
    parts_of,
    tokens_of,
)
from evenhand.adapt.dreambooth.tokens import at_their_rate, attach_tokens, save_token, with_tokens
from evenhand.core.adapter_sets import SHARED, Base, Entry, SetFile, write_set
from evenhand.core.files import digest_of
from evenhand.diffusion.denoising import Denoising
from evenhand.recipes.dreambooth import SLOT, Dreambooth
from evenhand.recipes.model import load_model
from evenhand.reports.set_card import write_set_card
from evenhand.training.denoise import denoise
from evenhand.training.description import description
from evenhand.training.examples import Examples, of_the_model
from evenhand.training.pictures import Pictures, captions_of
from evenhand.training.precision import settled
from evenhand.training.processes import logged, training
from evenhand.training.run_directory import Progress
from evenhand.training.steps import Save
from evenhand.training.train_on_images import (
    FREE,
    attach_trained,
    load_denoising,
    save_trained,
    settings_of,
)


def train_dreambooth(
    recipe: Dreambooth,
    folder: str | os.PathLike,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> pathlib.Path:
    """Trains adapters on the subgroups of labelled images, and writes them as a set.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
        name: of the recipe, for `set.json`.
        progress: called after every step with (steps done of all adapters, losses and gradient
            norm), and with (0, `{"drawn": n}`) while images of prior preservation are drawn.

    Returns:
        folder of the set, `folder/adapter`, each of whose folders any diffusers loads.

    Raises:
        UserError: images, labels, captions, features or a model that cannot be had; a token that is
            a word in use; another run's folder; a pipeline that cannot be trained on images; a
            training that diverged.
    """
    folder = pathlib.Path(folder)
    recipe = settled(recipe, [folder / "run.json"])
    tell: Progress = progress or (lambda *_: None)
    found = find_groups(recipe)
    # what is missing in a caption is said before anything is loaded
    untold = {**found.slots(), SLOT: [UNTOLD] * len(found.rows)}
    captions = captions_of(found.rows, recipe.images, untold)
    pictures = Pictures(recipe.images, found.rows, captions, found.files)
    settings = {
        **settings_of(recipe),
        "images": recipe.images.settings(),
        "pictures": {
            "images": pictures.digest,
            "groups": digest_of([found.groups, found.of]),
            "clusters": digest_of(columns_of(recipe, found)),
        },
    }
    with training(folder, settings, free=FREE) as accelerator:
        cache = folder if accelerator.is_main_process else folder / f"{accelerator.process_index}"
        parts = parts_of(recipe, found, folder, accelerator)
        denoising = load_denoising(recipe, accelerator)
        parts, latents = encoded_parts(recipe, pictures, parts, denoising, cache)
        tokens = tokens_of(recipe, parts, denoising)
        learned = learned_by(recipe, found, parts, latents, tokens)
        prior = of_the_model(recipe, denoising, cache, tell)
        _train(recipe, name, folder, denoising, learned, prior, tokens, accelerator, tell)
        if accelerator.is_main_process:
            _write_set(recipe, name, folder / "adapter", denoising, parts, tokens)
    return folder / "adapter"


def _train(
    recipe: Dreambooth,
    name: str,
    folder: pathlib.Path,
    denoising: Denoising,
    learned: list[Learned],
    prior: dict[str, Examples],
    tokens: dict[str, str],
    accelerator: Any,
    tell: Progress,
) -> None:
    """Trains one adapter after the other, each from the same beginning, and writes them."""
    shared, embeddings = recipe.per == "shared", {}
    if shared:
        embeddings = attach_tokens(denoising.diffusion, tokens, seed=recipe.seed)
    trainable = attach_trained(recipe, denoising)
    if shared:
        trainable = with_tokens(trainable, embeddings)
    how = at_their_rate(recipe) if shared else recipe
    beginning = [p.detach().clone() for p in trainable.parameters]
    before = 0
    for one in learned:
        with torch.no_grad():
            for parameter, value in zip(trainable.parameters, beginning, strict=True):
                parameter.copy_(value)
        save = functools.partial(
            save_trained,
            recipe=recipe,
            name=name,
            denoising=denoising,
            trainable=trainable,
            captions=one.shown,
        )
        steps = denoise(
            denoising,
            trainable,
            {"loss": one.examples, **prior},
            how.model_copy(update={"steps": one.steps}),
            folder / "parts" / one.name,
            accelerator=accelerator,
            report=logged(accelerator, tell, before),
            save=save,
        )
        before += one.steps

        def save_all(where: pathlib.Path, one: Learned = one, save: Save = save) -> None:
            save(where / one.name)
            for part, parameters in embeddings.items():
                save_token(
                    where / part,
                    denoising.diffusion,
                    tokens[part],
                    parameters,
                    [x for x in one.examples.captions if tokens[part] in x],
                    description(denoising.diffusion.source, name, recipe),
                )

        steps.write(save_all, folder / "adapter")


def _write_set(
    recipe: Dreambooth,
    name: str,
    folder: pathlib.Path,
    denoising: Denoising,
    parts: list[Part],
    tokens: dict[str, str],
) -> None:
    """Writes `set.json` and the set's card."""
    shared = recipe.per == "shared"
    members = [
        Entry(
            name=part.name,
            group=part.group,
            cluster=part.cluster,
            size=len(part.rows),
            token=tokens[part.name],
            adapters=[SHARED, part.name] if shared else [part.name],
        )
        for part in parts
    ]
    model = load_model(recipe.model)
    described = SetFile(
        **description(denoising.diffusion.source, name, recipe),
        base=Base(path=model.path, revision=model.revision, licence=model.licence),
        per=recipe.per,
        caption=recipe.images.caption,
        members=members,
    )
    write_set(folder, described)
    write_set_card(folder)
