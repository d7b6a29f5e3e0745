"""The groups of labelled images, by what their labels say."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evenhand.core.errors import UserError
from evenhand.images.labelled import digests, values, values_found
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.recipes.labels import Labels
from evenhand.training.pictures import data_of


@dataclass(frozen=True)
class Groups:
    """Labelled images that are of a group.

    Attributes:
        rows: of the data.
        groups: classes of each group, `{attribute: class}`, sorted.
        of: for each row the number of its group.
        files: for each row the digest of its image file; an empty text where it cannot be read.
    """

    rows: Any
    groups: list[dict[str, str]]
    of: list[int]
    files: list[str]

    def slots(self) -> dict[str, list[str]]:
        """What captions call each row's classes, by attribute."""
        return {name: [self.groups[g][name] for g in self.of] for name in self.groups[0]}


@dataclass(frozen=True)
class Part:
    """Images that are learned as one.

    Attributes:
        name: of the part, fit for a folder.
        group: classes of its images, `{attribute: class}`.
        cluster: its number in the group; None where it is the whole group.
        rows: numbers of its images, in the groups' rows.
    """

    name: str
    group: dict[str, str]
    cluster: int | None
    rows: list[int]


def find_groups(recipe: Dreambooth) -> Groups:
    """The groups of a recipe's images. Images of no class are left out, with a warning.

    Raises:
        UserError: the data or a column is not there, or no image is of a group.
    """
    rows, path = data_of(recipe.images), recipe.images.path
    named: Mapping[str, str | Labels] = (
        recipe.groups
        if isinstance(recipe.groups, dict)
        else {column: column for column in recipe.groups}
    )
    classes = {name: _classes(rows, how, path) for name, how in named.items()}
    cells = [tuple(column[i] for column in classes.values()) for i in range(len(rows))]
    kept = [i for i, cell in enumerate(cells) if None not in cell]
    if not kept:
        columns = {
            name: how.column if isinstance(how, Labels) else how for name, how in named.items()
        }
        found = "; ".join(
            f"of {column}, {values_found(values(rows, column, path))}"
            for column in columns.values()
        )
        raise UserError(f"{path}: groups: no image is of a class of {', '.join(named)} ({found})")
    if len(kept) < len(rows):
        warnings.warn(
            f"{path}: {len(rows) - len(kept)} of {len(rows)} images are of no class of "
            f"{', '.join(named)} and count for nothing",
            stacklevel=2,
        )
    known = sorted({cells[i] for i in kept}, key=lambda cell: tuple(map(str, cell)))
    place = {cell: number for number, cell in enumerate(known)}
    groups = [dict(zip(named, map(str, cell), strict=True)) for cell in known]
    mine = rows.select(kept)
    return Groups(mine, groups, [place[cells[i]] for i in kept], digests(mine))


def _classes(rows: Any, how: str | Labels, where: str) -> list[str | None]:
    """The class of each row; None where it has none."""
    if isinstance(how, str):
        return [None if v in (None, "") else str(v) for v in values(rows, how, f"{where}: groups")]
    found = [how.find(v) for v in values(rows, how.column, f"{where}: groups")]
    return [None if k is None else how.names[k] for k in found]
