"""Learned tokens, one a cluster: words that one adapter for all clusters is asked by."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from evenhand.core.adapters import SOFT_TOKENS
from evenhand.core.prompts import Prompt
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.references import save_references
from evenhand.diffusion.soft_tokens import attach_soft_tokens, soft_tokens_state
from evenhand.diffusion.trainable import Trainable
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.recipes.lora import SoftTokens
from evenhand.recipes.optimisation import Group
from evenhand.training.run_directory import machine

PATTERN = r"^soft_tokens\."  # of the parameters' names


def attach_tokens(
    diffusion: Diffusion, tokens: Mapping[str, str], *, seed: int
) -> dict[str, list[nn.Parameter]]:
    """Gives every text encoder a learned embedding for each token, which prompts then may hold.

    Args:
        diffusion: the pipeline.
        tokens: by the part that each stands for.
        seed: of their beginnings.

    Returns:
        the embeddings of each part's token, one a text encoder.

    Raises:
        UserError: the pipeline's loader takes no tokens for its text encoders.
    """
    found = {
        part: attach_soft_tokens(diffusion, SoftTokens(count=1, token=token), seed=seed + i)
        for i, (part, token) in enumerate(tokens.items())
    }
    diffusion.prefix = ""  # the captions hold them
    return found


def with_tokens(trainable: Trainable, tokens: dict[str, list[nn.Parameter]]) -> Trainable:
    """What is trained, and the tokens."""
    named = {
        f"soft_tokens.{i}.{j}": parameter
        for i, parameters in enumerate(tokens.values())
        for j, parameter in enumerate(parameters)
    }
    return dataclasses.replace(trainable, named={**trainable.named, **named})


def at_their_rate(recipe: Dreambooth) -> Dreambooth:
    """The recipe with a learning rate of their own for the tokens."""
    own = Group(match=PATTERN, learning_rate=recipe.token_learning_rate)
    optimisation = recipe.optimisation.model_copy(
        update={"groups": [own, *recipe.optimisation.groups]}
    )
    return recipe.model_copy(update={"optimisation": optimisation})


def save_token(
    folder: pathlib.Path,
    diffusion: Diffusion,
    token: str,
    parameters: list[nn.Parameter],
    captions: Iterable[str],
    description: dict[str, Any],
) -> None:
    """Writes a token as a textual-inversion file, which plain diffusers loads beside the LoRA.

    Args:
        folder: of the token.
        diffusion: the model as it was trained, of which reference images are drawn.
        token: its name.
        parameters: its embeddings.
        captions: that hold it.
        description: how it was made.
    """
    state = soft_tokens_state(parameters, SoftTokens(count=1, token=token))
    save_adapter(folder, SOFT_TOKENS, state, {**description, "token": token})
    prompts = [Prompt(text, text, "captions", "train") for text in dict.fromkeys(captions)]
    save_references(folder, diffusion, prompts, description["settings"]["seed"], machine())
