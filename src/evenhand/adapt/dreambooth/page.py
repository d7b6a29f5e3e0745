"""The page that shows the clusters of each group, so that whoever trains can look at them."""

import pathlib
from typing import Any

import numpy as np
from PIL import Image

from evenhand.adapt.dreambooth.groups import Groups, Part
from evenhand.core.files import write_text
from evenhand.images.io import Unreadable
from evenhand.images.labelled import pixels_of
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.reports.clusters import silhouette_plot
from evenhand.reports.html import page_template
from evenhand.reports.pictures import THUMBNAIL, data_uri
from evenhand.stats.clusters import Clustering

TYPICAL, OUTLYING = 10, 5  # images of a cluster that are shown, at most


def write_page(
    path: pathlib.Path,
    recipe: Dreambooth,
    found: Groups,
    parts: list[Part],
    shown: list[tuple[list[int], Clustering]],
    by: str,
) -> None:
    """Writes the page.

    Args:
        path: of the page.
        recipe: of the training.
        found: the groups.
        parts: their clusters.
        shown: rows and clustering of each group; none where a column says the clusters.
        by: what the images were compared by, in words.
    """
    groups = []
    for g, group in enumerate(found.groups):
        mine = [part for part in parts if part.group == group]
        rows, clustering = shown[g] if shown else ([], None)
        far = dict(zip(rows, clustering.distances, strict=True)) if clustering else {}
        groups.append(
            {
                "name": "/".join(group.values()) or "all images",
                "images": sum(len(part.rows) for part in mine),
                "clusters": [_cluster(found, part, far) for part in mine],
                "tried": clustering.tried if clustering else [],
                "plot": silhouette_plot(clustering.tried, recipe.clusters.silhouette)
                if clustering and len(clustering.tried) > 1
                else "",
            }
        )
    html = page_template("clusters.html.j2").render(
        groups=groups, clusters=recipe.clusters, by=by, path=pathlib.Path(recipe.images.path).name
    )
    write_text(path, html)


def _cluster(found: Groups, part: Part, far: dict[int, float]) -> dict[str, Any]:
    """A cluster's name and size, and its images nearest to its mean and farthest from it."""
    order = sorted(part.rows, key=lambda i: far.get(i, 0.0))
    near = order[:TYPICAL]
    last = [i for i in order[::-1] if i not in near][:OUTLYING] if far else []
    return {
        "name": part.name,
        "images": len(part.rows),
        "typical": [_small(found.rows[i]) for i in near],
        "outlying": [_small(found.rows[i]) for i in last],
    }


def _small(row: dict[str, Any]) -> str | None:
    try:
        pixels = pixels_of(row, side=THUMBNAIL)
    except (Unreadable, ValueError):
        return None
    return data_uri(Image.fromarray(np.ascontiguousarray(pixels)), THUMBNAIL)
