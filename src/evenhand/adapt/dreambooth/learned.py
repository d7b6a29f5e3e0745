"""What each adapter of a training on subgroups learns: its images, captions, token and steps."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evenhand.adapt.dreambooth.clusters import FILE, find_parts
from evenhand.adapt.dreambooth.groups import Groups, Part
from evenhand.adapt.dreambooth.words import check_learned, check_token
from evenhand.core.adapter_sets import SHARED
from evenhand.core.errors import UserError
from evenhand.diffusion.denoising import Denoising
from evenhand.recipes.dreambooth import SLOT, Dreambooth
from evenhand.training.examples import Examples, encoded
from evenhand.training.pictures import Pictures, captions_of
from evenhand.training.processes import same_everywhere

UNTOLD = "picture"  # in captions of images that no token is learned of


@dataclass(frozen=True)
class Learned:
    """What one adapter learns.

    Attributes:
        name: its folder.
        examples: images and captions.
        steps: of its training.
        shown: captions of its reference images, without tokens that are files of their own.
    """

    name: str
    examples: Examples
    steps: int
    shown: list[str]


def parts_of(
    recipe: Dreambooth, found: Groups, folder: pathlib.Path, accelerator: Any
) -> list[Part]:
    """The parts, found by the main process and read by the others."""
    main = accelerator.is_main_process
    parts = find_parts(recipe, found, folder) if main else []
    accelerator.wait_for_everyone()
    same_everywhere(accelerator, folder / FILE)
    return parts if main else find_parts(recipe, found, folder)


def encoded_parts(
    recipe: Dreambooth,
    pictures: Pictures,
    parts: list[Part],
    denoising: Denoising,
    cache: pathlib.Path,
) -> tuple[list[Part], dict[int, torch.Tensor]]:
    """The parts without images that cannot be read, and the latents of each row."""
    file = cache / "images.safetensors"
    latents, kept = encoded(pictures, denoising, file, recipe.at_once)
    of = dict(zip(kept, latents, strict=True))
    return [Part(p.name, p.group, p.cluster, [i for i in p.rows if i in of]) for p in parts], of


def tokens_of(recipe: Dreambooth, parts: list[Part], denoising: Denoising) -> dict[str, str]:
    """The token of each part, by its name, looked at by the model's tokenizers."""
    pipe = denoising.diffusion.pipe
    if recipe.per != "shared":
        if recipe.token:
            check_token(pipe, recipe.token)
        return {part.name: recipe.token or "" for part in parts}
    tokens = {part.name: f"<{recipe.token or 'evenhand'}-{part.name}>" for part in parts}
    check_learned(pipe, list(tokens.values()))
    return tokens


def learned_by(
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
    words = [of.get(i, UNTOLD) for i in range(len(found.rows))]  # UNTOLD: cannot be read
    captions = captions_of(found.rows, recipe.images, {**found.slots(), SLOT: words})
    if empty := [part.name for part in parts if not part.rows]:
        raise UserError(f"{recipe.images.path}: no image of {empty[0]} can be read")

    def examples(rows: Sequence[int]) -> Examples:
        return Examples(torch.stack([latents[i] for i in rows]), [captions[i] for i in rows])

    if recipe.per == "shared":
        untold = {**found.slots(), SLOT: [recipe.token or UNTOLD] * len(found.rows)}
        alone = captions_of(found.rows, recipe.images, untold)
        return [Learned(SHARED, examples(sorted(of)), recipe.steps, alone)]
    least, more = divmod(recipe.steps, len(parts))
    if not least:
        raise UserError(
            f"steps: {recipe.steps} are fewer than the {len(parts)} adapters that share them; "
            "raise steps, or train fewer groups or clusters"
        )
    return [
        Learned(part.name, x, least + (i < more), x.captions)
        for i, part in enumerate(parts)
        for x in [examples(part.rows)]
    ]
