"""What nearest neighbours tell of two sets of images: precision, coverage, memorisation.

Pure functions of features. An image lies inside the reference where it is no farther from some
reference image than that image's k-th nearest other one.

Sources: precision and recall: Kynkaanniemi et al., NeurIPS 2019 (arXiv 1904.06991); density and
coverage: Naeem et al., ICML 2020 (arXiv 2002.09797), k = 5 there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.images.tensors import refuse_not_finite
from evenhand.stats.shares import Estimate, score

Z = 1.959964  # of 95 %


@dataclass(frozen=True)
class Neighbours:
    """Of each image how it lies to the other set.

    Attributes:
        precise: `[N]` bool: the image lies inside the reference.
        dense: `[N]` float: inside of how many reference images, over k.
        recalled: `[M]` bool: the reference image lies inside the images.
        covered: `[M]` bool: some image lies inside of the reference image.
    """

    precise: Tensor
    dense: Tensor
    recalled: Tensor
    covered: Tensor

    def estimates(self) -> dict[str, Estimate]:
        """`precision`, `recall`, `density`, `coverage`; see `prdc`."""
        return {
            "precision": _share(self.precise),
            "recall": _share(self.recalled),
            "density": _mean(self.dense),
            "coverage": _share(self.covered),
        }


def neighbours(images: Tensor, reference: Tensor, *, k: int = 5) -> Neighbours:
    """How each image, and each reference image, lies to the other set.

    Args:
        images: `[N, D]`, N > k.
        reference: `[M, D]`, M > k.
        k: the neighbour that bounds what is inside of an image.

    Raises:
        UserError: a set is too small for k, or a feature is not finite.
    """
    for name, x in (("images", images), ("reference images", reference)):
        refuse_not_finite(x, f"the features of the {name}", "their network's weights are damaged")
        if len(x) <= k:
            raise UserError(
                f"{len(x)} {name} are too few for k = {k} neighbours: have {k + 1} or more"
            )
    apart = _apart(images, reference)  # [N, M]
    inside = apart <= _reach(reference, k)
    return Neighbours(
        precise=inside.any(1),
        dense=inside.sum(1) / k,
        recalled=(apart <= _reach(images, k)[:, None]).any(0),
        covered=inside.any(0),
    )


def prdc(images: Tensor, reference: Tensor, *, k: int = 5) -> dict[str, Estimate]:
    """Precision, recall, density and coverage of images, by a reference set.

    `precision`: share of images inside the reference; 1 by chance. `recall`: share of the reference
    inside the images; one stray image makes it large. `density`: mean over images of the reference
    images it lies inside of, over k; about 1 for alike sets, not bounded. `coverage`: share of
    reference images of which some image lies inside; alike sets have `coverage_if_alike`.

    Intervals are for other images with this reference (coverage, recall: for other reference
    images with these images); they hold neither the spread over trainings nor that of prompts.

    Args:
        images: `[N, D]`, N > k.
        reference: `[M, D]`, M > k.
        k: as in `neighbours`.

    Raises:
        UserError: a set is too small for k, or a feature is not finite.
    """
    return neighbours(images, reference, k=k).estimates()


def coverage_if_alike(images: int, reference: int, k: int = 5) -> float:
    """The mean coverage of a reference by images of the same distribution (Naeem et al., lemma 2).

    Args:
        images: their number, N.
        reference: their number, M > k.
        k: as in `neighbours`.
    """
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (reference - i) / (images + reference - i)
    return 1 - missed


def memorisation(
    images: Tensor, training: Tensor, held_out: Tensor, *, draws: int = 200, seed: int = 0
) -> dict[str, Estimate]:
    """Whether images lie nearer to the training images than to held-out images of the same kind.

    `closer`: share of images whose nearest training image is nearer; .5 by chance, ties count half.
    `ratio`: mean distance to the nearest training image, over that to the nearest held-out one; 1
    by chance, 0 if all are copies. The nearest of many is nearer than that of few: of the larger
    set the mean over all its subsets of the smaller one's size is taken. The intervals of both are
    for other images, with these sets. `closer_by_chance`: mean and bounds of `closer` where it is
    drawn by lot which of these images were trained on; what `closer` has to exceed. Both sets must
    be of one kind, or the difference between them is measured.

    Args:
        images: `[N, D]`.
        training: `[A, D]`.
        held_out: `[B, D]`.
        draws: of the lot.
        seed: of the lot.

    Raises:
        UserError: a set is empty, or a feature is not finite.
    """
    for name, x in (("images", images), ("training", training), ("held-out", held_out)):
        refuse_not_finite(x, f"the features ({name})", "their network's weights are damaged")
        if not len(x):
            raise UserError(f"memorisation: there are no {name} images")
    apart, first = _apart(images, torch.cat([training, held_out])), len(training)
    closer, near, far = _closer(apart[:, :first], apart[:, first:])
    draw = torch.Generator().manual_seed(seed)
    by_lot = torch.zeros(draws, dtype=torch.double)
    for i in range(draws):
        columns = apart[:, torch.randperm(apart.shape[1], generator=draw)]
        by_lot[i] = _closer(columns[:, :first], columns[:, first:])[0].mean()
    low, high = by_lot.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return {
        "ratio": _ratio(near, far),
        "closer": _share(closer),
        "closer_by_chance": Estimate(float(by_lot.mean()), low, high, draws),
    }


def _closer(training: Tensor, held_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each image the chance that a training image is the nearest, and the nearest distances.

    Args:
        training: distances `[N, A]`.
        held_out: distances `[N, B]`.

    Returns:
        `[N]` each: the chance, the mean distance to the nearest of either set.
    """
    size = min(training.shape[1], held_out.shape[1])
    (near, p), (far, q) = _nearest(training, size), _nearest(held_out, size)
    # one set at least is not larger than `size`, so it has one column, of chance 1
    closer = (near < far).double() + 0.5 * (near == far)
    return closer @ (p if len(p) > 1 else q), near @ p, far @ q


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances `[N, M]`, those of equal rows exactly 0."""
    return torch.cdist(
        a.flatten(1).double(), b.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist"
    )


def _reach(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other one, `[N]`."""
    return _apart(points, points).sort(1).values[:, k]  # column 0: to itself


def _nearest(apart: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Distances that may be the least of a random subset of the columns, and their chances.

    Args:
        apart: `[N, M]`.
        size: of the subsets, 1 to M.

    Returns:
        `[N, R]`, ascending, and their chances `[R]`; what is left out has less than 1e-12 in all.
    """
    many, total = apart.shape[1], _log_choose(apart.shape[1], size)
    chances: list[float] = []
    while len(chances) <= many - size and 1 - sum(chances) > 1e-12:
        # the nearest ones are left out, the next is in
        chances.append(math.exp(_log_choose(many - 1 - len(chances), size - 1) - total))
    nearest = apart.topk(len(chances), largest=False).values
    return nearest, torch.tensor(chances, dtype=torch.double)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _share(values: Tensor) -> Estimate:
    """The mean of numbers in 0 to 1, with the score interval of as many yes or no."""
    p, n = float(values.double().mean()), len(values)
    return Estimate(p, *score(p, n, Z), n)


def _mean(values: Tensor) -> Estimate:
    """The mean of numbers that are not negative, with its normal interval."""
    values, n = values.double(), len(values)
    half = Z * float(values.std()) / n**0.5
    return Estimate(mean := float(values.mean()), max(mean - half, 0.0), mean + half, n)


def _ratio(above: Tensor, below: Tensor) -> Estimate:
    """A ratio of means with its interval by the delta method; no value where `below` is 0."""
    n, mean = len(above), float(below.mean())
    if mean == 0:
        return Estimate(None, None, None, n)
    value = float(above.mean()) / mean
    if n < 2:
        return Estimate(value, None, None, n)
    half = Z * float((above - value * below).std()) / (n**0.5 * mean)
    return Estimate(value, max(value - half, 0.0), value + half, n)
