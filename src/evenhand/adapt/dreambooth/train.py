"""An adapter for each group of labelled images, or each cluster of one; or one and their tokens."""

import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evenhand.adapt.dreambooth.card import write_card
from evenhand.adapt.dreambooth.clusters import FILE, find_parts
from evenhand.adapt.dreambooth.groups import Groups, Part, find_groups
from evenhand.adapt.dreambooth.tokens import at_their_rate, attach_tokens, save_token, with_tokens
from evenhand.adapt.dreambooth.words import check_learned, check_token
from evenhand.core.adapter_sets import SHARED, Entry, SetFile, write_set
from evenhand.core.errors import UserError
from evenhand.core.resources import one_spelling
from evenhand.diffusion.denoising import Denoising
from evenhand.recipes.dreambooth import SLOT, Dreambooth
from evenhand.training.denoise import denoise
from evenhand.training.denoised import (
    CUTS,
    attach_trained,
    load_denoising,
    resolved,
    save_trained,
    settings_of,
)
from evenhand.training.examples import Examples, captions_of, encoded, of_the_model
from evenhand.training.processes import same_everywhere, training
from evenhand.training.run_directory import versions

Progress = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Learned:
    """What one adapter learns.

    Attributes:
        name: its folder.
        examples: images and captions.
        steps: of its training.
    """

    name: str
    examples: Examples
    steps: int


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
    folder, recipe = pathlib.Path(folder), resolved(recipe)
    tell: Progress = progress or (lambda *_: None)
    found = find_groups(recipe)
    # what is missing in a caption is said before anything is loaded
    captions_of(found.rows, recipe.images, {**found.slots(), SLOT: [""] * len(found.rows)})
    settings = {
        **settings_of(recipe),
        "images": {**recipe.images.model_dump(), "path": one_spelling(recipe.images.path)},
    }
    with training(folder, settings, free=CUTS) as accelerator:
        cache = folder if accelerator.is_main_process else folder / f"{accelerator.process_index}"
        parts = _parts(recipe, found, folder, accelerator)
        denoising = load_denoising(recipe, accelerator)
        parts, latents = _encoded(recipe, found, parts, denoising, cache)
        tokens = _tokens(recipe, parts, denoising)
        learned = _learned(recipe, found, parts, latents, tokens)
        prior: dict[str, Examples] = {}
        if recipe.prior:
            drawn = of_the_model(
                recipe.prior, denoising, cache, recipe.seed, lambda n: tell(0, {"drawn": n})
            )
            prior = {"prior": drawn}
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
        embeddings = attach_tokens(denoising.diffusion, list(tokens.values()), seed=recipe.seed)
    trainable = attach_trained(recipe, denoising)
    if shared:
        trainable, recipe = with_tokens(trainable, embeddings), at_their_rate(recipe)
    beginning = [p.detach().clone() for p in trainable.parameters]
    before = 0
    for one in learned:
        with torch.no_grad():
            for parameter, value in zip(trainable.parameters, beginning, strict=True):
                parameter.copy_(value)

        place = folder / "parts" / one.name
        place.mkdir(parents=True, exist_ok=True)

        def report(done: int, row: dict[str, float], before: int = before) -> None:
            tell(before + done, row)

        optimizer = denoise(
            denoising,
            trainable,
            {"loss": one.examples, **prior},
            recipe.model_copy(update={"steps": one.steps}),
            place,
            accelerator=accelerator,
            report=report,
        )
        before += one.steps
        if accelerator.is_main_process:
            with optimizer.averaged():
                where = folder / "adapter"
                save_trained(
                    where / one.name, recipe, name, denoising, trainable, one.examples.captions
                )
                for (place, token), parameters in zip(tokens.items(), embeddings.values()):
                    save_token(where / place, token, parameters, _said(denoising, name))


def _parts(
    recipe: Dreambooth, found: Groups, folder: pathlib.Path, accelerator: Any
) -> list[Part]:
    """The parts, found by the main process and read by the others."""
    if accelerator.is_main_process:
        find_parts(recipe, found, folder)
    accelerator.wait_for_everyone()
    same_everywhere(accelerator, folder / FILE)
    return find_parts(recipe, found, folder)


def _encoded(
    recipe: Dreambooth, found: Groups, parts: list[Part], denoising: Denoising, cache: pathlib.Path
) -> tuple[list[Part], dict[int, torch.Tensor]]:
    """The parts without images that cannot be read, and the latents of each row."""
    latents, kept = encoded(found.rows, recipe.images, denoising, cache)
    of = dict(zip(kept, latents, strict=True))
    return [Part(p.name, p.group, p.cluster, [i for i in p.rows if i in of]) for p in parts], of


def _tokens(recipe: Dreambooth, parts: list[Part], denoising: Denoising) -> dict[str, str]:
    """The token of each part, by its name, looked at by the model's tokenizers."""
    pipe = denoising.diffusion.pipe
    if recipe.per != "shared":
        if recipe.token:
            check_token(pipe, recipe.token)
        return {part.name: recipe.token or "" for part in parts}
    tokens = {part.name: f"<{recipe.token or 'evenhand'}-{part.name}>" for part in parts}
    check_learned(pipe, list(tokens.values()))
    return tokens


def _learned(
    recipe: Dreambooth,
    found: Groups,
    parts: list[Part],
    latents: dict[int, torch.Tensor],
    tokens: dict[str, str],
) -> list[Learned]:
    """What each adapter learns; together they have the recipe's steps.

    Raises:
        UserError: fewer steps than adapters, or a part of which no image can be read.
    """
    of = {i: tokens[part.name] for part in parts for i in part.rows}
    told = [of.get(i, "") for i in range(len(found.rows))]
    captions = captions_of(found.rows, recipe.images, {**found.slots(), SLOT: told})
    if empty := [part.name for part in parts if not part.rows]:
        raise UserError(f"{recipe.images.path}: no image of {empty[0]} can be read")

    def examples(rows: Sequence[int]) -> Examples:
        return Examples(torch.stack([latents[i] for i in rows]), [captions[i] for i in rows])

    if recipe.per == "shared":
        return [Learned(SHARED, examples(sorted(of)), recipe.steps)]
    least, more = divmod(recipe.steps, len(parts))
    if not least:
        raise UserError(
            f"steps: {recipe.steps} are fewer than the {len(parts)} adapters that share them; raise "
            "steps, or train fewer groups or clusters"
        )
    return [
        Learned(part.name, examples(part.rows), least + (i < more)) for i, part in enumerate(parts)
    ]


def _said(denoising: Denoising, name: str) -> dict[str, Any]:
    return {"base_model": denoising.diffusion.source, "recipe": name, "versions": versions()}


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
    described = SetFile(
        **_said(denoising, name),
        per=recipe.per,
        caption=recipe.images.caption,
        members=members,
        settings=recipe.model_dump(mode="json"),
    )
    write_set(folder, described)
    write_card(folder)
