"""The clusters of each group: found once for a run, kept in its folder, shown on a page."""

import pathlib
import warnings
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evenhand.adapt.dreambooth.groups import Groups, Part
from evenhand.adapt.dreambooth.page import write_page
from evenhand.core.adapter_sets import SHARED
from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, write_json
from evenhand.core.resources import one_spelling
from evenhand.core.schema import read_json
from evenhand.devices import default_device
from evenhand.features.networks import load_features, thumbnails
from evenhand.images.labelled import readable, values
from evenhand.images.tensors import in_batches
from evenhand.judges.registry import load_judge
from evenhand.recipes.dreambooth import Clusters, Dreambooth
from evenhand.recipes.judge import find_judge
from evenhand.recipes.model import load_model
from evenhand.stats.clusters import Clustering, cluster

FILE, PAGE, SCHEMA = "clusters.json", "clusters.html", 1


def find_parts(recipe: Dreambooth, found: Groups, folder: pathlib.Path) -> list[Part]:
    """The groups of a run, or their clusters, as they stand in its folder, or found now.

    Writes `clusters.json`, and where there are clusters a page that shows them.

    Raises:
        UserError: features that cannot be had; more clusters asked for than there are different
            images; two clusters of the same images; or the folder's clusters are of other images.
    """
    key = digest_of([found.files, found.groups, found.of, _deciding_settings(recipe, found)])
    path = folder / FILE
    if path.is_file():
        kept = read_json(path, what="a run's clusters", advice="name another directory with --out")
        if kept.get("of") == key:
            return _parts(found, [(x["row"], x["cluster"]) for x in kept["images"]])
        if any(folder.rglob("checkpoint.pt")):
            raise UserError(
                f"{folder}: the images or their labels are others than when this training began; "
                "name another directory with --out"
            )
    if recipe.per == "group":
        rows: list[tuple[int, int | None]] = [(i, None) for i in range(len(found.rows))]
        write_json(path, _file(key, found, rows))
        return _parts(found, rows)
    return _divided(recipe, found, folder, key)


def _deciding_settings(recipe: Dreambooth, found: Groups) -> Any:
    """What of a recipe decides the clusters, with the columns that it looks at."""
    if recipe.per == "group":
        return None
    how = [recipe.clusters.model_dump(mode="json"), one_spelling(recipe.model), recipe.seed]
    return [*how, columns] if (columns := columns_of(recipe, found)) else how


def columns_of(recipe: Dreambooth, found: Groups) -> dict[str, list[str]]:
    """The values of the columns that have a part in the clusters, by what they are to them.

    Raises:
        UserError: no such column.
    """
    clusters = {"column": recipe.clusters.column, "less": recipe.clusters.less}
    return {
        key: list(map(str, values(found.rows, name, f"{recipe.images.path}: clusters.{key}")))
        for key, name in clusters.items()
        if name and recipe.per != "group"
    }


def _divided(recipe: Dreambooth, found: Groups, folder: pathlib.Path, key: str) -> list[Part]:
    """Finds the clusters, writes them down and shows them."""
    clusters, where = recipe.clusters, recipe.images.path
    if clusters.column:
        names = values(found.rows, clusters.column, f"{where}: clusters.column")
        shown: list[tuple[list[int], Clustering]] = []
        rows = _by_column(found, names, where)
        by = f"column {clusters.column}"
    else:
        points, numbers, by = _points(recipe, found)
        shown = _found(clusters, found, points, numbers, recipe.seed)
        rows = [
            (numbers[i], label)
            for places, clustering in shown
            for i, label in zip(places, clustering.labels, strict=True)
        ]
        shown = [([numbers[i] for i in places], x) for places, x in shown]
    parts = _parts(found, sorted(rows))
    _refuse_twins(found, parts, where)
    write_json(path := folder / FILE, _file(key, found, sorted(rows), by, shown))
    write_page(path.with_name(PAGE), recipe, found, parts, shown, by)
    return parts


def _by_column(found: Groups, names: list[Any], where: str) -> list[tuple[int, int | None]]:
    """The clusters that a column says: those of a group in the order of their names."""
    if missing := sum(name is None for name in names):
        raise UserError(f"{where}: clusters.column: {missing} images have no value")
    rows: list[tuple[int, int | None]] = []
    for g in range(len(found.groups)):
        mine = [i for i, group in enumerate(found.of) if group == g]
        known = sorted({str(names[i]) for i in mine})
        rows += [(i, known.index(str(names[i]))) for i in mine]
    return rows


def _found(
    clusters: Clusters, found: Groups, points: NDArray, numbers: list[int], seed: int
) -> list[tuple[list[int], Clustering]]:
    """Places among the points of each group's images, and their clusters; says what is odd."""
    what = values(found.rows, clusters.less, "clusters.less") if clusters.less else []
    shown = []
    for g, group in enumerate(found.groups):
        places = [i for i, number in enumerate(numbers) if found.of[number] == g]
        if not places:
            raise UserError(f"{'/'.join(group.values())}: none of its images can be read")
        mine = points[places]
        if clusters.less:
            mine = _less(mine, [what[numbers[i]] for i in places])
        clustering = cluster(
            mine, k=clusters.k, k_max=clusters.k_max, least=clusters.silhouette,
            floor=clusters.floor, seed=seed,
        )  # fmt: skip
        name = "/".join(group.values()) or "all images"
        if len(places) < clusters.floor:
            warnings.warn(
                f"{name}: {len(places)} images, fewer than clusters.floor ({clusters.floor}): they "
                "are one cluster",
                stacklevel=2,
            )
        elif clustering.joined and clusters.k:
            warnings.warn(
                f"{name}: {clustering.joined} of {clusters.k} clusters had fewer than "
                f"{clusters.floor} images (clusters.floor) and joined others",
                stacklevel=2,
            )
        shown.append((places, clustering))
    return shown


def _less(points: NDArray, what: list[Any]) -> NDArray:
    """Points less the mean of those with the same value."""
    found = points.copy()
    for value in set(what):
        same = [i for i, x in enumerate(what) if x == value]
        found[same] -= found[same].mean(0)
    return found


@torch.no_grad()
def _points(recipe: Dreambooth, found: Groups) -> tuple[NDArray, list[int], str]:
    """Features `[M, D]` of unit length, the rows that they are of, and what they are, in words."""
    clusters, device = recipe.clusters, default_device()
    judge, side, by = None, None, clusters.features.kind
    if clusters.features.kind == "classifier":
        name = clusters.judge or load_model(recipe.model).judge
        if not name:
            raise UserError("clusters.judge: name the classifier whose features are compared")
        judge = load_judge(find_judge(name), device=device)
        side, by = judge.side, f"{judge.name}@{judge.digest}"
    features = judge.features if judge else thumbnails
    if clusters.features.kind in ("clip", "dino"):
        ((_, features),) = load_features([clusters.features], thumbnails, device=device)
        by = f"{by} {clusters.features.model or ''}".rstrip()
    rows: list[int] = []
    vectors: list[Tensor] = []
    for numbers, images in in_batches(readable(found.rows, recipe.images.path, side=side), 16):
        rows += numbers
        vectors.append(features(images.to(device)).flatten(1).float().cpu())
    if not rows:
        raise UserError(f"{recipe.images.path}: holds no image that can be read")
    order = np.argsort(rows)
    points = F.normalize(torch.cat(vectors), dim=-1).double().numpy()[order]
    if not np.isfinite(points).all():
        raise UserError(f"clusters.features: {by} gives values that are not finite")
    return points, [rows[i] for i in order], by


def _parts(found: Groups, rows: list[tuple[int, int | None]]) -> list[Part]:
    """The parts that rows and their clusters make, in the order of groups and clusters."""
    mine: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for row, number in rows:
        mine[found.of[row], number].append(row)
    parts, names = [], set()
    for g, number in sorted(mine, key=lambda x: (x[0], x[1] or 0)):
        words = [*found.groups[g].values(), *([] if number is None else [str(number)])]
        name = _folder_name(words)
        while name in names or name == SHARED:
            name += "-x"
        names.add(name)
        parts.append(Part(name, found.groups[g], number, mine[g, number]))
    return parts


def _folder_name(words: list[str]) -> str:
    """A part's name, made of its labels, that is fit for a folder and for `set.json`.

    Letters and decimal digits stay; what begins with a sign ("-1", "<20") loses it.
    """
    found = "-".join("".join(c if c.isalpha() or c.isdecimal() else "-" for c in w) for w in words)
    return found.lstrip("-") or "all"


def _refuse_twins(found: Groups, parts: list[Part], where: str) -> None:
    """Raises UserError where two clusters of a group hold the very same images."""
    seen: dict[tuple[str, ...], Part] = {}
    for part in parts:
        what = tuple(sorted({found.files[i] for i in part.rows}))
        if (twin := seen.setdefault(what, part)) is not part:
            raise UserError(
                f"{where}: {twin.name} and {part.name} hold the same images; leave them out of "
                "one, or lower clusters.k"
            )


def _file(
    key: str,
    found: Groups,
    rows: list[tuple[int, int | None]],
    by: str = "",
    shown: list[tuple[list[int], Clustering]] | None = None,
) -> dict[str, Any]:
    """What `clusters.json` holds."""
    return {
        "schema": SCHEMA,
        "of": key,
        "by": by,
        "groups": found.groups,
        "tried": [[asdict(x) for x in clustering.tried] for _, clustering in shown or []],
        "images": [
            {"row": i, "digest": found.files[i], "group": found.of[i], "cluster": number}
            for i, number in rows
        ],
    }
