"""Adapter folders: where they are, and what `adapter.json` says of them.

Loading one is `evenhand.diffusion.adapters`.
"""

import math
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from evenhand.core.concept_targets import WrittenShares
from evenhand.core.errors import UserError
from evenhand.core.files import digest
from evenhand.core.resources import ROOT, is_path, no_such, one_spelling
from evenhand.core.schema import check, read_json, versioned
from evenhand.core.weights import ENDINGS, LORA, SOFT_TOKENS, find_weights, holds_lora

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


class _Start(_Open):
    """The adapter that a training began from, and who was trained against before."""

    adapter: str = ""
    classifiers: list[_Trainer] = []


class _Target(_Open):
    shares: WrittenShares = {}


class _Settings(_Open):
    target: _Target = _Target()


class _Description(_Open):
    """The keys of `adapter.json` that something is done with."""

    classifier: _Trainer | None = None
    start: _Start | None = None
    token: Token | None = None
    settings: _Settings = _Settings()
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Adapter:
    """A file of weights, found and read once.

    Attributes:
        name: what the user called it.
        weights: its file; of an adapter of ours `LORA` or `SOFT_TOKENS`, else of any name.
        digest: of the weights.
        described: what `adapter.json` says; {} where an adapter made elsewhere has none.
        is_lora: whether it is LoRA; else it is soft tokens.
        origin: `user/repo@commit`, where it comes from the Hub.
    """

    name: str
    weights: pathlib.Path
    digest: str
    described: dict[str, Any]
    is_lora: bool = True
    origin: str | None = None

    @property
    def folder(self) -> pathlib.Path:
        """Where it lies."""
        return self.weights.parent

    @property
    def source(self) -> str:
        """Its part of the source of records: `name@digest`.

        The name is that of the folder, or of a file with a name of its own; `user/repo@commit` of
        one from the Hub.
        """
        ours = self.weights.name in (LORA, SOFT_TOKENS)
        name = self.folder.resolve().name if ours else self.weights.stem
        return f"{self.origin or name}@{self.digest}"

    @property
    def prompts(self) -> list[str]:
        """Prompt sets that its recipe names; their split `test` was not trained on."""
        settings = self.described.get("settings") or {}
        named = settings.get("prompts") or settings.get("held_out") or []
        return [named] if isinstance(named, str) else list(named)

    @property
    def classifiers(self) -> list[dict[str, Any]]:
        """Those that it was trained against, and that the adapter was which it began from."""
        own = self.described.get("classifier")
        before = (self.described.get("start") or {}).get("classifiers", [])
        return [*([own] if own else []), *before]

    @property
    def as_start(self) -> dict[str, Any]:
        """What the description of an adapter that begins from this one says of it."""
        return {"adapter": self.source, "classifiers": self.classifiers}

    def at(self, strength: float) -> "Mix":
        """This one alone, at a strength."""
        return Mix(((self, strength),))


@dataclass(frozen=True)
class Mix:
    """Adapters that are loaded into a model together, each with its strength.

    They stand in the order of their digests, whatever order they were named in, so that images do
    not depend on that.

    Attributes:
        parts: adapter and strength; none for the model as it is.
        spoken: the prompts hold the names of soft tokens; else they are put in front of each.

    Raises:
        UserError: an adapter stands twice, a strength is not finite, or soft tokens have one.
    """

    parts: tuple[tuple[Adapter, float], ...] = ()
    spoken: bool = False

    def __post_init__(self) -> None:
        of: dict[str, Adapter] = {}
        for adapter, strength in self.parts:
            what = f"adapter {adapter.name!r}"
            if not math.isfinite(strength):
                raise UserError(
                    f"{what}: its strength is {strength}; it is a number, usually from 0 to 1"
                )
            if not adapter.is_lora and strength != 1:
                raise UserError(
                    f"{what}: soft tokens have no strength (given: {strength:g}); leave it at 1, "
                    "or leave the adapter out"
                )
            if (same := of.setdefault(adapter.digest, adapter)) is not adapter:
                raise UserError(
                    f"{what}: has the weights of {same.name!r}, which is given already; leave one "
                    "out, or raise the other's strength"
                )
        parts = tuple(sorted(self.parts, key=lambda part: part[0].digest))
        object.__setattr__(self, "parts", parts)

    @property
    def source(self) -> str:
        """Its part of the source of records: `name@digest*strength` of each, joined by `+`."""
        return "+".join(f"{a.source}{f'*{x:g}' if x != 1 else ''}" for a, x in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """Its part of a run's settings: one adapter and its strength, or a table of several."""
        loaded = {f"{one_spelling(a.name)}@{a.digest}": x for a, x in self.parts}
        if len(loaded) > 1:
            return {"adapter": loaded, "adapter_scale": 1.0}
        name, strength = next(iter(loaded.items()), (None, 1.0))
        return {"adapter": name, "adapter_scale": strength}


def find_mix(strengths: Mapping[str, float]) -> Mix:
    """The adapters of these names, with the strength of each.

    Raises:
        UserError: as `find_adapter` and `Mix`.
    """
    return Mix(tuple((find_adapter(name), x) for name, x in strengths.items()))


def named_strengths(text: str) -> tuple[str, list[float]]:
    """A name and the strengths behind it: `NAME`, `NAME=.7`, or several, `NAME=0,.5,1`.

    A name may hold `=` itself: only numbers behind its last one are strengths. So `./a=b` is the
    name of a folder, and the folder `./a=1` at full strength is `./a=1=1`.
    """
    name, _, numbers = text.rpartition("=")
    try:
        return (name, [float(x) for x in numbers.split(",")]) if name else (text, [])
    except ValueError:
        return text, []


def strengths_in(settings: Mapping[str, Any]) -> dict[str, float]:
    """The digests of the adapters with which a run was drawn, and the strength of each.

    Args:
        settings: of `run.json`, as `Mix.settings` writes them.
    """
    loaded = settings.get("adapter") or {}
    if isinstance(loaded, str):
        loaded = {loaded: settings.get("adapter_scale", 1.0)}
    return {name.rpartition("@")[2]: strength for name, strength in loaded.items()}


def find_adapter(name: str | os.PathLike) -> Adapter:
    """The adapter that a name means: one that ships (a bare name), or one made anywhere.

    Args:
        name: bare; or a folder, a file, or a repository of the Hub (`find_weights`).

    Raises:
        UserError: there is none, several could be meant, its weights are damaged, or its
            `adapter.json` is damaged or newer than this evenhand.
    """
    shipped = ROOT / "adapters" / name
    given = isinstance(name, os.PathLike) or is_path(name)
    name = os.fspath(name)
    if given or (name.endswith(ENDINGS) and os.path.isfile(name)):
        found = find_weights(name)
    else:
        found = find_weights(str(shipped)) if shipped.is_dir() else None
    if not found:
        raise no_such("adapter", name, shipped_adapters())
    weights, origin = found
    described = _described(weights.parent)
    if described.get("weights", weights.name) != weights.name:
        described = {}  # it describes another file of this folder
    return Adapter(name, weights, digest(weights), described, holds_lora(weights), origin)


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
