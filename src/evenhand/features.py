"""Features in which images are compared: of a classifier, of CLIP (open_clip) or of DINOv2 (transformers); or pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenhand.classifiers import AttributeClassifier
from evenhand.config import Feature
from evenhand.errors import UserError

DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def load_features(entries: list[Feature], classifier: AttributeClassifier, *,
                  device: str | torch.device) -> list[tuple[float, Callable[[Tensor], Tensor]]]:
    """Loads feature functions, frozen, differentiable in the images.

    Args:
        entries: what the YAML lists.
        classifier: the training classifier, for `kind: classifier`.
        device: of the networks.

    Returns:
        (weight, function from images `[N, 3, H, W]` in [0, 1] to `[N, D]`, or to images for `kind: pixels`).

    Raises:
        UserError: weights that cannot be had.
    """
    own = {"pixels": lambda images: images, "classifier": classifier.features}
    return [(e.weight, own[e.kind] if e.kind in own else NETWORKS[e.kind](e).to(device)) for e in entries]


class Clip(nn.Module):
    """Image embedding of an open_clip model after its projection.

    Args:
        entry: `model`, an open_clip architecture; `weights`, its tag or a local file (none: random, for tests).
    """

    def __init__(self, entry: Feature) -> None:
        super().__init__()
        self.model, self._fit = open_clip_model(entry.model or "ViT-B-32", entry.weights)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings `[N, D]`."""
        return self.model.encode_image(self._fit(images))


def open_clip_model(model: str, weights: str | None) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """An open_clip model, frozen, and the function that makes images `[N, 3, H, W]` in [0, 1] its input.

    Raises:
        UserError: there is no such model, or its weights cannot be had.
    """
    import open_clip

    try:
        network = open_clip.create_model(model, pretrained=weights).eval().requires_grad_(False)
    except Exception as error:
        raise _unavailable("clip", f"{model} {weights or ''}", error) from error
    visual: Any = network.visual
    size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
    config = getattr(visual, "preprocess_cfg", {})
    mean, std = config.get("mean", open_clip.OPENAI_DATASET_MEAN), config.get("std", open_clip.OPENAI_DATASET_STD)
    return network, lambda images: resized(images, size, mean, std)


class Dino(nn.Module):
    """Class token of a DINOv2 model of transformers.

    Args:
        entry: `model`, a Hub name or a folder.
    """

    def __init__(self, entry: Feature) -> None:
        from transformers import AutoModel

        super().__init__()
        try:
            self.network = AutoModel.from_pretrained(entry.model or "facebook/dinov2-base").eval().requires_grad_(False)
        except Exception as error:
            raise _unavailable("dino", entry.model or "", error) from error
        self._size = 224 // self.network.config.patch_size * self.network.config.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Class tokens `[N, D]`."""
        return self.network(resized(images, self._size, DINO_MEAN, DINO_STD)).last_hidden_state[:, 0]


NETWORKS = {"clip": Clip, "dino": Dino}


def resized(images: Tensor, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images `[N, 3, H, W]` in [0, 1] at a network's size, normalised."""
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]


def _unavailable(kind: str, name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"features {kind} {name.strip()}: cannot be loaded: {reason}. Name a local file or folder, or go online once")
