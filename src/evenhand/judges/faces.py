"""Faces: found by MTCNN, cut out of the image so that gradients pass, and embedded.

All of facenet-pytorch.

Its metadata asks for an old torch, so no dependency resolver installs it: `pip install --no-deps
facenet-pytorch`. MTCNN's weights come with it; those of the embedding are fetched, or read from a
file.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import UserError, loading
from evenhand.recipes.judge import Faces


def _facenet() -> Any:
    try:
        import facenet_pytorch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "faces need facenet-pytorch: pip install --no-deps facenet-pytorch (its metadata "
            "asks for an old torch "
            "that it does not need)"
        ) from error
    return facenet_pytorch


class FaceCrops:
    """Cuts the largest face out of each image.

    Args:
        config: margin, size and confidence.
        device: of the detector.
    """

    def __init__(self, config: Faces, *, device: str | torch.device = "cpu") -> None:
        self.config = config
        self._detector = _facenet().MTCNN(select_largest=True, device=torch.device(device))

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Finds the faces and cuts them out.

        Args:
            images: `[N, 3, H, W]` in [0, 1].

        Returns:
            crops `[N, 3, size, size]`, differentiable in the images; `[N]` bool, whether a face was
            found; the crops' boxes `[N, 4]` in pixels, the whole image where none was.
        """
        found = [self._largest(image) for image in images.detach()]
        seen = torch.tensor([box is not None for box in found], device=images.device)
        whole = (0.0, 0.0, float(images.shape[3]), float(images.shape[2]))
        boxes = torch.tensor(
            [whole if box is None else _square(box, self.config.margin) for box in found],
            device=images.device,
        )
        return crop(images, boxes, self.config.size), seen, boxes

    def _largest(self, image: Tensor) -> np.ndarray | None:
        picture = Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().cpu().numpy())
        boxes, probabilities = self._detector.detect(picture)
        found = [] if boxes is None else zip(boxes, probabilities, strict=True)  # largest first
        return next((box for box, p in found if p >= self.config.confidence), None)


def _square(box: np.ndarray, margin: float) -> tuple[float, float, float, float]:
    """The square around a box's centre, its side the box's longer one and the margin."""
    x, y, half = (
        (box[0] + box[2]) / 2,
        (box[1] + box[3]) / 2,
        max(box[2] - box[0], box[3] - box[1]) * (1 + margin) / 2,
    )
    return float(x - half), float(y - half), float(x + half), float(y + half)


def crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cuts boxes out, bilinearly and differentiably; black outside the image.

    Args:
        images: `[N, 3, H, W]`.
        boxes: `[N, 4]` pixels: left, top, right, bottom.
        size: of the crops `[N, 3, size, size]`.
    """
    scale = boxes.new_tensor([images.shape[3], images.shape[2]])
    centre, extent = (
        (boxes[:, :2] + boxes[:, 2:]) / scale - 1,
        (boxes[:, 2:] - boxes[:, :2]) / scale,
    )
    zero = torch.zeros_like(centre[:, 0])
    rows = [[extent[:, 0], zero, centre[:, 0]], [zero, extent[:, 1], centre[:, 1]]]
    theta = torch.stack([torch.stack(row, -1) for row in rows], 1)
    grid = F.affine_grid(theta.to(images.dtype), [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


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
