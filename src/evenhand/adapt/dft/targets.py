"""Which class each image should have: optimal transport to random draws of the wished distribution.

Shen et al., ICLR 2024 (arXiv 2311.07604), section 4.1. No torch: arrays in, arrays out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from evenhand.core.attributes import Attribute, Target


@dataclass(frozen=True)
class Assignment:
    """Targets of one attribute for N images.

    Attributes:
        classes: `[N]` int, the target class; of no meaning where `known` is False.
        known: `[N]` bool: seen, and the transport is sure enough.
    """

    classes: NDArray[np.int64]
    known: NDArray[np.bool_]


def transport_plan(
    cost: NDArray, shares: NDArray, *, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Averages the exact transport of N images to N labels over random draws of the labels.

    Drawing the labels, instead of fixing the shares exactly, leaves images near a border without a
    sure target, so a batch that fluctuates as a sample of the target does is left alone.

    Args:
        cost: `[N, K]`, of giving image i the label k.
        shares: `[K]`, sums to 1.
        draws: label sets drawn.
        rng: source of the draws.

    Returns:
        `[N, K]`, rows sum to 1: how often image i was matched with label k.
    """
    n, k = cost.shape
    plan = np.zeros((n, k))
    for counts in rng.multinomial(n, shares, size=draws):
        labels = np.repeat(np.arange(k), counts)
        rows, columns = linear_sum_assignment(cost[:, labels])
        plan[rows, labels[columns]] += 1
    return plan / draws


def binary_plan(p: NDArray, share: float) -> NDArray[np.float64]:
    """`transport_plan` for two classes in closed form, without drawing.

    Matching orders the images by p; X ~ Binomial(N, 1 - share) of them get class 0, so the image of
    rank r (from 0) gets class 1 with probability P(X <= r). (The published code is right for share
    1/2 only.)

    Args:
        p: `[N]` probability of class 1.
        share: of class 1 in the target.
    """
    ranks = np.argsort(np.argsort(p, kind="stable"), kind="stable")
    one = binom.cdf(ranks, len(p), 1 - share)
    return np.stack([1 - one, one], axis=1)


def assign(
    probs: Mapping[str, NDArray],
    seen: NDArray[np.bool_],
    target: Target,
    known: Mapping[str, Attribute],
    *,
    draws: int,
    confidence: float | Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, Assignment]:
    """Target classes for N images that are matched together.

    Several attributes are matched jointly: the label of an image is a cell of the target's joint
    table, its cost `sqrt(sum_a ||p_a - e_a||^2)`. The averaged plan is then marginalised, and each
    attribute thresholded by itself.

    Args:
        probs: `{attribute: [N, K]}` perceived now.
        seen: `[N]`; images not seen take no part and get no target.
        target: the distribution asked for.
        known: attributes by name.
        draws: label sets drawn from the target.
        confidence: least marginal plan weight for a target (C in the paper), of all attributes or
            of each by name.
        rng: source of the draws.
    """
    cells, table = target.cells(known)
    rows = np.flatnonzero(seen)
    marginals = {a: np.zeros((len(seen), len(known[a].classes))) for a in target.attributes}
    if len(rows):
        if len(cells) == 2:
            plan = binary_plan(np.asarray(probs[target.attributes[0]])[rows, 1], table[1])
        else:
            squared = np.zeros((len(rows), len(cells)))
            for place, a in enumerate(target.attributes):
                corners = np.eye(len(known[a].classes))[[cell[place] for cell in cells]]
                squared += np.square(np.asarray(probs[a])[rows, None, :] - corners).sum(-1)
            plan = transport_plan(np.sqrt(squared), np.asarray(table), draws=draws, rng=rng)
        for place, a in enumerate(target.attributes):
            for column, cell in enumerate(cells):
                marginals[a][rows, cell[place]] += plan[:, column]
    least = confidence if isinstance(confidence, Mapping) else dict.fromkeys(marginals, confidence)
    return {a: Assignment(m.argmax(1), seen & (m.max(1) >= least[a])) for a, m in marginals.items()}
