"""Labelled images by group: read, checked, and cut to biased parts. No image is decoded here."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from evenhand.core.errors import UserError
from evenhand.images.labelled import digests, labelled, values, values_found
from evenhand.recipes.classify import Classify
from evenhand.recipes.classify_parts import Bias
from evenhand.recipes.labels import Labels

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Table:
    """Labelled images.

    Attributes:
        where: the data and the split, for errors.
        rows: as `evenhand.images.labelled` gives them; images without a class of both attributes
            are left out.
        groups: `[N]` group of each: class of the target times P, plus protected class of P.
        digests: of each image's file.
        left_out: images without a class.
    """

    where: str
    rows: Any
    groups: NDArray[np.int64]
    digests: list[str]
    left_out: int

    def counts(self, shape: tuple[int, int], rows: NDArray[np.int64] | None = None) -> NDArray:
        """Images `[Y, P]` of each group; of some rows only, where they are given."""
        groups = self.groups if rows is None else self.groups[rows]
        return np.bincount(groups, minlength=shape[0] * shape[1]).reshape(shape)


def shape_of(recipe: Classify) -> tuple[int, int]:
    """Classes of the target, and of the protected attribute."""
    return len(recipe.target.names), len(recipe.protected.names)


def read_real(data: str | os.PathLike, recipe: Classify) -> dict[str, Table]:
    """The real images by split.

    Raises:
        UserError: a split, column or class that there is not, or an image in two splits.
    """
    found = labelled(data, split=recipe.split, seed=recipe.seed, image=recipe.image)
    tables = {}
    for split in SPLITS:
        meant = [name for name in found if name in map(str, recipe.splits[split])]
        if not meant:
            raise UserError(
                f"{data}: has no split {split}; it has {', '.join(found)}. Name the column that "
                "says it with split=COLUMN, and its values with splits.test='[...]'"
            )
        tables[split] = _table(
            _joined([found[name] for name in meant]),
            recipe.target,
            recipe.protected,
            f"{data}, {split}",
        )
    refuse_overlap(tables)
    return tables


def read_synthetic(recipe: Classify, real: Mapping[str, Table]) -> Table:
    """The synthetic images, of all splits together.

    Raises:
        UserError: they cannot be read, lack a column or a group, or are among the real ones.
    """
    assert recipe.synthetic
    known = recipe.synthetic
    rows = labelled(known.path, seed=recipe.seed, image=known.image)
    where = f"synthetic images {known.path}"
    target, protected = known.target or recipe.target, known.protected or recipe.protected
    for place, own, labels in (
        ("target", recipe.target, target),
        ("protected", recipe.protected, protected),
    ):
        if own.names != labels.names:
            raise UserError(
                f"synthetic.{place}: has the classes {', '.join(labels.names)}, the real images "
                f"{', '.join(own.names)}; name the same, in the same order"
            )
    table = _table(_joined(list(rows.values())), target, protected, where)
    refuse_empty(table.counts(shape_of(recipe)), recipe, where)
    refuse_overlap({**real, "synthetic": table})
    return table


def _joined(parts: list[Any]) -> Any:
    import datasets

    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _table(rows: Any, target: Labels, protected: Labels, where: str) -> Table:
    """The rows that have a class of both attributes.

    Raises:
        UserError: a column is not there, or a class that no image has.
    """
    found = []
    for labels in (target, protected):
        said = values(rows, labels.column, where)
        known = [labels.find(value) for value in said]
        for k, name in enumerate(labels.names):
            if k not in known:
                raise UserError(
                    f"{where}: no image has class {name!r} of column {labels.column!r} "
                    f"({values_found(said)}); classes says which values mean a class"
                )
        found.append(known)
    kept = [i for i, pair in enumerate(zip(*found, strict=True)) if None not in pair]
    groups = [found[0][i] * len(protected.names) + found[1][i] for i in kept]
    chosen = rows if len(kept) == len(rows) else rows.select(kept)
    known = digests(chosen)
    if "" in known:
        lost = chosen[known.index("")]["image"]
        raise UserError(
            f"{where}: {known.count('')} images cannot be read, such as "
            f"{(lost or {}).get('path') or 'one without a file'}; leave them out"
        )
    return Table(where, chosen, np.array(groups, dtype=np.int64), known, len(rows) - len(kept))


def refuse_overlap(tables: Mapping[str, Table]) -> None:
    """Refuses an image, to the last byte, in two splits: what is tested would be known.

    Raises:
        UserError: names the splits, how many images, and one.
    """
    seen: dict[str, str] = {}
    twice: Counter[tuple[str, str]] = Counter()
    example = {}
    for split, table in tables.items():
        for digest in dict.fromkeys(table.digests):
            if digest in seen:
                pair = (seen[digest], split)
                twice[pair] += 1
                example[pair] = digest
            else:
                seen[digest] = split
    for (one, other), n in twice.items():
        table = tables[other]
        path = table.rows[table.digests.index(example[one, other])]["image"]["path"]
        raise UserError(
            f"{table.where}: {n} image{'s' if n > 1 else ''} of {other} stand"
            f"{'' if n > 1 else 's'} in {one} as well{f', such as {path}' if path else ''}; leave "
            "them out of one"
        )


def refuse_empty(counts: NDArray, recipe: Classify, where: str) -> None:
    """Refuses a split in which a group has no image.

    Raises:
        UserError: names the groups.
    """
    empty = [name for name, n in zip(recipe.groups, counts.ravel(), strict=True) if not n]
    if empty:
        raise UserError(
            f"{where}: no image of the group {'; '.join(map(repr, empty))}. Every group needs some "
            "in each split: label more images, join classes, or with bias keep more "
            "(bias.ratio lower, bias.least higher)"
        )


def cut(table: Table, bias: Bias | None, recipe: Classify, split: str) -> NDArray[np.int64]:
    """The rows of a split that a biased part of it keeps, in the table's order.

    The images of a group are put into an order by their digests and the seed, and the first are
    kept: those of a higher ratio's rarer groups are among those of a lower ratio's.

    Raises:
        UserError: a group has fewer images than are asked for.
    """
    if bias is None or split not in bias.splits:
        return np.arange(len(table.groups))
    shape = shape_of(recipe)
    counts = table.counts(shape)
    prevailing = _prevailing(counts, bias, recipe)
    wanted = _quotas(counts, bias, prevailing)
    kept = []
    for group, (n, there) in enumerate(zip(wanted.ravel(), counts.ravel(), strict=True)):
        if n > there:
            raise UserError(
                f"{table.where}: {there} images of the group {recipe.groups[group]!r}, and "
                f"bias.images={bias.images} with bias.ratio={bias.ratio:g} takes {n}; lower "
                "bias.images"
            )
        kept.append(in_order(table, group, bias.seed)[:n])
    return np.sort(np.concatenate(kept))


def in_order(table: Table, group: int, seed: int) -> NDArray[np.int64]:
    """The rows of a group in an order that depends on their contents and the seed alone."""
    rows = np.flatnonzero(table.groups == group)
    keys = [hashlib.sha256(f"{seed}:{table.digests[i]}".encode()).digest() for i in rows]
    return rows[sorted(range(len(rows)), key=keys.__getitem__)]


def _prevailing(counts: NDArray, bias: Bias, recipe: Classify) -> NDArray[np.int64]:
    """The protected class that prevails in each class of the target."""
    if bias.prevailing is None and len(counts) > counts.shape[1]:
        return counts.argmax(1)
    if bias.prevailing is None:
        return linear_sum_assignment(-counts)[1]
    names = recipe.protected.names
    return np.array([names.index(bias.prevailing[y]) for y in recipe.target.names])


def _quotas(counts: NDArray, bias: Bias, prevailing: NDArray) -> NDArray[np.int64]:
    """Images `[Y, P]` to be kept of each group."""
    y, p = counts.shape
    wanted, rows = np.zeros_like(counts), np.arange(y)
    if bias.images is None:
        most = counts[rows, prevailing]
        rest = np.round(most * (1 - bias.ratio) / bias.ratio / (p - 1)).astype(int)
        wanted[:] = np.minimum(np.maximum(rest, bias.least)[:, None], counts)
        wanted[rows, prevailing] = most
        return wanted
    of_class = bias.images // y
    rest = max(round(of_class * (1 - bias.ratio) / (p - 1)), bias.least)
    wanted[:] = rest
    wanted[rows, prevailing] = of_class - rest * (p - 1)
    return wanted


def digest_of_rows(table: Table, rows: NDArray[np.int64]) -> str:
    """Twelve hex digits of which images these are and what groups they have, in any order."""
    lines = sorted(f"{table.digests[i]} {table.groups[i]}" for i in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
