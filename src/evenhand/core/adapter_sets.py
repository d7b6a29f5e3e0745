"""Sets of adapters: which of them draws which group of people, and how many images it learned.

A set is a folder. Its folders are adapters, each of which any diffusers loads; `set.json` says what
each is for. Loading one is `evenhand.diffusion.adapters`.
"""

import contextlib
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from evenhand.core.adapters import Adapter, Mix, find_adapter
from evenhand.core.errors import UserError, unknown
from evenhand.core.files import write_json
from evenhand.core.schema import Count, Strict, check, read_json, versioned

FILE = "set.json"
SCHEMA = 1  # of set.json
SHARED = "shared"  # folder of an adapter that all members have in common
Folder = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]


class Entry(Strict):
    """What `set.json` says of a member.

    Attributes:
        name: of the member.
        group: classes of the images it learned, `{attribute: class}`; {} where all were one group.
        cluster: its number in the group; None where a member is a whole group's.
        size: images it learned.
        token: word by which prompts call it; "" without one.
        adapters: folders that are loaded together.
    """

    name: Folder
    group: dict[str, str]
    cluster: int | None
    size: Count
    token: str
    adapters: Annotated[list[Folder], Field(min_length=1)]


class Base(Strict):
    """The model that all members are of: folder or Hub name, and its licence, where known."""

    path: str
    revision: str | None
    licence: str | None


class Checked(Strict):
    """What came of loading the files by plain diffusers.

    Attributes:
        date: of the check.
        passed: whether nothing stands against any of them.
        digests: of the weights that were checked, by folder.
        said: what was done and found, by member, in sentences.
    """

    date: str
    passed: bool
    digests: dict[str, str]
    said: dict[str, list[str]]


class SetFile(Strict):
    """What `set.json` holds.

    Attributes:
        base_model: source of that model as it was loaded.
        base: model that all members are of.
        recipe: name of the recipe.
        per: of the recipe.
        caption: of the images, with slots for the token and for labels.
        members: in the order of groups and clusters.
        settings: of the recipe.
        versions: of what trained them.
        start: adapter that all of them began from, with what it was trained against, if any.
        verified: what `evenhand verify` found; None where it was not asked.
    """

    base_model: str
    base: Base
    recipe: str
    per: str
    caption: str
    members: Annotated[list[Entry], Field(min_length=1)]
    settings: dict[str, Any]
    versions: dict[str, str]
    start: dict[str, Any] | None = None
    verified: Checked | None = None


@dataclass(frozen=True)
class Member:
    """An adapter of a set, or several that belong together.

    Attributes:
        name, group, cluster, size, token: as `Entry`.
        mix: what is loaded; the prompts hold the token, nothing is put in front of them.
    """

    name: str
    group: dict[str, str]
    cluster: int | None
    size: int
    token: str
    mix: Mix


@dataclass(frozen=True)
class AdapterSet:
    """A set, found and read.

    Attributes:
        folder: where it lies.
        described: what `set.json` says.
        members: in its order.
    """

    folder: pathlib.Path
    described: SetFile
    members: tuple[Member, ...]

    @property
    def digests(self) -> dict[str, str]:
        """Of the weights, by folder."""
        return {adapter.folder.name: adapter.digest for adapter in self.adapters}

    @property
    def adapters(self) -> list[Adapter]:
        """All its adapters, each once."""
        found = {a.digest: a for member in self.members for a, _ in member.mix.parts}
        return list(found.values())

    def of(self, group: Mapping[str, str]) -> list[Member]:
        """The members of a group; of all groups that agree where it names a part of one.

        Raises:
            UserError: there is none.
        """
        found = [m for m in self.members if all(m.group.get(a) == c for a, c in group.items())]
        if not found:
            asked = "/".join(group.values())
            known = sorted({"/".join(m.group.values()) for m in self.members})
            raise unknown("group", asked, known, where=str(self.folder / FILE))
        return found

    def weights(self, group: Mapping[str, str], alpha: float = 0.5) -> dict[str, float]:
        """Which share of a group's images each of its members draws: size^alpha, sums to 1."""
        return weights({m.name: m.size for m in self.of(group)}, alpha)


def weights(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Shares in proportion to size^alpha: 1 as in the data, 0 all alike; they sum to 1."""
    found = {name: size**alpha for name, size in sizes.items()}
    return {name: x / sum(found.values()) for name, x in found.items()}


def is_set(name: str | os.PathLike) -> bool:
    """Whether a name means a folder that holds a set."""
    return (pathlib.Path(name) / FILE).is_file()


def find_set(folder: str | os.PathLike) -> AdapterSet:
    """The set of a folder.

    Raises:
        UserError: it holds none, `set.json` is damaged or newer than this evenhand, or one of its
            adapters is.
    """
    folder = pathlib.Path(folder)
    if not is_set(folder):
        raise UserError(f"{folder}: holds no set of adapters ({FILE})")
    where = str(folder / FILE)
    values = read_json(where, what="a set of adapters", advice="train it again")
    versioned(values, kind="set of adapters", newest=SCHEMA, where=where)
    values.pop("schema", None)
    described = check(SetFile, values, where=where)
    names = dict.fromkeys(name for entry in described.members for name in entry.adapters)
    adapters = {name: find_adapter((folder / name).resolve()) for name in names}
    members = [
        Member(
            e.name, e.group, e.cluster, e.size, e.token,
            Mix(tuple((adapters[x], 1.0) for x in e.adapters), spoken=True),
        )
        for e in described.members
    ]  # fmt: skip
    return AdapterSet(folder, described, tuple(members))


def write_set(folder: pathlib.Path, described: SetFile) -> None:
    """Writes `set.json`. What was found of the same weights stays."""
    if described.verified is None and is_set(folder):
        with contextlib.suppress(UserError):  # a damaged one is written anew
            before = find_set(folder)
            kept = before.described.verified
            if kept and kept.digests == before.digests:
                described = described.model_copy(update={"verified": kept})
    write_json(folder / FILE, {"schema": SCHEMA, **described.model_dump(mode="json")})
