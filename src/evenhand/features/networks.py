"""Features in which images are compared: of a classifier, CLIP (open_clip or transformers), DINOv2.

Or pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import loading
from evenhand.features.open_clip import is_open_clip, load_open_clip
from evenhand.features.preprocessing import of_transformers, resized
from evenhand.features.sources import find
from evenhand.recipes.features import Feature

DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
OFFLINE = "Name a local folder (of open_clip: model local-dir:FOLDER), or go online once"


def load_features(
    entries: list[Feature], of_judge: Callable[[Tensor], Tensor], *, device: str | torch.device
) -> list[tuple[float, Callable[[Tensor], Tensor]]]:
    """Loads feature functions, frozen, differentiable in the images.

    Args:
        entries: what the YAML lists.
        of_judge: the features of a judge, for `kind: classifier`.
        device: of the networks.

    Returns:
        (weight, function from images `[N, 3, H, W]` in [0, 1] to `[N, D]`, or to images for `kind:
        pixels`).

    Raises:
        UserError: weights that cannot be had.
    """

    def load(entry: Feature) -> Callable[[Tensor], Tensor]:
        if entry.kind == "pixels":
            return lambda images: images
        if entry.kind == "classifier":
            return of_judge
        if entry.kind == "clip":
            return Clip(entry.model or "openai/clip-vit-base-patch32", entry.weights, device=device)
        return Dino(entry.model or "facebook/dinov2-base", device=device)

    return [(entry.weight, load(entry)) for entry in entries]


def thumbnails(images: Tensor) -> Tensor:
    """Features `[N, 768]` of images `[N, 3, H, W]` of any size: 16x16 pixels of each."""
    return F.interpolate(images, (16, 16), mode="bilinear", antialias=True).flatten(1)


class Clip:
    """A model that embeds images and texts in one space.

    Of open_clip, or CLIP and SigLIP of transformers. Images pass through the steps that the model
    was trained with (`evenhand.features.preprocessing`).

    Args:
        model: open_clip architecture, with `weights`, or `local-dir:FOLDER` of open_clip's files;
            Hub name or folder of transformers.
        weights: open_clip's tag, or a local file.
        device: of the network.

    Attributes:
        scale: by which cosines are multiplied to be logits.
        side: pixels of an image's shorter side that it looks at; None where that is not known.
        identity: digests of its weights and files (`evenhand.features.sources`).

    Raises:
        UserError: there is no such model, or its weights cannot be had.
    """

    def __init__(
        self, model: str, weights: str | None, *, device: str | torch.device = "cpu"
    ) -> None:
        with loading(f"features clip {model} {weights or ''}".rstrip(), advice=OFFLINE):
            load = _load_open_clip if is_open_clip(model, weights) else _load_transformers
            self._embed_images, self._embed_texts, self.scale, steps, self.identity = load(
                model, weights, device
            )
        self._fit, self.side = steps

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings `[N, D]` of images `[N, 3, H, W]` in [0, 1]."""
        return self._embed_images(self._fit(images))

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """Embeddings `[M, D]` of texts, unit length."""
        return F.normalize(self._embed_texts(texts), dim=-1)


def _load_open_clip(model: str, weights: str | None, device: str | torch.device) -> tuple:
    network, tokenizer, steps, identity = load_open_clip(model, weights, device)
    return (
        network.encode_image,
        lambda x: network.encode_text(tokenizer(x).to(device)),
        float(network.logit_scale.exp()),
        steps,
        identity,
    )


def _load_transformers(model: str, _: str | None, device: str | torch.device) -> tuple:
    from transformers import AutoModel, AutoTokenizer

    source = find(model)
    network: Any = AutoModel.from_pretrained(
        source.path, revision=source.revision, dtype=torch.float32
    )
    network.eval().requires_grad_(False).to(device)
    tokenizer = AutoTokenizer.from_pretrained(source.path, revision=source.revision)

    def tensor(output: Any) -> Tensor:
        return output if isinstance(output, Tensor) else output.pooler_output

    def texts(x: list[str]) -> Tensor:
        ids = tokenizer(x, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return tensor(network.get_text_features(input_ids=ids.to(device)))

    return (
        lambda x: tensor(network.get_image_features(pixel_values=x)),
        texts,
        float(network.logit_scale.exp()),
        of_transformers(source.path, source.revision),
        source.identity,
    )


class Dino:
    """Class token of a DINOv2 model of transformers.

    Args:
        model: Hub name or folder.
        device: of the network.

    Raises:
        UserError: its weights cannot be had.
    """

    def __init__(self, model: str, *, device: str | torch.device = "cpu") -> None:
        from transformers import AutoModel

        with loading(f"features dino {model}", advice=OFFLINE):
            self._network: Any = (
                AutoModel.from_pretrained(model, dtype=torch.float32)
                .eval()
                .requires_grad_(False)
                .to(device)
            )
        self._size = 224 // self._network.config.patch_size * self._network.config.patch_size

    def __call__(self, images: Tensor) -> Tensor:
        """Class tokens `[N, D]` of images `[N, 3, H, W]` in [0, 1]."""
        return self._network(resized(images, self._size, DINO_MEAN, DINO_STD)).last_hidden_state[
            :, 0
        ]
