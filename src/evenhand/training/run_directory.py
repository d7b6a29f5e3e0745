"""Run directories: settings that must agree when a run goes on, and logs."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Collection
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import clear_stale, write_json, write_text
from evenhand.core.locks import lease
from evenhand.core.records import SCHEMA
from evenhand.core.schema import read_json
from evenhand.core.settings import differing, flat

Progress = Callable[[int, dict[str, float]], None]  # (steps done, numbers of the step)


def versions() -> dict[str, str]:
    """Versions of evenhand and of what its numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("evenhand", "torch", "diffusers", "transformers", "peft", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def peak_memory() -> int:
    """Greatest memory of this process so far, bytes: of the GPU if there is one, else resident."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_run(
    folder: str | os.PathLike, settings: dict[str, Any], free: Collection[str] = ()
) -> pathlib.Path:
    """Says whether a run of these settings may begin or go on in a folder.

    Writes nothing; what processes that were killed here left half written is removed.

    Args:
        folder: of the run.
        settings: everything that the results depend on, JSON values.
        free: dotted names of settings that only say how the work is cut up, which may change when a
            run goes on.

    Raises:
        UserError: the folder holds a run of other settings (every difference is named), or
            something else.
    """
    folder = pathlib.Path(folder)
    path = folder / "run.json"
    if path.exists():
        _compare(path, settings, free)
        clear_stale(folder)
        return folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a directory with --out")
    if folder.is_dir() and any(p for p in folder.iterdir() if not p.name.startswith(".")):
        raise UserError(
            f"{folder}: holds files but no run.json; name an empty or new directory with --out"
        )
    return folder


def settings_in(path: pathlib.Path) -> dict[str, Any]:
    """The settings that a `run.json` holds.

    Raises:
        UserError: it is damaged, or no `run.json`.
    """
    return _settings(path)[0]


def _settings(path: pathlib.Path) -> tuple[dict[str, Any], int]:
    """The settings that a `run.json` holds, and its schema."""
    run = read_json(path, what="a run's settings", advice="name another directory with --out")
    before, schema = run.get("settings"), run.get("schema", 1)
    if not isinstance(before, dict) or not isinstance(schema, int):
        raise UserError(f"{path}: not a run's settings; name another directory with --out")
    return before, schema


def _compare(path: pathlib.Path, settings: dict[str, Any], free: Collection[str]) -> None:
    before, schema = _settings(path)
    if schema != SCHEMA:
        raise UserError(
            f"{path.parent}: holds a run of {'a newer' if schema > SCHEMA else 'an older'} "
            f"evenhand (schema {schema}, this "
            f"one goes on with {SCHEMA}); name another directory with --out"
        )
    old, new = flat(before), flat(json.loads(json.dumps(settings)))
    if found := differing(old, new, free):
        raise UserError(
            f"{path.parent} holds a run of other settings: {found}. "
            "Set these as they were, name another directory with --out, or delete this one"
        )


def claim_run(folder: pathlib.Path, settings: dict[str, Any], free: Collection[str] = ()) -> None:
    """Writes `run.json`, to be called when there is a first result.

    A start that fails does not block its folder.

    Raises:
        UserError: another command with other settings has had its first result here meanwhile.
    """
    with lease(folder / ".leases" / "run", wait=True):
        if (folder / "run.json").exists():
            _compare(folder / "run.json", settings, free)
        else:
            write_json(
                folder / "run.json",
                {"schema": SCHEMA, "settings": settings, **machine()},
            )


def open_run(
    folder: str | os.PathLike, settings: dict[str, Any], free: Collection[str] = ()
) -> pathlib.Path:
    """Opens the run directory of a training, new or to be continued.

    The caller holds its lock (`evenhand.core.locks.exclusive`).

    Settings of a run that never came to a checkpoint are replaced: a start that failed does not
    block its folder.

    Raises:
        UserError: as `check_run`.
    """
    folder = pathlib.Path(folder)
    path = folder / "run.json"
    started = path.exists() and not any(folder.rglob("checkpoint*"))
    if started and settings_in(path).keys() == settings.keys():  # else another kind of run
        clear_stale(folder)
        path.unlink()
    else:
        check_run(folder, settings, free)
    claim_run(folder, settings, free)
    return folder


def machine() -> dict[str, Any]:
    """What may move single pixels by 1/255: versions, and torch's threads and device.

    `device` is the name of the accelerator, or `cpu`; threads and device are None where torch is
    not loaded.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {"versions": versions(), "threads": None, "device": None}
    accelerator = torch.accelerator.is_available() and torch.accelerator.current_accelerator()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else accelerator or "cpu"
    return {"versions": versions(), "threads": torch.get_num_threads(), "device": str(device)}


def cut_log(path: pathlib.Path, steps: int) -> None:
    """Drops lines of a JSONL log from step `steps` on (and a half-written one).

    The resumed run writes them anew.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            if json.loads(line)["step"] < steps:
                kept.append(line.decode() + "\n")
    write_text(path, "".join(kept))


def log_line(path: pathlib.Path, row: dict[str, Any]) -> None:
    """Appends one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
