"""Objectives: what is made of the losses of single images, so that no group is left behind.

Each is a plain function `objective(losses, groups, state) -> loss, state`. Some choose images as
well, or how often each is drawn; that is `rows_of` and `weights_of`. Nothing here knows a network.

Sources: Group-DRO: Sagawa et al., ICLR 2020 (arXiv 1911.08731), with its group-balanced batches;
CVaR: Levy et al., NeurIPS 2020; JTT: Liu et al., ICML 2021; LfF: Nam et al., NeurIPS 2020; SUBG:
Idrissi et al., CLeaR 2022.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from evenhand.recipes.classify_parts import Objective

Function = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def erm(losses: Tensor, groups: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The mean: empirical risk minimisation.

    Args:
        losses: `[N]`, one an image.
        groups: `[N]`, 0 to G - 1.
        state: `[G]`, of no meaning here.
    """
    return losses.mean(), state


def reweighting(losses: Tensor, groups: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of losses, each times its group's weight in `state` `[G]`: 1 over its size."""
    return (state[groups] * losses).mean(), state


def group_dro(
    losses: Tensor, groups: Tensor, state: Tensor, *, step_size: float
) -> tuple[Tensor, Tensor]:
    """The groups' mean losses, weighted by `state`, which grows where the loss is large.

    `q_g <- q_g exp(step_size L_g)`, normalised to sum 1; the loss is `sum_g q_g L_g`, where L_g is
    the mean loss of the batch's images of group g, and 0 where it has none.
    """
    sizes = torch.bincount(groups, minlength=len(state))
    sums = torch.zeros_like(state).index_add(0, groups, losses)
    means = sums / sizes.clamp(min=1)
    grown = state * torch.exp(step_size * means.detach())
    grown = grown / grown.sum()
    return (grown * means).sum(), grown


def cvar(losses: Tensor, groups: Tensor, state: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
    """The mean of the largest losses, a share of the batch, rounded up."""
    return losses.topk(math.ceil(share * len(losses))).values.mean(), state


def lff(losses: Tensor, groups: Tensor, state: Tensor, *, power: float) -> tuple[Tensor, Tensor]:
    """Learning from failure: a second network, biased on purpose, says which images are hard.

    It follows the generalised cross-entropy, whose gradient is that of the cross-entropy times
    `p^q`, p the probability of the true class: what is easy counts most. The first one's losses are
    weighted by `L_b / (L_b + L_d)`. (The paper smooths both over the epochs; here they are those of
    the batch.)

    Args:
        losses: `[N, 2]`: of the network that is kept, L_d, and of the biased one, L_b.
        groups: `[N]`, not looked at.
        state: of no meaning here.
        power: q.
    """
    kept, biased = losses.unbind(1)
    weight = biased.detach() / (biased.detach() + kept.detach() + 1e-8)
    easy = torch.exp(-biased.detach()) ** power
    return (weight * kept).mean() + (easy * biased).mean(), state


def function_of(objective: Objective) -> Function:
    """The function of an objective; those that only choose or draw images take the mean."""
    match objective.name:
        case "reweighting":
            return reweighting
        case "group_dro":
            return functools.partial(group_dro, step_size=objective.step_size)
        case "cvar":
            return functools.partial(cvar, share=objective.share)
        case "lff":
            return functools.partial(lff, power=objective.power)
        case _:
            return erm


def first_state(objective: Objective, groups: Tensor) -> Tensor:
    """The state `[G]` at the beginning: even weights; of reweighting those by which all count 1.

    Args:
        objective: of the stage.
        groups: `[N]` of its images, every group of which has one.
    """
    counts = torch.bincount(groups).float()
    if objective.name == "reweighting":
        return len(groups) / (len(counts) * counts)
    return torch.full_like(counts, 1 / len(counts))


def rows_of(objective: Objective, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Places of the images that are trained on: all; of SUBG as many of each as of the smallest."""
    if objective.name != "subg":
        return torch.arange(len(groups))
    least = int(torch.bincount(groups).min())
    order = torch.randperm(len(groups), generator=generator)
    kept = [order[groups[order] == g][:least] for g in groups.unique()]
    return torch.cat(kept).sort().values


def weights_of(objective: Objective, groups: Tensor, wrong: Tensor | None) -> Tensor | None:
    """How often each image is drawn, in proportion; None where every one is drawn once an epoch.

    Args:
        objective: of the stage.
        groups: `[N]`.
        wrong: `[N]` whether JTT's first training gets the image wrong.
    """
    if objective.name in {"resampling", "group_dro"}:
        return 1 / torch.bincount(groups).double()[groups]
    if objective.name == "jtt":
        assert wrong is not None
        return torch.where(wrong, objective.weight, 1.0).double()
    return None
