"""Contact sheets: labelled rows of images as one picture."""

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from evenhand.core.files import whole
from evenhand.images.io import read_image

LABEL, GAP = 160, 2  # pixels
JPEG: dict[str, Any] = {"format": "JPEG", "quality": 88, "subsampling": 0, "optimize": True}


def write_contact_sheet(
    path: str | os.PathLike,
    rows: Sequence[tuple[str, Sequence[str | os.PathLike]]],
    *,
    size: int = 96,
) -> None:
    """Writes a contact sheet as a JPEG file.

    Args:
        path: of the file.
        rows: as for `contact_sheet`.
        size: of an image, pixels.
    """
    with whole(path) as temporary:
        contact_sheet(rows, size=size).save(temporary, **JPEG)


def sheet_uri(rows: Sequence[tuple[str, Sequence[str | os.PathLike]]], *, size: int = 96) -> str:
    """A contact sheet as a JPEG in a data URI, for a page; arguments as of `contact_sheet`."""
    buffer = io.BytesIO()
    contact_sheet(rows, size=size).save(buffer, **JPEG)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[str | os.PathLike]]], *, size: int = 96
) -> Image.Image:
    """One row of images each, its label on the left.

    Args:
        rows: label and image files; an empty label is left blank, an empty row leaves a space.
        size: of an image, pixels.
    """
    step = size + GAP
    heights = [step if files else 3 * GAP for _, files in rows]
    sheet = Image.new(
        "RGB", (LABEL + step * max(len(files) for _, files in rows), sum(heights)), "white"
    )
    top = 0
    for (label, files), height in zip(rows, heights, strict=True):
        ImageDraw.Draw(sheet).text((8, top + size // 2 - 9), label, fill="black", font_size=15)
        for x, file in enumerate(files):
            image = Image.fromarray(read_image(file, side=size))
            sheet.paste(
                image.resize((size, size), Image.Resampling.BICUBIC), (LABEL + x * step, top)
            )
        top += height
    return sheet
