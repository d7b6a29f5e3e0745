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


def cropped(
    images: Tensor, *, shift: int, area: float | None, flip: bool, generator: torch.Generator
) -> Tensor:
    """Images `[N, 3, H, W]`, each mirrored, moved and cropped at random.

    Args:
        images: in [0, 1].
        shift: pixels by which they move either way, at most; the border is repeated.
        area: least share of the image that a crop shows, resized to the whole, with a ratio of
            sides from 3/4 to 4/3 (as torchvision's RandomResizedCrop); no crop when None.
        flip: mirror half of them.
        generator: of the draws.
    """
    n, _, height, width = images.shape
    if flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if shift:
        padded = F.pad(images, [shift] * 4, mode="replicate")
        top, left = torch.randint(2 * shift + 1, (2, n, 1), generator=generator)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        each = torch.arange(n)[:, None, None]
        images = padded[each, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    if area is not None:
        drawn = torch.rand(4, n, generator=generator).to(images.device)
        size = area + (1 - area) * drawn[0]
        ratio = torch.exp((2 * drawn[1] - 1) * np.log(4 / 3))
        wide, high = (size * ratio).sqrt().clamp(max=1), (size / ratio).sqrt().clamp(max=1)
        theta = torch.zeros(n, 2, 3, device=images.device)
        theta[:, 0, 0], theta[:, 0, 2] = wide, (1 - wide) * (2 * drawn[2] - 1)
        theta[:, 1, 1], theta[:, 1, 2] = high, (1 - high) * (2 * drawn[3] - 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return images


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
