"""Clusters of points, their number by silhouette, none smaller than a floor. Pure functions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.core.errors import UserError

SAMPLE = 2000  # points in a silhouette, at most: its cost grows with their square


@dataclass(frozen=True)
class Tried:
    """A number of clusters.

    Attributes:
        k: of k-means.
        silhouette: mean of all points (Rousseeuw, 1987), -1 to 1: 1 where every point is far nearer
            to its own cluster than to the next; None for one cluster.
        sizes: of the clusters, smaller ones joined, descending.
    """

    k: int
    silhouette: float | None
    sizes: list[int]


@dataclass(frozen=True)
class Clustering:
    """Points divided into clusters.

    Attributes:
        labels: cluster of each point; 0 is the largest.
        tried: numbers of clusters, ascending.
        distances: of each point from its cluster's mean.
        joined: how many clusters of k-means were smaller than the floor.
    """

    labels: list[int]
    tried: list[Tried]
    distances: list[float]
    joined: int


def cluster(
    points: NDArray, *, k: int | None, k_max: int, least: float, floor: int, seed: int
) -> Clustering:
    """Divides points `[N, D]` by k-means.

    Args:
        points: of which no value is missing.
        k: number of clusters; when None that of 1 to `k_max` with the largest mean silhouette.
        k_max: at most, where `k` is None.
        least: where no silhouette is larger, there is one cluster.
        floor: least points of a cluster; smaller ones join the one whose mean is nearest, the
            smallest first.
        seed: of the first means.

    Raises:
        UserError: there are fewer different points than clusters asked for.
    """
    points = np.asarray(points, dtype=np.float64)
    different = len(np.unique(points.round(6), axis=0))
    if k is not None and k > different:
        raise UserError(
            f"clusters.k is {k}, and only {different} of {len(points)} images look different in "
            "these features; lower it"
        )
    found: dict[int, tuple[Tried, NDArray, int]] = {}
    for tried in [k] if k is not None else range(1, min(k_max, different) + 1):
        raw = _k_means(points, tried, seed)
        labels = joined(points, raw, floor)
        score = silhouette(points, labels, seed)
        sizes = sorted(np.bincount(labels).tolist(), reverse=True)
        small = int((np.bincount(raw) < floor).sum()) if tried > 1 else 0
        found[tried] = Tried(tried, score, sizes), labels, small
    best = max(found, key=lambda x: (_score(found[x][0], least), -x))
    labels, means = found[best][1], _means(points, found[best][1])
    return Clustering(
        labels.tolist(),
        [x[0] for x in found.values()],
        np.linalg.norm(points - means[labels], axis=1).tolist(),
        found[best][2],
    )


def _score(tried: Tried, least: float) -> float:
    return least if tried.silhouette is None else max(tried.silhouette, least)


def _k_means(points: NDArray, k: int, seed: int) -> NDArray:
    """Cluster of each point, by k-means (the best of ten starts)."""
    if k == 1:
        return np.zeros(len(points), dtype=int)
    from sklearn.cluster import KMeans

    how: dict[str, Any] = {"n_init": 10, "random_state": seed % 2**32}
    return np.asarray(KMeans(k, **how).fit_predict(points), dtype=int)


def joined(points: NDArray, labels: NDArray, floor: int) -> NDArray:
    """Labels in which no cluster is smaller than the floor, unless it is the only one.

    The largest cluster is 0; of equal ones the one with the first point.
    """
    labels = labels.copy()
    while True:
        names, sizes = np.unique(labels, return_counts=True)
        if len(names) == 1 or sizes.min() >= floor:
            break
        smallest = names[sizes.argmin()]
        others = names[names != smallest]
        means = np.stack([points[labels == name].mean(0) for name in others])
        own = points[labels == smallest].mean(0)
        labels[labels == smallest] = others[np.linalg.norm(means - own, axis=1).argmin()]
    first = {name: int(np.argmax(labels == name)) for name in names}
    order = sorted(names, key=lambda name: (-int((labels == name).sum()), first[name]))
    return np.array([order.index(name) for name in labels], dtype=int)


def silhouette(points: NDArray, labels: NDArray, seed: int) -> float | None:
    """The mean silhouette, of at most `SAMPLE` points; None where it is not defined."""
    chosen = np.arange(len(points))
    if len(points) > SAMPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(len(points), SAMPLE, replace=False))
    if not 2 <= len(np.unique(labels[chosen])) < len(chosen):
        return None
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(points[chosen], labels[chosen]))


def _means(points: NDArray, labels: NDArray) -> NDArray:
    return np.stack([points[labels == c].mean(0) for c in range(labels.max() + 1)])
