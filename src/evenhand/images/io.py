"""The decoder of the toolkit: an image file becomes `[H, W, 3]` uint8, always in the same way.

Whoever judges, trains on or shows an image reads it here. No torch.
"""

import collections
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

CHUNK, CHUNK_BYTES = 16, 2**22  # images that one task decodes, at most
AHEAD, AHEAD_BYTES = 256, 2**28  # images decoded in advance, at most
Pixels = NDArray[np.uint8]
File = str | os.PathLike | IO[bytes]


class Unreadable(Exception):
    """A file that is no image, or one that is not opened; the message says why."""


def read_image(file: File, *, side: int | None = None) -> Pixels:
    """One image `[H, W, 3]` uint8, RGB.

    Turned as its EXIF says, the first frame, transparency over white, CMYK and grey converted, 16
    bits a channel scaled to 8.

    Args:
        file: path or open file.
        side: pixels of the shorter side that are enough. A larger image is reduced by a whole
            number to at least twice as many (a JPEG while it is decoded), so that the exact
            resizing after it decides the result. None keeps all pixels.

    Raises:
        Unreadable: damaged, no image, so large that it may be an attack (Pillow's limit), of a
            kind whose black and white are not known, or with a name that is not UTF-8.
    """
    opened = _open(file, side)
    if isinstance(opened, Unreadable):
        raise opened
    decoded = _decode(opened, side)
    if isinstance(decoded, Unreadable):
        raise decoded
    return decoded


def read_images(
    files: Iterable[Any], *, side: int | None = None, threads: int = 4
) -> Iterator[tuple[Any, Pixels | Unreadable]]:
    """Reads files in threads, in order, ahead of who uses them.

    At most `AHEAD` images and `AHEAD_BYTES` of pixels wait (one image where that alone has more).
    What cannot be read comes as the error.

    Args:
        files: paths, or anything with a `path`.
        side: as of `read_image`.
        threads: that decode.
    """
    waiting: collections.deque[tuple[list[Any], Future, int]] = collections.deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for items, opened, size in _chunks(files, side):
            while waiting and (
                sum(x[2] for x in waiting) + size > AHEAD_BYTES or len(waiting) * CHUNK >= AHEAD
            ):
                yield from _result(waiting.popleft())
            waiting.append((items, pool.submit(_decode_all, opened, side), size))
        while waiting:
            yield from _result(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _result(task: tuple[list[Any], Future, int]) -> Iterator[tuple[Any, Pixels | Unreadable]]:
    yield from zip(task[0], task[1].result(), strict=True)


Opened = ImageFile.ImageFile | Unreadable


def _chunks(
    files: Iterable[Any], side: int | None
) -> Iterator[tuple[list[Any], list[Opened], int]]:
    """Opened images and their bytes, several at a time.

    Small images are decoded faster than tasks are handed over.
    """
    items: list[Any] = []
    opened: list[Opened] = []
    size = 0
    for item in files:
        image = _open(getattr(item, "path", item), side)
        new = 0 if isinstance(image, Unreadable) else 3 * image.width * image.height
        if items and (len(items) == CHUNK or size + new > CHUNK_BYTES):
            yield items, opened, size
            items, opened, size = [], [], 0
        items.append(item)
        opened.append(image)
        size += new
    if items:
        yield items, opened, size


def _open(file: File, side: int | None) -> Opened:
    """Reads an image's header; a JPEG is told how much of it will be needed."""
    try:
        if isinstance(file, str | os.PathLike):
            os.fspath(file).encode()  # what records and reports can name
            if not stat.S_ISREG(os.stat(file).st_mode):  # a pipe would be waited for
                raise Unreadable("no file")
        image = Image.open(file)
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            image.close()
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        if side:
            image.draft(image.mode, (2 * side, 2 * side))
        return image
    except Exception as error:
        return _unreadable(error)


def _decode_all(opened: list[Opened], side: int | None) -> list[Pixels | Unreadable]:
    return [x if isinstance(x, Unreadable) else _decode(x, side) for x in opened]


def _decode(image: ImageFile.ImageFile, side: int | None) -> Pixels | Unreadable:
    try:
        with image:
            _scale_clear(image)
            ImageOps.exif_transpose(image, in_place=True)
            converted = _rgb(image)
        factor = min(converted.size) // (2 * side) if side else 1
        return np.array(converted.reduce(factor) if factor > 1 else converted)
    except Exception as error:
        return _unreadable(error)


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file's content is that of an image that Pillow knows, by its first bytes."""
    opened = _open(path, None)
    if isinstance(opened, Unreadable):
        return False
    opened.close()
    return True


def _unreadable(error: Exception) -> Unreadable:
    """Why a file is none that can be judged.

    Pillow's readers raise whatever a damaged file makes them stumble over: struct.error, TypeError
    and RuntimeError were seen.
    """
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return Unreadable(f"too large ({error})")
    if isinstance(error, UnicodeEncodeError):
        return Unreadable("its name is not UTF-8; rename it")
    if isinstance(error, UnidentifiedImageError):
        return Unreadable("no image")
    if isinstance(error, FileNotFoundError):
        return Unreadable("no such file")
    return Unreadable(f"damaged ({' '.join(str(error).split()) or type(error).__name__})")


def _scale_clear(image: ImageFile.ImageFile) -> None:
    """The transparent colour of a PNG, made 8 bits as its pixels will be.

    Pillow stretches grey of 2 and 4 bits to 8 and cuts colours of 16 bits to 8, but leaves the
    transparent one as the file has it. An image that is decoded does not tell its bits any more.
    """
    clear = image.info.get("transparency")
    bits = image.tile[0].args if image.format == "PNG" and image.tile else None
    if isinstance(clear, int) and bits in ("L;2", "L;4"):
        image.info["transparency"] = clear * {"L;2": 85, "L;4": 17}[bits]
    elif isinstance(clear, tuple) and bits == "RGB;16B":
        image.info["transparency"] = tuple(x >> 8 for x in clear)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow as RGB."""
    clear = image.info.get("transparency")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _deep(image, clear)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or clear is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _deep(image: Image.Image, clear: Any) -> Image.Image:
    """Grey of more than 8 bits as RGB; `clear` is the value that is transparent, if any.

    Pillow's own conversion cuts it off at 255.
    """
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise Unreadable("floating-point pixels beyond 0 to 1; save it with 8 or 16 bits")
        white = 1.0
    elif image.mode.startswith("I;16") or image.format == "PPM":  # Pillow scales PPM to 16 bits
        white = 65535.0
    else:
        raise Unreadable("32 bits a pixel, of unknown white; save it with 8 or 16 bits")
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")
