"""Image files and labelled data sets -> tensors `[N, 3, H, W]` in [0, 1]."""

import collections
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from evenhand.errors import UserError, loading

CHUNK = 16
T = TypeVar("T")


class Unreadable(Exception):
    """A file that is no image, or one that is not opened; the message says why."""


def read_image(path: str | os.PathLike | IO[bytes]) -> Tensor:
    """One image `[3, H, W]` uint8, RGB: turned as its EXIF says, the first frame, transparency over white, CMYK and grey converted.

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


def read_images(paths: Iterable[Any], *, threads: int = 4, ahead: int = 256) -> Iterator[tuple[Any, Tensor | Unreadable]]:
    """Reads files in threads, in order, a few ahead of who uses them; what cannot be read comes as the error.

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
    """Groups `(item, [3, H, W] uint8)` into batches `[N, 3, H, W]` in [0, 1] of images of one shape, N at most `size`."""
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


def labelled(path: str | os.PathLike, *, split: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Labelled images as `datasets.Dataset` by split, with columns `image` (not decoded: `pixels_of` reads it) and labels.

    Args:
        path: parquet file; folder with a folder of images for each class (column `label`), or with a metadata.csv; or Hub name.
        split: column that names the split of each row; else the data's own splits, or a random 80/10/10.
        seed: of the random split.

    Raises:
        UserError: it cannot be read, or has no images.
    """
    import datasets

    path = str(path)
    datasets.disable_progress_bars()
    kind = {"parquet": "parquet"}.get(path.rsplit(".", 1)[-1])
    with loading(f"{path}: labelled images"):
        found = datasets.load_dataset(kind, data_files=path) if kind else datasets.load_dataset(path)
    whole = datasets.concatenate_datasets(list(found.values()))
    if "image" not in whole.column_names:
        raise UserError(f"{path}: has no column 'image'; its columns are {', '.join(whole.column_names)}")
    whole = whole.cast_column("image", datasets.Image(decode=False))
    if split:
        if split not in whole.column_names:
            raise UserError(f"{path}: has no column {split!r}; its columns are {', '.join(whole.column_names)}")
        names = np.array(whole[split])
        return {str(name): whole.select(np.flatnonzero(names == name)) for name in sorted(set(names))}
    if len(found) > 1:
        return {str(name): part.cast_column("image", datasets.Image(decode=False)) for name, part in found.items()}
    order, n = np.random.default_rng(seed).permutation(len(whole)), len(whole)
    cuts = {"train": (0, int(0.8 * n)), "validation": (int(0.8 * n), int(0.9 * n)), "test": (int(0.9 * n), n)}
    return {name: whole.select(order[a:b]) for name, (a, b) in cuts.items()}


def values(rows: Any, column: str, where: str) -> list[Any]:
    """The values of a label column; class indices become their names.

    Raises:
        UserError: no such column.
    """
    if column not in rows.column_names:
        raise UserError(f"{where}: has no column {column!r}; its columns are {', '.join(rows.column_names)}")
    found, feature = list(rows[column]), rows.features[column]
    return [feature.int2str(v) for v in found] if hasattr(feature, "int2str") else found


def pixels_of(row: dict[str, Any], size: int | None = None) -> Tensor:
    """The image `[3, H, W]` uint8 of a row of labelled data, resized to a square of `size` where given.

    Raises:
        UserError: it is damaged, missing, or too large.
    """
    image: dict[str, Any] = row["image"] or {"bytes": None, "path": None}
    source = image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])
    try:
        if source is None:
            raise Unreadable("is not there")
        tensor = read_image(source)
    except Unreadable as error:
        name = image["path"] or {name: value for name, value in row.items() if name != "image"}
        raise UserError(f"labelled images: the image of {name}: {error}; leave it out") from error
    if size is None or tensor.shape[1:] == (size, size):
        return tensor
    from torch.nn.functional import interpolate

    return interpolate(tensor[None].float(), (size, size), mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
