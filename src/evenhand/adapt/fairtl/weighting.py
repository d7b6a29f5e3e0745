"""Importance weights of a biased set (Choi et al., ICML 2020, arXiv 1910.12008)."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.diffusion.denoising import Denoising
from evenhand.features.networks import load_features, thumbnails
from evenhand.images.labelled import readable
from evenhand.images.tensors import in_batches
from evenhand.judges.registry import load_judge
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.judge import find_judge
from evenhand.training.examples import Examples, examples_of
from evenhand.training.pictures import Pictures

KERNEL = 500  # images whose nearness is a feature of the density ratio's classifier


def weighted(
    recipe: FairTl,
    reference: Examples,
    pictures: Pictures,
    large: Pictures,
    denoising: Denoising,
    folder: pathlib.Path,
) -> dict[str, Examples]:
    """The reference set and the biased one, whose images have weights, as parts of one loss.

    A weight is d/(1 - d), where a classifier, which did not see the image, says d that it is of the
    reference set; both sets count as equally large there. Their mean is brought to 1.
    The two terms share the reference set's weight by their images; its teacher stays.

    Args:
        recipe: of the training.
        reference: the reference set's term of the loss.
        pictures: the reference set.
        large: the biased one.
        denoising: the model.
        folder: of the run.

    Raises:
        UserError: images or features that cannot be had.
    """
    biased = examples_of(large, denoising, folder / "biased.safetensors", recipe.at_once)
    embed = _features(recipe, denoising)
    ours, theirs = (_embedded(x, embed) for x in (pictures, large))
    ratios = density_ratios(ours, theirs)
    if len(ratios) != len(biased):
        raise UserError(f"{large.wanted.path}: changed while it was read")
    n, m = len(reference), len(biased)
    write_json(
        folder / "importance.json",
        {
            "images": m,
            "effective": round(float(ratios.sum() ** 2 / (ratios**2).sum()), 1),
            "greatest": round(float(ratios.max()), 3),
        },
    )
    return {
        "loss": dataclasses.replace(reference, weight=reference.weight * n / (n + m)),
        "biased": dataclasses.replace(
            biased, weight=reference.weight * m / (n + m), importance=ratios
        ),
    }


def density_ratios(reference: np.ndarray, biased: np.ndarray) -> Tensor:
    """Weights `[M]`, mean 1, of biased features `[M, D]` against the reference's `[N, D]`.

    The classifier is logistic on the features of a radial kernel. A linear one would see how often
    women are drawn, but not how often a pilot is one.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([reference, biased])
    y = np.repeat([1, 0], [len(reference), len(biased)])
    if len(reference) < 5 or len(biased) < 5:
        raise UserError("importance: a set of fewer than 5 images has no density to speak of")
    kernel = Nystroem(gamma=1 / x.shape[1], n_components=min(KERNEL, len(x) // 2), random_state=0)
    logistic = LogisticRegression(max_iter=1000, class_weight="balanced")
    classifier = make_pipeline(StandardScaler(), kernel, logistic)
    model = CalibratedClassifierCV(classifier, method="sigmoid", cv=5)
    found: Any = cross_val_predict(model, x, y, cv=5, method="predict_proba")
    d = found[len(reference) :, 1]
    ratios = d / np.maximum(1 - d, 1e-6)
    return torch.tensor(ratios / ratios.mean(), dtype=torch.float32)


def _features(recipe: FairTl, denoising: Denoising) -> Any:
    """The network in whose features the sets are told apart."""
    assert recipe.importance is not None
    device, judge = denoising.diffusion.device, recipe.importance.judge
    of_judge = load_judge(find_judge(judge), device=device).features if judge else thumbnails
    ((_, embed),) = load_features([recipe.importance.features], of_judge, device=device)
    if recipe.importance.features.kind == "pixels":
        embed = thumbnails  # images may be of several sizes
    return lambda images: embed(images.to(device)).flatten(1)


@torch.no_grad()
def _embedded(pictures: Pictures, embed: Any) -> np.ndarray:
    """Features `[N, D]` of a set's images, in their order."""
    found: dict[int, Tensor] = {}
    images = readable(pictures.rows, pictures.wanted.path)
    for numbers, pixels in in_batches(images, 32):
        found.update(zip(numbers, embed(pixels).cpu(), strict=True))
    return torch.stack([found[i] for i in sorted(found)]).numpy()
