"""Image files and labelled data sets -> tensors `[N, 3, H, W]` in [0, 1]."""

import collections
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

CHUNK = 16
T = TypeVar("T")


class Unreadable(Exception):
    """A file that is no image, or one that is not opened; the message says why."""


def read_image(path: str | os.PathLike | IO[bytes]) -> Tensor:
    """One image `[3, H, W]` uint8, RGB.

    Turned as its EXIF says, the first frame, transparency over white, CMYK and grey converted.

    Raises:
        Unreadable: damaged, no image, or so large that it may be an attack (Pillow's limit).
    """
    try:
        with Image.open(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            return _pixels(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"too large ({error})") from error
    except UnidentifiedImageError as error:
        raise Unreadable("no image") from error
    except FileNotFoundError as error:
        raise Unreadable("no such file") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise Unreadable(f"damaged ({error})") from error


def _pixels(image: Image.Image) -> Tensor:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode.startswith("I;16"):  # 16 bits a pixel: convert() would cut them off
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def read_images(
    paths: Iterable[Any], *, threads: int = 4, ahead: int = 256
) -> Iterator[tuple[Any, Tensor | Unreadable]]:
    """Reads files in threads, in order, a few ahead of who uses them.

    What cannot be read comes as the error.

    Args:
        paths: files, or anything with a `path`.
        threads: that decode.
        ahead: images read in advance, at most.
    """

    def read(items: Sequence[Any]) -> list[tuple[Any, Tensor | Unreadable]]:
        found: list[tuple[Any, Tensor | Unreadable]] = []
        for item in items:
            try:
                found.append((item, read_image(getattr(item, "path", item))))
            except Unreadable as error:
                found.append((item, error))
        return found

    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque = collections.deque()
        for items in _chunks(paths):
            waiting.append(pool.submit(read, items))
            if len(waiting) * CHUNK >= ahead:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, `CHUNK` at a time: small images are read faster than tasks are handed over."""
    iterator = iter(items)
    while part := list(itertools.islice(iterator, CHUNK)):
        yield part


def in_batches(images: Iterable[tuple[T, Tensor]], size: int) -> Iterator[tuple[list[T], Tensor]]:
    """Groups `(item, [3, H, W] uint8)` into batches `[N, 3, H, W]` in [0, 1] of one shape."""
    groups: dict[torch.Size, list[tuple[T, Tensor]]] = {}
    for item, image in images:
        group = groups.setdefault(image.shape, [])
        group.append((item, image))
        if len(group) == size:
            yield _stack(groups.pop(image.shape))
    for group in groups.values():
        yield _stack(group)


def _stack(group: list[tuple[T, Tensor]]) -> tuple[list[T], Tensor]:
    return [item for item, _ in group], torch.stack([image for _, image in group]).float() / 255
