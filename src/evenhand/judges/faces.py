"""Faces: found by MTCNN, cut out of the image so that gradients pass, and embedded.

All of facenet-pytorch.

Its metadata asks for an old torch, so no dependency resolver installs it: `pip install --no-deps
facenet-pytorch`. MTCNN's weights come with it; those of the embedding are fetched, or read from a
file.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import UserError, loading
from evenhand.recipes.judge import Faces

LEAST = 20  # pixels: the smallest face that MTCNN finds, so the smallest picture it takes
LONGER = 480  # pixels of the longer side on which faces are found, at most


def _facenet() -> Any:
    try:
        import facenet_pytorch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "faces need facenet-pytorch: pip install --no-deps facenet-pytorch (its metadata "
            "asks for an old torch that it does not need)"
        ) from error
    return facenet_pytorch


class Found(NamedTuple):
    """The faces of N images.

    Attributes:
        crops: `[N, 3, size, size]` of the largest, differentiable in the images; the whole image
            where there is none.
        boxes: `[N, 4]` pixels of the crops, left, top, right, bottom.
        faces: `[N]` int, how many there are.
    """

    crops: Tensor
    boxes: Tensor
    faces: Tensor


class FaceCrops:
    """Cuts the largest face out of each image.

    Args:
        config: margin, size and confidence.
        device: of the detector.
    """

    def __init__(self, config: Faces, *, device: str | torch.device = "cpu") -> None:
        self.config = config
        self._detector = _facenet().MTCNN(
            select_largest=True, min_face_size=LEAST, device=torch.device(device)
        )

    def __call__(self, images: Tensor) -> Found:
        """Finds the faces of images `[N, 3, H, W]` in [0, 1] and cuts the largest ones out.

        In a picture of less than `LEAST` pixels none is found.
        """
        found = self._find(images.detach())
        whole = (0.0, 0.0, float(images.shape[3]), float(images.shape[2]))
        boxes = torch.tensor(
            [_square(faces[0], self.config.margin) if len(faces) else whole for faces in found],
            device=images.device,
        )
        numbers = torch.tensor([len(faces) for faces in found], device=images.device)
        return Found(crop(images, boxes, self.config.size), boxes, numbers)

    def _find(self, images: Tensor) -> list[NDArray]:
        """For each image the boxes `[F, 4]` of its faces in pixels, the largest first.

        On copies of which the longer side has `LONGER` pixels, all at once.
        """
        height, width = images.shape[2:]
        if min(height, width) < LEAST:
            return [np.empty((0, 4))] * len(images)
        scale = min(1.0, max(LONGER / max(height, width), LEAST / min(height, width)))
        small = round(height * scale), round(width * scale)
        if small != (height, width):
            images = F.interpolate(images, small, mode="bilinear", antialias=True)
        back = np.array([width / small[1], height / small[0]] * 2)
        pixels = (images.clamp(0, 1) * 255).movedim(1, -1)
        return [boxes * back for boxes in self._detect(pixels)]

    def _detect(self, pixels: Tensor) -> list[NDArray]:
        """Boxes `[F, 4]` in images `[N, H, W, 3]` of 0 to 255, those sure enough."""
        try:
            boxes, sureness = self._detector.detect(pixels)
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError):
            # facenet-pytorch 2.6 stumbles over a candidate that lies outside its image
            if len(pixels) == 1:
                return [np.empty((0, 4))]
            return [self._detect(image[None])[0] for image in pixels]
        return [
            np.empty((0, 4))
            if found is None
            else np.array(found, dtype=float)[np.array(p, dtype=float) >= self.config.confidence]
            for found, p in zip(boxes, sureness, strict=True)
        ]


def _square(box: NDArray, margin: float) -> tuple[float, float, float, float]:
    """The square around a box's centre, its side the box's longer one and the margin."""
    x, y, half = (
        (box[0] + box[2]) / 2,
        (box[1] + box[3]) / 2,
        max(box[2] - box[0], box[3] - box[1]) * (1 + margin) / 2,
    )
    return float(x - half), float(y - half), float(x + half), float(y + half)


def crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cuts boxes out and resizes them, differentiably; black outside the image.

    Bilinear, with a triangle as wide as a pixel of the crop where that is more than one of the
    image (the antialiasing of Pillow and torchvision): every pixel of the box counts.

    Args:
        images: `[N, 3, H, W]`.
        boxes: `[N, 4]` pixels: left, top, right, bottom.
        size: of the crops `[N, 3, size, size]`.
    """
    rows = _weights(boxes[:, 1], boxes[:, 3], size, images.shape[2]).to(images.dtype)
    columns = _weights(boxes[:, 0], boxes[:, 2], size, images.shape[3]).to(images.dtype)
    return rows[:, None] @ images @ columns[:, None].mT


def _weights(start: Tensor, end: Tensor, size: int, length: int) -> Tensor:
    """How much each of the image's pixels counts for each of the crop's, along one side.

    Args:
        start: `[N]` of the boxes, pixels.
        end: `[N]`.
        size: pixels of the crop.
        length: pixels of the image.

    Returns:
        `[N, size, length]`; rows sum to 1, less where they reach beyond the image.
    """
    step = (end - start) / size  # pixels of the image in one of the crop
    reach = step.clamp(min=1)
    beyond = int(reach.max()) + 1
    first = min(0, int(start.min()) - beyond)
    last = max(length, int(end.max()) + beyond)
    pixels = torch.arange(first, last, device=start.device) + 0.5
    places = start[:, None] + (torch.arange(size, device=start.device) + 0.5) * step[:, None]
    distance = (pixels - places[:, :, None]).abs() / reach[:, None, None]
    weights = (1 - distance).clamp(min=0)
    weights = weights / weights.sum(-1, keepdim=True)
    return weights[:, :, -first : length - first]


class FaceEmbedding:
    """Identity embedding of face crops: InceptionResnetV1 of facenet-pytorch.

    Args:
        weights: `vggface2`, `casia-webface` (both fetched), or a file of its state.
        device: of the network.
    """

    def __init__(self, weights: str, *, device: str | torch.device = "cpu") -> None:
        facenet = _facenet()
        with loading(f"face embedding {weights!r}"):
            if weights in ("vggface2", "casia-webface"):
                network = facenet.InceptionResnetV1(pretrained=weights)
            else:
                network = facenet.InceptionResnetV1()
                state = torch.load(weights, map_location="cpu", weights_only=True)
                network.load_state_dict(
                    {k: v for k, v in state.items() if not k.startswith("logits.")}, strict=False
                )
        self._network = network.eval().requires_grad_(False).to(device)

    def __call__(self, crops: Tensor) -> Tensor:
        """Unit vectors `[N, 512]` of crops `[N, 3, H, W]` in [0, 1]."""
        return self._network(
            F.interpolate(crops, (160, 160), mode="bilinear", antialias=True) * 2 - 1
        )
