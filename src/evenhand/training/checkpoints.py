"""Training state on disk, and random draws by which a resumed training repeats itself.

Files are written whole and read without unpickling code; draws are keyed by (seed, step).
"""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator
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
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"holds a {type(state).__name__}")
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); delete it to "
            "start anew"
        ) from error
    return state


@contextlib.contextmanager
def must_fit(path: str | os.PathLike) -> Iterator[None]:
    """Context in which a checkpoint that does not fit becomes one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: is no checkpoint of this training ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); delete it to start anew"
        ) from error


def step_generator(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator that is a function of (seed, keys) alone: a resumed run draws the same."""
    return torch.Generator().manual_seed(_number(seed, keys))


@contextlib.contextmanager
def seeded(seed: int, *keys: int | str) -> Iterator[None]:
    """Context in which torch's global generators are a function of (seed, keys).

    For what takes no generator, such as initial weights and dropout. Outside, the generators are as
    they were.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(_number(seed, keys))
        yield


def _number(seed: int, keys: tuple[int | str, ...]) -> int:
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
