"""Kernel and Frechet distance of two sets of images, in the features of a network."""

import warnings

import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.stats.shares import Estimate


def distances(images: Tensor, reference: Tensor) -> dict[str, Estimate]:
    """Kernel and Frechet distance of two sets of features, by torchmetrics.

    `kid` (Binkowski et al., ICLR 2018; times 1,000) is unbiased: the mean over random halves, with
    1.96 standard errors (`_variance_of_all`) for images of these prompts. `fid` (Heusel et al.,
    NeurIPS 2017) grows with fewer images: hold it against another of as many. It has no value where
    either set has fewer than 2 D images: there the covariances are not known, and the distance of
    two samples of one distribution is far from 0.

    Args:
        images: `[N, D]`.
        reference: `[M, D]`.

    Raises:
        UserError: fewer than four images.
    """
    least, frechet = min(len(images), len(reference)), None
    if least < 4:
        raise UserError(
            f"{len(images)} images and {len(reference)} in the reference are too few for a "
            "distance: have four or more"
        )
    made = _Made(images.shape[1])
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Metric `Kernel Inception Distance` will save", UserWarning
        )
        torch.manual_seed(0)
        mean, of_halves = _kid(made, images, reference, least // 2)
        of_quarters = _kid(made, images, reference, least // 4)[1] if least >= 8 else 0.0
        if least >= 2 * images.shape[1]:
            frechet = _fid(made, images, reference)
    margin = 1.96 * _variance_of_all(of_halves, of_quarters) ** 0.5
    return {
        "kid": Estimate(mean, mean - margin, mean + margin, len(images)),
        "fid": Estimate(frechet, None, None, len(images)),
    }


def _kid(made: "_Made", images: Tensor, reference: Tensor, size: int) -> tuple[float, float]:
    """Mean and variance of the kernel distance, times 1,000, over 100 random subsets of a size."""
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(feature=made, subsets=100, subset_size=size)
    metric.update(reference, real=True)
    metric.update(images, real=False)
    mean, deviation = (1000 * float(x) for x in metric.compute())
    return mean, deviation**2


def _fid(made: "_Made", images: Tensor, reference: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=made)
    metric.update(reference, real=True)
    metric.update(images, real=False)
    return float(metric.compute())


def _variance_of_all(of_halves: float, of_quarters: float) -> float:
    """Variance of a kernel distance of n images, from that over subsets drawn from them.

    It has a part L that shrinks as 1/n and a part Q that shrinks as its square and is alone left
    where both sets are alike. Subsets of n/2 drawn from n vary by L + 3 Q, of n/4 by 3 L + 15 Q;
    solved for L + Q, within what is possible (a third of the variance over halves to all of it).

    Args:
        of_halves: variance over subsets of n/2.
        of_quarters: over subsets of n/4; 0 where there are none.
    """
    return min(max(2 * of_halves - of_quarters / 3, of_halves / 3), of_halves)


class _Made(torch.nn.Module):
    """Stands where torchmetrics has its network: the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features
