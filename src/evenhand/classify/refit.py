"""DFR: the last layer fitted anew on balanced images that were kept back, with scikit-learn.

Kirichenko et al., ICLR 2023 (arXiv 2204.02937). The features of the network stay as they are.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from evenhand.classify.examples import Examples
from evenhand.classify.network import Classifier, passed
from evenhand.core.errors import UserError
from evenhand.devices import default_device
from evenhand.recipes.classify import Classify
from evenhand.recipes.classify_parts import Refit
from evenhand.stats.groups import group_accuracies

ITERATIONS = 500  # of scikit-learn's solver, at most
Floats = NDArray[np.float64]


def refit(model: Classifier, data: Examples, recipe: Classify) -> None:
    """Puts a last layer in place that is fitted on the images' features.

    Args:
        model: its features stay as they are.
        data: images that trained nothing, with their groups.
        recipe: says how, in `refit`.

    Raises:
        UserError: a group has too few images to be split in halves.
    """
    assert recipe.refit
    device = default_device()
    batches = passed(model, data, batch=recipe.batch, dtype=recipe.dtype, device=device)
    found = [features for _, features in batches]
    weight, bias = last_layer_of(
        torch.cat(found).double().numpy(),
        data.labels.numpy(),
        data.groups.numpy(),
        recipe.refit,
        seed=recipe.seed,
    )
    with torch.no_grad():
        model.last[0].weight.copy_(torch.from_numpy(weight))
        model.last[0].bias.copy_(torch.from_numpy(bias))


def last_layer_of(
    features: Floats, labels: NDArray, groups: NDArray, how: Refit, *, seed: int
) -> tuple[Floats, Floats]:
    """Weight `[K, D]` and bias `[K]` of a logistic regression with an l1 penalty.

    Its strength is the one with the best worst group on one half of the images, fitted on the
    other half; the coefficients are the mean of fits to balanced draws of all of them.

    Args:
        features: `[N, D]`.
        labels: `[N]`, 0 to K - 1.
        groups: `[N]`.
        how: strengths and number of draws.
        seed: of the draws.

    Raises:
        UserError: a group has fewer than two images.
    """
    rng, numbers = np.random.default_rng(seed), np.unique(groups)
    mean, scale = features.mean(0), features.std(0) + 1e-8
    x = (features - mean) / scale
    least = min(int((groups == g).sum()) for g in numbers)
    if least < 2:
        raise UserError(
            "refit: a group has a single validation image, and it takes two; label more, or leave "
            "refit out"
        )
    first = np.concatenate(
        [rng.permutation(np.flatnonzero(groups == g))[: (groups == g).sum() // 2] for g in numbers]
    )
    second = np.setdiff1d(np.arange(len(x)), first)
    drawn = _balanced(groups, first, rng)

    def worst(strength: float) -> float:
        weight, bias = _fitted(x[drawn], labels[drawn], strength)
        right = (x[second] @ weight.T + bias).argmax(1) == labels[second]
        return float(np.nanmin(group_accuracies(right, groups[second], int(numbers.max()) + 1)))

    best = max(how.strengths, key=worst)
    fits = []
    for _ in range(how.repeats):
        rows = _balanced(groups, np.arange(len(x)), rng)
        fits.append(_fitted(x[rows], labels[rows], best))
    weight = np.mean([w for w, _ in fits], 0) / scale
    return weight, np.mean([b for _, b in fits], 0) - weight @ mean


def _balanced(groups: NDArray, rows: NDArray, rng: np.random.Generator) -> NDArray:
    """As many random rows of every group as the smallest has."""
    parts = [rows[groups[rows] == g] for g in np.unique(groups[rows])]
    least = min(map(len, parts))
    return np.concatenate([rng.permutation(part)[:least] for part in parts])


def _fitted(x: Floats, labels: NDArray, strength: float) -> tuple[Floats, Floats]:
    """Weight `[K, D]` and bias `[K]`; of two classes the first has 0."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(
        l1_ratio=1.0, C=strength, solver="saga", max_iter=ITERATIONS, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as far as it came is good enough
        solver.fit(x, labels)
    weight, bias = np.asarray(solver.coef_), np.asarray(solver.intercept_)
    if len(weight) == 1:
        weight, bias = np.vstack([0 * weight, weight]), np.r_[0.0, bias]
    return weight, bias
