"""The numbers by which classifiers are compared, by fairlearn and as functions of confusions.

Fairlearn's are the ones that are reported; those of confusions `[..., Y, P, Y]`, equal to them, are
quick enough for intervals by resampling. No torch.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenhand.stats.rates import accuracies_of, demographic_parity, equalized_odds

Array = NDArray[Any]


def metrics(sizes: Array, proportions: Array) -> dict[str, Callable[[Array], Array]]:
    """The numbers of a report as functions of confusions `[..., Y, P, Y]`.

    Args:
        sizes: `[Y, P]` test images of each group.
        proportions: `[G]` of the training's groups.
    """

    def mean(table: Array, weights: Array) -> Array:
        return accuracies_of(table) @ weights

    even, plain = np.full(sizes.size, 1 / sizes.size), sizes.ravel() / sizes.sum()
    return {
        "worst_group": lambda table: accuracies_of(table).min(-1),
        "balanced": functools.partial(mean, weights=even),
        "accuracy": functools.partial(mean, weights=plain),
        "adjusted_accuracy": functools.partial(mean, weights=proportions),
        "equalized_odds_mean": functools.partial(equalized_odds, sizes=sizes, how="mean"),
        "equalized_odds_max": functools.partial(equalized_odds, sizes=sizes, how="max"),
        "demographic_parity": functools.partial(demographic_parity, sizes=sizes),
    }


def by_fairlearn(called: Array, groups: Array, shape: tuple[int, int]) -> dict[str, Any]:
    """The same numbers of one training by fairlearn: these are the ones that are reported.

    Args:
        called: `[N]` classes.
        groups: `[N]`.
        shape: (Y, P).

    Returns:
        `group_accuracy` `[G]`, `equalized_odds_mean`, `equalized_odds_max`, `demographic_parity`.
    """
    from fairlearn.metrics import (
        MetricFrame,
        false_positive_rate,
        selection_rate,
        true_positive_rate,
    )
    from sklearn.metrics import accuracy_score

    y, p = shape
    truth, kind = groups // p, groups % p
    frame = MetricFrame(
        metrics=accuracy_score, y_true=truth, y_pred=called, sensitive_features=groups
    )
    by_group: Any = frame.by_group
    rates = {"tpr": true_positive_rate, "fpr": false_positive_rate, "parity": selection_rate}
    found = []
    for c in [1] if y == 2 else range(y):
        one = MetricFrame(
            metrics=rates, y_true=truth == c, y_pred=called == c, sensitive_features=kind
        )
        found.append(one.difference(method="between_groups"))
    odds = np.array([[one["tpr"], one["fpr"]] for one in found])
    return {
        "group_accuracy": np.array([by_group[g] for g in range(y * p)]),
        "equalized_odds_mean": float(odds.mean()),
        "equalized_odds_max": float(odds.max()),
        "demographic_parity": float(max(one["parity"] for one in found)),
    }
