"""Images of tables as a network is trained on them, decoded once where memory allows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from evenhand.images.labelled import pixels_of

KEPT = 2**30  # bytes of decoded images that are kept, at most


class Images:
    """The images of a table, `[S, S, 3]` uint8.

    Args:
        rows: as `evenhand.images.labelled` gives them.
        size: S.
    """

    def __init__(self, rows: Any, size: int) -> None:
        self._rows, self._size = rows, size
        keeps = len(rows) * 3 * size * size <= KEPT
        shape = (len(rows) if keeps else 0, size, size, 3)
        self._kept = torch.empty(shape, dtype=torch.uint8)
        self._known = [False] * len(self._kept)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        if not self._known:
            return torch.from_numpy(pixels_of(self._rows[index], self._size))
        if not self._known[index]:
            self._kept[index] = torch.from_numpy(pixels_of(self._rows[index], self._size))
            self._known[index] = True
        return self._kept[index]


class Examples(Dataset):
    """Some of the images, with what a loss needs: rows of `evenhand.training.fit`.

    Args:
        images: of tables whose rows are numbered one after the other.
        rows: `[N]` which.
        labels: `[N]` class of the target.
        groups: `[N]` group as objectives count them, 0 to G - 1.
    """

    def __init__(
        self, images: Sequence[Images], rows: Tensor, labels: Tensor, groups: Tensor
    ) -> None:
        self._images, self.rows, self.labels, self.groups = images, rows, labels, groups

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "images": self._image(int(self.rows[index])),
            "labels": self.labels[index],
            "groups": self.groups[index],
        }

    def _image(self, row: int) -> Tensor:
        for images in self._images:
            if row < len(images):
                return images[row]
            row -= len(images)
        raise IndexError(row)

    def some(self, places: Tensor) -> "Examples":
        """Some of them."""
        return Examples(self._images, self.rows[places], self.labels[places], self.groups[places])
