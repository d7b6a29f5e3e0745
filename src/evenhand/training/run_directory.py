"""Run directories.

Settings that must agree when a run goes on, logs, devices and trackers (accelerate: nowhere else).
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Collection
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import write_json, write_text
from evenhand.core.schema import flat


def versions() -> dict[str, str]:
    """Versions of evenhand and of what its numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("evenhand", "torch", "diffusers", "transformers", "peft", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def peak_memory() -> int:
    """Greatest memory of this process so far, bytes.

    Of the GPU where there is one, else resident (Unix).
    """
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_run(
    folder: str | os.PathLike, settings: dict[str, Any], free: Collection[str] = ()
) -> pathlib.Path:
    """Opens a run directory, new or to be continued.

    Args:
        folder: of the run.
        settings: everything that the results depend on, JSON values.
        free: dotted names of settings that only say how the work is cut up, which may change when a
            run goes on.

    Raises:
        UserError: the folder holds a run of other settings (every difference is named), or cannot
            be written.
    """
    folder = pathlib.Path(folder)
    path = folder / "run.json"
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}: not a run's settings ({error}); name another directory with --out"
            ) from error
        old, new = flat(before), flat(json.loads(json.dumps(settings)))
        differing = [
            f"{k} was {old.get(k)!r}, is {new.get(k)!r}"
            for k in sorted(old.keys() | new.keys())
            if k not in free and old.get(k) != new.get(k)
        ]
        if differing:
            more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise UserError(
                f"{folder} holds a run of other settings: {'; '.join(differing[:5])}{more}. "
                "Name another directory with --out, or delete this one"
            )
        return folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a directory with --out")
    if folder.is_dir() and any(p for p in folder.iterdir() if not p.name.startswith(".")):
        raise UserError(
            f"{folder}: holds files but no run.json; name an empty or new directory with --out"
        )
    write_json(path, {"settings": settings, "versions": versions()})
    return folder


def cut_log(path: pathlib.Path, steps: int) -> None:
    """Drops lines of a JSONL log from step `steps` on (and a half-written one).

    The resumed run writes them anew.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            if json.loads(line)["step"] < steps:
                kept.append(line + "\n")
    write_text(path, "".join(kept))


def log_line(path: pathlib.Path, row: dict[str, Any]) -> None:
    """Appends one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
