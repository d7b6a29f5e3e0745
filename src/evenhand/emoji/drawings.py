"""Labelled drawings of the embedded world as a bad camera has them: for want of real images.

Nobody's face is in them, and who is on them is known.
"""

import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.files import whole
from evenhand.emoji.world import Scene, draw, load_world
from evenhand.images.tensors import to_uint8
from evenhand.training.checkpoints import step_generator

GENDERS = ("woman", "man")
SIDES = (24, 29, 35, 40)  # pixels to which a drawing is reduced
HARD = {"side": (16, 28), "noise": (0.12, 0.12), "rectangles": 2}
PLAIN = {"side": (10, 20), "noise": (0.04, 0.08), "rectangles": 1}
Row = dict[str, Any]


def degraded(images: Tensor, generator: torch.Generator, how: Mapping[str, Any] = PLAIN) -> Tensor:
    """Images `[N, 3, S, S]` as a bad camera has them.

    Contrast about .5 and brightness, a gain for each channel, flat rectangles, fewer pixels, noise;
    drawn for each image.
    """
    n, size = len(images), images.shape[-1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    images = (images - 0.5) * uniform(0.75, 1.25, 1, 1, 1) + 0.5 + uniform(-0.12, 0.12, 1, 1, 1)
    images = images * uniform(0.9, 1.1, 3, 1, 1)
    for _ in range(how["rectangles"]):
        high, wide = uniform(*how["side"], 2).T
        top, left = uniform(0, 1) * (size - high), uniform(0, 1) * (size - wide)
        y, x = torch.arange(size)[None, :, None], torch.arange(size)[None, None, :]
        inside = (y >= top[:, None, None]) & (y < (top + high)[:, None, None])
        inside = inside & (x >= left[:, None, None]) & (x < (left + wide)[:, None, None])
        images = torch.where(inside[:, None], uniform(0.1, 0.9, 3, 1, 1), images)
    which = torch.randint(len(SIDES), (n,), generator=generator)
    found = torch.empty_like(images)
    for k, side in enumerate(SIDES):
        small = F.interpolate(images[which == k], (side, side), mode="area")
        found[which == k] = F.interpolate(small, (size, size), mode="bilinear")
    noise = torch.randn(found.shape, generator=generator) * uniform(*how["noise"], 1, 1, 1)
    return (found + noise).clamp(0, 1)


def write_drawings(
    path: pathlib.Path, occupations: Sequence[str], splits: Mapping[str, int], seed: int
) -> None:
    """Writes drawings as a parquet file with gender, tone, occupation and split.

    Args:
        path: of the file.
        occupations: that are drawn, each as often, women and men alike.
        splits: images of each occupation and gender in a split.
        seed: of the drawings.
    """
    world, rows = load_world(), list[Row]()
    known, tones = list(world.occupations), world.classes["tone"]
    for (split, n), occupation, gender in itertools.product(splits.items(), occupations, GENDERS):
        generator = step_generator(seed, split, occupation, gender)
        scene = Scene(
            torch.full((n,), known.index(occupation)),
            torch.full((n,), world.classes["gender"].index(gender)),
            torch.randint(len(tones), (n,), generator=generator),
            [],
        )
        pixels = to_uint8(degraded(draw(scene, generator=generator), generator, HARD))
        for image, tone in zip(pixels, scene.tone.tolist(), strict=True):
            said = {"gender": gender, "tone": tones[tone], "occupation": occupation}
            rows.append({"image": Image.fromarray(image), **said, "split": split})
    write_rows(path, rows)


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """Writes rows of an image and texts as a parquet file."""
    import datasets

    datasets.disable_progress_bars()
    rows = list(rows)
    others = {key: datasets.Value("string") for key in rows[0] if key != "image"}
    features = datasets.Features({"image": datasets.Image(), **others})
    with whole(path) as temporary:
        datasets.Dataset.from_list(rows, features=features).to_parquet(temporary)
