"""AIM-Fair's mask: the tensors that move with the bias and not with the domain.

Zhao et al., CVPR 2025 (arXiv 2503.05665), section 3.3. With the mean gradient `g_D` of a biased
network on a set D, of each tensor:

    domain = mean |g_real - g_synthetic, as biased|
    bias   = mean |g_synthetic, as biased - g_synthetic, equal groups|

The mask is what is among the k tensors of the least `domain` and the k of the largest `bias`.
Pure functions of tensors.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.recipes.classify_parts import Mask
from evenhand.reports.classify_models import MaskRow
from evenhand.training.gradients import Gradients

TRIES = 500  # random orders, of which the one nearest to the wanted number of parameters is taken
NEAR = 0.02  # of that number


def scores(
    gradients: tuple[Gradients, Gradients, Gradients],
    weights: Mapping[str, Tensor],
    normalise: str = "none",
) -> dict[str, tuple[float, float]]:
    """Domain and bias sensitivity of each tensor.

    Args:
        gradients: on real images, on synthetic ones as biased, and on those of equal groups.
        weights: the network's.
        normalise: as of `evenhand.recipes.classify_parts.Mask`.
    """
    real, biased, even = gradients
    found = {}
    for name, weight in weights.items():
        domain = float((real.mean[name] - biased.mean[name]).abs().mean())
        bias = float((biased.mean[name] - even.mean[name]).abs().mean())
        factor = _factor(name, weight, gradients, normalise)
        found[name] = (domain * factor, bias * factor)
    return found


def _factor(name: str, weight: Tensor, gradients: tuple[Gradients, ...], normalise: str) -> float:
    """What a tensor's scores are multiplied by."""
    match normalise:
        case "grad_rms":
            size = sum(float(g.mean[name].square().mean()) for g in gradients) / len(gradients)
        case "fisher":
            size = sum(g.square[name] for g in gradients) / len(gradients)
        case "weight_rms":
            return float(weight.detach().float().square().mean().sqrt())
        case _:
            return 1.0
    return 1 / math.sqrt(size) if size > 0 else 0.0


def chosen(found: Mapping[str, tuple[float, float]], k: int | float) -> list[str]:
    """The k tensors of the least domain sensitivity that are among the k of the largest bias.

    `max(0, 2k - n)` to k of n tensors.

    Args:
        found: both scores of each tensor.
        k: how many; below 1 a share of all, rounded.

    Raises:
        UserError: there are none, or fewer tensors than k.
    """
    count = round(k * len(found)) if k < 1 else int(k)
    if count > len(found):
        raise UserError(f"mask.k: is {count}, and the network has {len(found)} tensors; lower it")
    names = list(found)
    least = set(sorted(names, key=lambda n: found[n][0])[:count])
    most = set(sorted(names, key=lambda n: -found[n][1])[:count])
    both = [name for name in names if name in least & most]
    if not both:
        raise UserError(
            f"mask.k: no tensor is among the {count} of the least domain sensitivity and the "
            f"{count} of the largest bias sensitivity, of {len(names)}; raise mask.k above half of "
            "them, or try mask.normalise=grad_rms"
        )
    return both


def of_as_many(sizes: Mapping[str, int], wanted: int, generator: torch.Generator) -> list[str]:
    """Random tensors whose sizes have about a sum.

    In a random order each is taken that still fits; of several orders the first is kept that comes
    near, else the nearest. Where one tensor has most of the parameters there is little choice.

    Args:
        sizes: parameters of each tensor; 1 of each, to count tensors.
        wanted: the sum.
        generator: of the orders.
    """
    names, best, least = list(sizes), list[str](), math.inf
    for _ in range(TRIES):
        taken, left = set[str](), wanted
        for i in torch.randperm(len(names), generator=generator).tolist():
            if sizes[names[i]] <= left:
                taken.add(names[i])
                left -= sizes[names[i]]
        if taken and left < least:
            best, least = [name for name in names if name in taken], left
        if least <= NEAR * wanted:
            break
    return best


def mask_of(
    how: Mask,
    gradients: tuple[Gradients, Gradients, Gradients],
    weights: Mapping[str, Tensor],
    generator: torch.Generator,
) -> list[MaskRow]:
    """Every tensor with both scores, and whether it is trained.

    Args:
        how: the recipe's.
        gradients: as of `scores`.
        weights: the network's trainable tensors by name.
        generator: of a random choice.

    Raises:
        UserError: nothing would be trained.
    """
    found = scores(gradients, weights, how.normalise)
    sizes = {name: weight.numel() for name, weight in weights.items()}
    by_scores = chosen(found, how.k)
    match how.choose:
        case "scores":
            names = by_scores
        case "random":
            each = sizes if how.match == "parameters" else dict.fromkeys(sizes, 1)
            names = of_as_many(each, sum(each[n] for n in by_scores), generator)
        case "complement":
            names = [name for name in sizes if name not in by_scores]
        case "all":
            names = list(sizes)
    if not names:
        raise UserError(f"mask.choose={how.choose}: selects no tensor of {len(sizes)}; lower k")
    return [
        MaskRow(
            tensor=n, parameters=sizes[n], domain=found[n][0], bias=found[n][1], trained=n in names
        )
        for n in sizes
    ]
