"""Adapter folders: where they are, and what `adapter.json` says of them.

Loading one is `evenhand.diffusion.adapters`.
"""

import json
import pathlib
from typing import Any

from evenhand.core.errors import UserError, unknown
from evenhand.core.resources import ROOT

LORA = "pytorch_lora_weights.safetensors"


SOFT_TOKENS = "soft_tokens.safetensors"


CLIP_NAMES = (
    "clip_l",
    "clip_g",
)  # keys of a soft-token file for two encoders, as other software writes them


def find_adapter(name: str) -> pathlib.Path:
    """The weights file of an adapter: in a folder the user gives, or one that ships.

    Raises:
        UserError: there is none, or it holds no weights.
    """
    folder = pathlib.Path(name) if pathlib.Path(name).is_dir() else ROOT / "adapters" / name
    if not folder.is_dir():
        raise unknown("adapter", name, shipped_adapters())
    for file in (LORA, SOFT_TOKENS):
        if (folder / file).is_file():
            return folder / file
    raise UserError(f"adapter {name!r}: {folder} holds neither {LORA} nor {SOFT_TOKENS}")


def shipped_adapters() -> list[str]:
    """Names of the adapters that ship."""
    return sorted(p.parent.name for p in (ROOT / "adapters").glob("*/*.safetensors"))


def describe_adapter(name: str) -> dict[str, Any]:
    """What `adapter.json` says; {} where an adapter made elsewhere has none."""
    path = find_adapter(name).with_name("adapter.json")
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
