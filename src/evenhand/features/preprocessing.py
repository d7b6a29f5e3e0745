"""What a network wants done to images before it sees them: its own processor's steps.

All of them on tensors, so that gradients reach the image.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import UserError


class Preprocessing(NamedTuple):
    """How images `[N, 3, H, W]` in [0, 1] become a network's input.

    Attributes:
        fit: the steps, differentiable.
        side: pixels of the image's shorter side that they keep; None where that is not known.
    """

    fit: Callable[[Tensor], Tensor]
    side: int | None


def of_transformers(path: str, revision: str | None, **kwargs: Any) -> Preprocessing:
    """The steps of a processor of transformers: resizing, cropping, rescaling, normalising.

    Args:
        path: folder or Hub name.
        revision: of a Hub name.
        kwargs: for the processor.

    Raises:
        UserError: the processor does not work on tensors.
    """
    from transformers import AutoImageProcessor
    from transformers.image_processing_backends import TorchvisionBackend

    processor: Any = AutoImageProcessor.from_pretrained(
        path, revision=revision, backend="torchvision", **kwargs
    )
    if isinstance(processor, TorchvisionBackend):
        return Preprocessing(
            # its own rescaling, whatever it is, begins at 0 to 255
            lambda images: processor(images * 255, return_tensors="pt").pixel_values,
            _side(getattr(processor, "size", None), getattr(processor, "crop_pct", None)),
        )
    steps = getattr(processor, "val_transforms", None)  # of timm, for images in [0, 1]
    if steps is None or getattr(processor, "_not_supports_tensor_input", False):
        raise UserError(
            f"{path}: its {type(processor).__name__} does not work on tensors, so that no gradient "
            "would reach the image; save it with a processor of torchvision's backend"
        )
    side = max(processor.data_config["input_size"][1:]) / processor.data_config["crop_pct"]
    return Preprocessing(steps, int(side) + 1)


def _side(size: Any, crop_pct: float | None) -> int | None:
    """The shorter side after a processor's resizing; None where it keeps another measure."""
    edge = getattr(size, "shortest_edge", None) or max(
        getattr(size, "height", None) or 0, getattr(size, "width", None) or 0
    )
    return int(edge / (crop_pct or 1)) + 1 if edge else None


def of_open_clip(config: dict[str, Any]) -> Preprocessing:
    """The steps that open_clip keeps with a network (`preprocess_cfg`)."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform: Any = image_transform_v2(PreprocessCfg(**config), is_train=False)
    first, *steps = transform.transforms
    if not isinstance(first, torch.nn.Module):
        raise UserError(
            f"its images are resized by {type(first).__name__}, which does not work on tensors"
        )
    # without the two that turn a PIL image into a tensor
    steps = [first, *(step for step in steps if isinstance(step, torch.nn.Module))]
    size = config["size"]
    return Preprocessing(torch.nn.Sequential(*steps), size if isinstance(size, int) else max(size))


def resized(images: Tensor, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images `[N, 3, H, W]` in [0, 1] squeezed to a network's size, normalised."""
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]
