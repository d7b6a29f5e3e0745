"""A pipeline's safety checker, which counts instead of blackening."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evenhand.images.tensors import to_uint8


@dataclass(frozen=True)
class SafetyChecker:
    """A pipeline's safety checker, taken out of it.

    Images are drawn as they are, and what it would have blackened is counted.
    """

    checker: Any
    processor: Any

    @classmethod
    def of(cls, pipe: Any) -> "SafetyChecker | None":
        """The pipeline's checker, taken out of it; None where it has none."""
        checker, processor = (
            getattr(pipe, "safety_checker", None),
            getattr(pipe, "feature_extractor", None),
        )
        if checker is None:
            return None
        pipe.safety_checker = None
        if processor is None:
            warnings.warn(
                "the model's safety checker has no feature extractor to see images with: it was "
                "taken out, and no image is checked",
                stacklevel=2,
            )
            return None
        return cls(checker, processor)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[bool]:
        """Whether it takes offence at each of the images `[N, 3, H, W]` in [0, 1]."""
        pictures = to_uint8(images)
        inputs = self.processor(list(pictures), return_tensors="pt").pixel_values
        dtype = next(self.checker.to(images.device).parameters()).dtype
        hits = self.checker(images=pictures, clip_input=inputs.to(images.device, dtype))[1]
        return [bool(hit) for hit in hits]
