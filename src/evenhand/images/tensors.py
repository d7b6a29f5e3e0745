"""The two borders between pixels and tensors.

Inside the toolkit images are `[N, 3, H, W]`, float, in [0, 1]; outside, in files and for other
libraries, they are `[N, H, W, 3]`, uint8. No other place converts.
"""

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.images.io import Pixels

BATCH_BYTES = 2**28  # of a batch as float, at most, where it holds more than one image
WAITING_BYTES = 2**28  # of the pixels that wait for others of their shape
T = TypeVar("T")


def to_float(pixels: Pixels | Tensor, device: str | torch.device | None = None) -> Tensor:
    """Pixels `[N, H, W, 3]` uint8 -> images `[N, 3, H, W]`, float, in [0, 1], on the device."""
    tensor = torch.as_tensor(pixels, device=device)
    return tensor.movedim(-1, -3).contiguous().float() / 255


def to_uint8(images: Tensor) -> Pixels:
    """Images `[N, 3, H, W]` -> pixels `[N, H, W, 3]` uint8, rounded; beyond [0, 1] is cut off.

    Raises:
        UserError: values that are not finite.
    """
    refuse_not_finite(images, "the images", "the model or adapter that drew them is damaged")
    pixels = (images.detach().clamp(0, 1) * 255).round().byte()
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()


def refuse_not_finite(values: Tensor, what: str, cause: str) -> None:
    """Raises UserError where a value is NaN or infinite: a share of such would be a number."""
    if not torch.isfinite(values).all():
        raise UserError(
            f"{what} hold values that are not finite: {cause}, or its dtype is too narrow "
            "(dtype: float32 avoids that)"
        )


def in_batches(
    images: Iterable[tuple[T, Pixels]],
    size: int,
    *,
    device: str | torch.device | None = None,
) -> Iterator[tuple[list[T], Tensor]]:
    """Groups `(item, [H, W, 3] uint8)` into batches `[N, 3, H, W]` in [0, 1] of one shape.

    Few images wait for others of their shape: where they are more than two batches' or than
    `WAITING_BYTES`, the shape that waits longest comes out as it is. The batches depend on nothing
    but the images and their order.

    Args:
        images: pairs of anything and pixels.
        size: images of a batch, at most; fewer where they have more than `BATCH_BYTES`.
        device: of the batches.
    """
    groups: dict[tuple[int, ...], list[tuple[T, Pixels]]] = {}
    for item, pixels in images:
        group = groups.setdefault(pixels.shape, [])
        group.append((item, pixels))
        if len(group) >= min(size, max(1, BATCH_BYTES // (4 * pixels.nbytes))):
            yield _stack(groups.pop(pixels.shape), device)
        while _too_many(groups, size):
            yield _stack(groups.pop(next(iter(groups))), device)
    for group in groups.values():
        yield _stack(group, device)


def _too_many(groups: dict[tuple[int, ...], list[tuple[T, Pixels]]], size: int) -> bool:
    held = sum(len(group) * math.prod(shape) for shape, group in groups.items())
    return sum(map(len, groups.values())) > 2 * size or held > WAITING_BYTES


def _stack(
    group: list[tuple[T, Pixels]], device: str | torch.device | None
) -> tuple[list[T], Tensor]:
    return [item for item, _ in group], to_float(np.stack([x for _, x in group]), device)
