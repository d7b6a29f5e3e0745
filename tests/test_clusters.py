"""Clusters of points: their number, their floor, what cannot be divided."""

import numpy as np
import pytest

from evenhand.core.errors import UserError
from evenhand.stats.clusters import cluster, joined, silhouette


def blobs(*sizes, apart=10.0):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(apart * i, 0.1, (n, 3)) for i, n in enumerate(sizes)])


def found(points, **more):
    return cluster(points, **{"k": None, "k_max": 5, "least": 0.25, "floor": 1, "seed": 0, **more})


def test_the_silhouette_finds_how_many_there_are_and_the_largest_comes_first():
    result = found(blobs(5, 9, 7))
    assert [np.bincount(result.labels).tolist(), result.joined] == [[9, 7, 5], 0]
    assert [x.k for x in result.tried] == [1, 2, 3, 4, 5]
    assert result.tried[2].silhouette > 0.95 and result.tried[0].silhouette is None
    assert max(result.distances) < 1


def test_points_without_structure_are_one_cluster():
    points = np.random.default_rng(1).normal(size=(200, 20))
    assert set(found(points).labels) == {0}
    assert len(set(found(points, k=3).labels)) == 3  # asked for


def test_clusters_below_the_floor_join_the_nearest():
    points = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [9.0]])
    labels = joined(points, np.array([1, 1, 1, 0, 0, 0, 2]), 2)
    assert labels.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert joined(points, np.arange(7), 8).tolist() == [0] * 7
    result = found(points, k=3, floor=2)
    assert result.joined == 1 and result.tried[0].sizes == [4, 3]


def test_equal_points_are_told():
    with pytest.raises(UserError, match="k is 2, and only 1 of 4 images look different"):
        found(np.ones((4, 2)), k=2)
    assert found(np.ones((4, 2))).labels == [0] * 4
    assert silhouette(np.ones((1, 2)), np.zeros(1, dtype=int), 0) is None
