"""Adapter folders: where they are, and what `adapter.json` says of them.

Loading one is `evenhand.diffusion.adapters`.
"""

import os
import pathlib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from evenhand.core.concept_targets import WrittenShares
from evenhand.core.errors import UserError
from evenhand.core.files import digest
from evenhand.core.resources import ROOT, is_path, no_such
from evenhand.core.schema import check, read_json, versioned

LORA = "pytorch_lora_weights.safetensors"


SOFT_TOKENS = "soft_tokens.safetensors"


SCHEMA = 2  # of adapter.json; 1 had no `schema`


CLIP_NAMES = (
    "clip_l",
    "clip_g",
)  # keys of a soft-token file for two encoders, as other software writes them


Token = Annotated[str, Field(pattern=r"^\S+$")]  # name of soft tokens, typed before a prompt


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Trainer(_Open):
    name: str | None = None
    digest: str | None = None


class _Target(_Open):
    shares: WrittenShares = {}


class _Settings(_Open):
    target: _Target = _Target()


class _Description(_Open):
    """The keys of `adapter.json` that something is done with."""

    classifier: _Trainer | None = None
    token: Token | None = None
    settings: _Settings = _Settings()
    versions: dict[str, str] = {}


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
    if os.path.isfile(name) and name.endswith(".safetensors"):
        folder = pathlib.Path(name).parent
        if os.path.basename(name) not in (LORA, SOFT_TOKENS):
            raise UserError(
                f"adapter {name!r}: an adapter is a folder that holds {LORA} or {SOFT_TOKENS}; "
                "give the file that name in a folder of its own, and name the folder"
            )
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
    values = read_json(path, what="an adapter description", advice="mend it, or delete it")
    versioned(values, kind="adapter description", newest=SCHEMA, where=str(path))
    check(_Description, values, where=str(path))
    return values
