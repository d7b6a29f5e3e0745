"""Random changes to training images, and images mixed in pairs."""

import torch
from torch import Tensor
from torch.nn import functional as F


def augmented(images: Tensor, amount: float, *, flip: bool) -> Tensor:
    """Images `[N, 3, H, W]`, each changed at random in place, size, brightness and contrast.

    Args:
        images: in [0, 1].
        amount: largest shift as a share of the image, turn in half turns, zoom, and change of
            brightness and contrast.
        flip: mirror half of them.
    """
    n = len(images)

    def draw(*shape: int) -> Tensor:
        return (2 * torch.rand(n, *shape, device=images.device) - 1) * amount

    turn, zoom = draw() * torch.pi, 1 + draw()
    side = (
        torch.where(torch.rand(n, device=images.device) < 0.5, -1.0, 1.0)
        if flip
        else torch.ones(n, device=images.device)
    )
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


def mixed(images: Tensor, labels: Tensor, a: float) -> tuple[Tensor, list[tuple[Tensor, float]]]:
    """Mixup (Zhang et al., ICLR 2018).

    Images `[N, ...]` mixed in pairs by a share drawn from Beta(a, a).

    Returns:
        the images, and the labels `[N, A]` that they have, each with its share.
    """
    share = float(torch.distributions.Beta(torch.tensor(a), torch.tensor(a)).sample())
    other = torch.randperm(len(images))
    return share * images + (1 - share) * images[other], [
        (labels, share),
        (labels[other], 1 - share),
    ]
