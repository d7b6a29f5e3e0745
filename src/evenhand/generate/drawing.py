"""Drawing the images of a set: a unit's images are drawn, judged, looked at and kept."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.adapters import Mix
from evenhand.core.files import digest
from evenhand.core.prompts import Row
from evenhand.core.records import Record, key
from evenhand.diffusion.generators import Generator, load_generator
from evenhand.diffusion.sampling import draw
from evenhand.features.networks import load_features
from evenhand.generate.drawn import Drawn, drawn_lines, light_of, packed, without_image
from evenhand.generate.plan import SetPlan
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import Judge
from evenhand.judges.perceive import judged, save_images
from evenhand.recipes.generate import Filter

THUMBNAIL = 8  # pixels of the side: what near-duplicates are compared in without a network
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class UnitDrawer:
    """Draws units of a set.

    Args:
        plan: of the set.
        judge: who decides what an image shows.
        device: of the judge.
        settings: of the run, with what only the loaded models know.
        folder: run directory.
        generator: what draws with an adapter of the plan, by its number.
        claim: called before the first file is written.
    """

    plan: SetPlan
    judge: Judge
    device: torch.device
    settings: dict[str, Any]
    folder: pathlib.Path
    generator: Callable[[int | None], Generator]
    claim: Callable[[], None]

    @functools.cached_property
    def embed(self) -> Embed | None:
        """Features in which near-duplicates are compared."""
        return embedding(self.plan.config.filter, self.judge, self.device)

    def __call__(self, rows: list[Row], streams: Mapping[tuple[str, int], int]) -> str:
        """Draws a unit, all of whose rows are drawn by one adapter; returns its part."""
        generator = self.generator(self.plan.streams[streams[key(*rows[0])]].adapter)
        found: dict[tuple[str, int], Drawn] = {}
        for batch, images in draw(generator, rows):
            for x in self._batch(generator, batch, images):
                found[key(x.record, x.record.seed)] = x
        self.claim()
        source = generator.source
        return drawn_lines(
            [found.get(key(*row)) or without_image(*row, source, "refused") for row in rows]
        )

    def _batch(self, generator: Generator, rows: list[Row], images: Tensor) -> list[Drawn]:
        """Judges images of one size, and writes those that are kept."""
        flagged = generator.safety(images) if generator.safety else None
        known = self.settings["attributes"]
        records = judged(rows, images, self.judge, known, generator.source, flagged=flagged)
        drawn = looked_at(records, images, self.plan.config.filter, self.plan.names, self.embed)
        self.claim()
        keep = self.plan.config.filter.rejected == "keep"
        kept = [i for i, x in enumerate(drawn) if keep or not x.why]
        if kept:
            save_images(images[kept], [self.folder / drawn[i].record.image for i in kept])
        for i in kept:
            drawn[i] = with_file(drawn[i], self.folder)
        return drawn


def generators(plan: SetPlan, answers: pathlib.Path) -> Callable[[int | None], Generator]:
    """What draws, with an adapter by its number; one at a time is held.

    Args:
        plan: of the set.
        answers: folder in which a service's answers are kept until the run is done.
    """
    assert plan.model
    model = plan.model

    @functools.lru_cache(maxsize=1)
    def load(number: int | None) -> Generator:
        adapters = Mix() if number is None else plan.drawers[number].mix
        settings = plan.settings["settings"]
        return load_generator(model, answers=answers, adapter=adapters, settings=settings)

    return load


def embedding(config: Filter, judge: Judge, device: torch.device) -> Embed | None:
    """Features `[N, D]` of images in which near-duplicates are compared; None where they are not.

    Pixels are centred: one minus their cosine is one minus the correlation of two thumbnails.
    """
    if config.duplicates is None:
        return None
    if config.features.kind != "pixels":
        ((_, embed),) = load_features([config.features], judge.features, device=device)
        return embed

    def pixels(images: Tensor) -> Tensor:
        small = F.interpolate(images, (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
        return small.flatten(1) - small.flatten(1).mean(1, keepdim=True)

    return pixels


@torch.no_grad()
def looked_at(
    records: Sequence[Record],
    images: Tensor,
    config: Filter,
    names: Sequence[str],
    embed: Embed | None,
) -> list[Drawn]:
    """What the filter says of images `[N, 3, H, W]`, each by itself."""
    pixels = to_uint8(images)
    vectors = embed(images).flatten(1).float().cpu().numpy() if embed else None
    found = []
    for i, (record, image) in enumerate(zip(records, pixels, strict=True)):
        brightness, contrast, sharpness = light_of(image)
        small = min(image.shape[:2]) < config.side
        why = "size" if small else _why(record, contrast, config, names)
        vector = packed(np.asarray(vectors[i])) if vectors is not None and not why else ""
        found.append(Drawn(record, why, "", 0, brightness, sharpness, vector))
    return found


def _why(record: Record, contrast: float, config: Filter, names: Sequence[str]) -> str:
    """The first reason, of `ledger.REASONS`, for which an image is not taken; "" without one."""
    if contrast < config.contrast:
        return "black"
    if config.safety and record.flagged:
        return "unsafe"
    if not record.seen:
        return "not seen"
    if any(record.perceived.get(name, cls) != cls for name, cls in record.states.items()):
        return "disagrees"
    least = min(max(record.probs[name].values()) for name in names)
    return "unsure" if least < config.confidence else ""


def with_file(drawn: Drawn, folder: pathlib.Path) -> Drawn:
    """The row with what its file tells."""
    path = folder / drawn.record.image
    return replace(drawn, digest=digest(path), bytes=path.stat().st_size)
