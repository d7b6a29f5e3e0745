"""Random changes to training images, and images mixed in pairs.

All draws come from a generator that the caller hands in, on the CPU, whatever device the images are
on: they are the same everywhere.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def augmented(images: Tensor, amount: float, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Images `[N, 3, H, W]`, each changed at random in place, size, brightness and contrast.

    Args:
        images: in [0, 1].
        amount: largest shift as a share of the image, turn in half turns, zoom, and change of
            brightness and contrast.
        flip: mirror half of them.
        generator: of the draws.
    """
    n = len(images)

    def draw(*shape: int) -> Tensor:
        drawn = (2 * torch.rand(n, *shape, generator=generator) - 1) * amount
        return drawn.to(images.device)

    turn, zoom = draw() * torch.pi, 1 + draw()
    mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    side = torch.where(mirrored, -1.0, 1.0) if flip else torch.ones(n, device=images.device)
    cos, sin = torch.cos(turn) * zoom, torch.sin(turn) * zoom
    shift = 2 * draw(2)
    theta = torch.stack(
        [
            torch.stack([cos * side, -sin, shift[:, 0]], -1),
            torch.stack([sin * side, cos, shift[:, 1]], -1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    mean = moved.mean((1, 2, 3), keepdim=True)
    return ((moved - mean) * (1 + 2 * draw(1, 1, 1)) + mean + draw(1, 1, 1)).clamp(0, 1)


def mixed(
    images: Tensor, labels: Tensor, a: float, *, generator: torch.Generator
) -> tuple[Tensor, list[tuple[Tensor, float]]]:
    """Mixup (Zhang et al., ICLR 2018): images `[N, ...]` are mixed in pairs.

    The share with which the first of a pair counts is drawn from Beta(a, a).

    Returns:
        the images, and the labels `[N, A]` that they have, each with its share.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(a, a))  # torch's takes no generator
    other = torch.randperm(len(images), generator=generator).to(images.device)
    return share * images + (1 - share) * images[other], [
        (labels, share),
        (labels[other], 1 - share),
    ]
