"""One row an image that was drawn or found, taken or not; the parts that hold them."""

import base64
import json
import pathlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from evenhand.core.prompts import Prompt
from evenhand.core.records import Record
from evenhand.images.io import Pixels


@dataclass(frozen=True)
class Drawn:
    """One image.

    Attributes:
        record: what was asked, drawn and perceived.
        why: the first reason for which the image by itself is not taken; "" where there is none.
        digest: of its file; "" where none was written.
        bytes: of its file.
        brightness: mean of its pixels, 0 to 1.
        sharpness: standard deviation of its Laplacian, 0 and above: blur lowers it.
        vector: its features, as `packed` makes them; "" where duplicates are not looked for.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    record: Record
    why: str
    digest: str
    bytes: int
    brightness: float
    sharpness: float
    vector: str = ""


_DRAWN = TypeAdapter(Drawn)


def without_image(prompt: Prompt, seed: int, source: str, why: str, file: str = "") -> Drawn:
    """The row of an image that there is not, or that cannot be read: why, and its file."""
    record = Record(
        prompt.text, prompt.concept, prompt.family, prompt.split, seed, source, file, {},
        seen=False, states=prompt.states,
    )  # fmt: skip
    return Drawn(record, why, "", 0, 0.0, 0.0)


def drawn_lines(rows: Sequence[Drawn]) -> str:
    """Rows as lines of JSON."""
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def read_drawn(path: pathlib.Path, number: int) -> list[Drawn] | None:
    """The rows of a part; None where it is damaged: no such file, cut off, or no rows of ours.

    Args:
        path: of the part.
        number: of rows that it shall have.
    """
    try:
        lines = path.read_bytes().split(b"\n")
        rows = [_DRAWN.validate_json(line) for line in lines if line]
    except (OSError, ValueError):
        return None
    return rows if len(rows) == number and not lines[-1] else None


def packed(vector: NDArray) -> str:
    """Features `[D]` as text: 8 bits a number, relative to the largest; cosines stay."""
    most = float(np.abs(vector).max()) or 1.0
    return base64.b64encode(np.rint(vector / most * 127).astype(np.int8).tobytes()).decode()


def unpacked(text: str) -> NDArray[np.float32]:
    """The unit vector `[D]` of packed features; 0 throughout where all are 0."""
    vector = np.frombuffer(base64.b64decode(text), dtype=np.int8).astype(np.float32)
    return vector / (float(np.linalg.norm(vector)) or 1.0)


def light_of(pixels: Pixels) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness of an image `[H, W, 3]` uint8."""
    grey = pixels.astype(np.float32).mean(-1) / 255
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    sharpness = float(laplacian.std()) if laplacian.size else 0.0
    return round(float(grey.mean()), 5), float(grey.std()), round(sharpness, 5)
