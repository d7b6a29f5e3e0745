"""Images of the frozen model, by prompt, seed and sampling steps.

Those of a pool of seeds are drawn once and kept as PNG.
"""

import hashlib
import pathlib

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evenhand.adapt.dft.batches import Batch
from evenhand.core.files import whole
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.sampling import draw
from evenhand.diffusion.trainable import Trainable
from evenhand.images.io import Pixels, read_image
from evenhand.images.tensors import to_float, to_uint8


class References:
    """Draws or finds reference images.

    Args:
        folder: of the kept images; nothing is kept when None.
        diffusion: the pipeline in training.
        trainable: what must be left out to have the frozen model.
        at_once: images drawn in one batch.
    """

    def __init__(
        self,
        folder: pathlib.Path | None,
        diffusion: Diffusion,
        trainable: Trainable,
        *,
        at_once: int | None,
    ) -> None:
        self._folder, self._diffusion, self._trainable, self._at_once = (
            folder,
            diffusion,
            trainable,
            at_once,
        )
        self._kept: dict[str, Pixels] = {}

    @torch.no_grad()
    def __call__(self, batch: Batch, rows: Tensor) -> Tensor:
        """The images `[n, 3, H, W]` of the given rows, in [0, 1] in steps of 1/255, as if kept."""
        keys = {i: self._key(batch, i) for i in rows.tolist()}
        missing = [i for i, key in keys.items() if not self._find(key)]
        asked = [(batch.prompts[i], batch.seeds[i]) for i in missing]
        steps, drawn = batch.num_inference_steps, 0
        with self._trainable.frozen():
            for _, images in draw(
                self._diffusion, asked, at_once=self._at_once, num_inference_steps=steps
            ):
                for pixels in to_uint8(images):
                    self._keep(keys[missing[drawn]], pixels)
                    drawn += 1
        pixels = np.stack([self._kept[key] for key in keys.values()])
        self._kept.clear()
        return to_float(pixels, self._diffusion.pipe.device)

    def _key(self, batch: Batch, i: int) -> str:
        what = (
            self._diffusion.source,
            batch.prompts[i].text,
            batch.seeds[i],
            batch.num_inference_steps,
            self._diffusion.settings.model_dump_json(),
        )
        return hashlib.sha256(repr(what).encode()).hexdigest()[:24]

    def _find(self, key: str) -> bool:
        if (
            key not in self._kept
            and self._folder is not None
            and (path := self._folder / f"{key}.png").exists()
        ):
            self._kept[key] = read_image(path)
        return key in self._kept

    def _keep(self, key: str, image: Pixels) -> None:
        self._kept[key] = image
        if self._folder is not None:
            with whole(self._folder / f"{key}.png") as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
