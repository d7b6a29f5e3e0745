"""The precision of a training: what `dtype: auto` means in its folder."""

import contextlib
import pathlib
from collections.abc import Iterable
from typing import Any, Protocol, Self, TypeVar

from evenhand.core.errors import UserError
from evenhand.devices import best_dtype, default_device
from evenhand.training.run_directory import settings_in

PRECISIONS = ("float32", "bfloat16", "float16")


class _WithDtype(Protocol):
    @property
    def dtype(self) -> str | None: ...

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Self: ...


Recipe = TypeVar("Recipe", bound=_WithDtype)


def settled(recipe: Recipe, runs: Iterable[pathlib.Path]) -> Recipe:
    """The recipe with a precision in place of `auto`.

    A run goes on in the precision that it began with, also on another machine. A new one takes what
    the device computes best.

    Args:
        recipe: of a training.
        runs: files `run.json` of trainings that shall have one precision; they need not be there.
    """
    if recipe.dtype != "auto":
        return recipe
    begun = next(filter(None, map(_begun, runs)), None)
    return recipe.model_copy(update={"dtype": begun or best_dtype(default_device())})


def _begun(path: pathlib.Path) -> str | None:
    """The precision of a run; None where there is none, or one that cannot be read."""
    with contextlib.suppress(UserError, AttributeError):
        settings = settings_in(path) if path.is_file() else {}
        found = settings.get("dtype") or settings.get("recipe", {}).get("dtype")
        return found if found in PRECISIONS else None
    return None
