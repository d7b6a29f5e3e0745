"""Training state on disk.

Written whole, read without unpickling code, random draws keyed by (seed, step).
"""

import hashlib
import os
import pathlib
from typing import Any

import torch

from evenhand.core.errors import UserError
from evenhand.core.files import whole


def save_state(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Saves tensors, numbers and strings so that a kill leaves the old file or the new one."""
    with whole(path) as temporary:
        torch.save(state, temporary)


def load_state(path: str | os.PathLike) -> dict[str, Any] | None:
    """Loads what `save_state` wrote, or None where nothing was written yet.

    Raises:
        UserError: the file is damaged.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); delete it to "
            "start anew"
        ) from error


def step_generator(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator that is a function of (seed, keys) alone: a resumed run draws the same."""
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
