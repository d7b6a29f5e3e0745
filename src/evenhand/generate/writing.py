"""Contexts that a language model writes."""

import pathlib

from evenhand.core.errors import UserError
from evenhand.recipes.generate import Generate


def written(config: Generate, folder: pathlib.Path) -> list[str] | None:
    """The text of each row that the vocabulary drew; None where the recipe has no writer."""
    if config.contexts.writer is None:
        return None
    raise UserError("contexts.writer: is not there yet")
