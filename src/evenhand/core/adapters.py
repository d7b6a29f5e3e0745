"""Adapter folders: where they are, and what `adapter.json` says of them.

Loading one is `evenhand.diffusion.adapters`.
"""

import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import digest
from evenhand.core.resources import ROOT, is_path, no_such
from evenhand.core.schema import versioned

LORA = "pytorch_lora_weights.safetensors"


SOFT_TOKENS = "soft_tokens.safetensors"


SCHEMA = 2  # of adapter.json; 1 had no `schema`


CLIP_NAMES = (
    "clip_l",
    "clip_g",
)  # keys of a soft-token file for two encoders, as other software writes them


@dataclass(frozen=True)
class Adapter:
    """A folder of weights, found and read once.

    Attributes:
        name: what the user called it.
        weights: its file, `LORA` or `SOFT_TOKENS`.
        digest: of the weights.
        described: what `adapter.json` says; {} where an adapter made elsewhere has none.
    """

    name: str
    weights: pathlib.Path
    digest: str
    described: dict[str, Any]

    @property
    def folder(self) -> pathlib.Path:
        """Where it lies."""
        return self.weights.parent

    @property
    def is_lora(self) -> bool:
        """Whether it is LoRA; else it is soft tokens."""
        return self.weights.name == LORA

    @property
    def source(self) -> str:
        """Its part of the source of records: `folder's name@digest`."""
        return f"{self.folder.resolve().name}@{self.digest}"


def find_adapter(name: str | os.PathLike) -> Adapter:
    """The adapter in a folder the user gives, or one that ships (a bare name).

    Raises:
        UserError: there is none, it holds no weights, or its `adapter.json` is damaged or newer
            than this evenhand.
    """
    given = isinstance(name, os.PathLike) or is_path(name)
    name = os.fspath(name)
    folder = pathlib.Path(name) if given else ROOT / "adapters" / name
    if not folder.is_dir():
        raise no_such("adapter", name, shipped_adapters())
    for file in (LORA, SOFT_TOKENS):
        if (folder / file).is_file():
            return Adapter(name, folder / file, digest(folder / file), _described(folder))
    raise UserError(f"adapter {name!r}: {folder} holds neither {LORA} nor {SOFT_TOKENS}")


def shipped_adapters() -> list[str]:
    """Names of the adapters that ship."""
    return sorted(p.parent.name for p in (ROOT / "adapters").glob("*/*.safetensors"))


def _described(folder: pathlib.Path) -> dict[str, Any]:
    """What the folder's `adapter.json` says; {} without one."""
    path = folder / "adapter.json"
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping of keys to values")
    versioned(values, kind="adapter description", newest=SCHEMA, where=str(path))
    return values
