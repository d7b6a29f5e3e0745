"""Where the realism loss measures faces: an embedding, and a bank of real faces in it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.errors import loading
from evenhand.judges.base import Judge, Predictions
from evenhand.judges.faces import FaceEmbedding, crop
from evenhand.recipes.dft import Realism

SIZE = 160  # pixels of a crop


class FaceSpace:
    """An embedding of faces and the bank in it.

    Args:
        config: which.
        classifier: the training classifier, for `network: classifier`.
        device: of the network and the bank.
    """

    def __init__(self, config: Realism, classifier: Judge, *, device: str | torch.device) -> None:
        facenet = config.network == "facenet"
        self._embed = (
            FaceEmbedding(config.weights, device=device) if facenet else classifier.features
        )
        self.bank = _bank(config.bank).to(device) if config.bank else None

    def pair(
        self, images: Tensor, found: Predictions, base: Tensor, classifier: Judge
    ) -> tuple[Tensor, Tensor]:
        """Embeddings `[n seen, D]` of the faces seen now, and of the frozen model's faces."""
        with torch.no_grad():
            own = self._faces(base, found if found.boxes is None else classifier(base))[found.seen]
        return self._faces(images, found)[found.seen], own

    def _faces(self, images: Tensor, found: Predictions) -> Tensor:
        return self._embed(images if found.boxes is None else crop(images, found.boxes, SIZE))


def _bank(path: str) -> Tensor:
    from safetensors.torch import load_file

    with loading(f"realism.bank {path}", advice="It shall be a safetensors file with `embeddings`"):
        return F.normalize(load_file(path)["embeddings"].float(), dim=-1)
