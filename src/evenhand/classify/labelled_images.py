"""Labelled images as a network sees them: whole, or the faces cut out.

Where the faces are is found once and kept in the run directory.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, whole
from evenhand.devices import default_device
from evenhand.images.labelled import pixels_of, values, values_found
from evenhand.images.tensors import in_batches, to_float, to_uint8
from evenhand.judges.faces import FaceCrops, crop
from evenhand.recipes.judge import Faces
from evenhand.recipes.judge_training import JudgeTraining


class LabelledImages(Dataset):
    """Images `[S, S, 3]` uint8, the index of each attribute's class `[A]`, and which are known.

    Args:
        rows: of one split, as `evenhand.images.labelled` gives them.
        recipe: names the columns and the size S.
        where: the data and the split, for errors.
        boxes: `[N, 4]` pixels of what is cut out of each image; the whole image when None.
    """

    def __init__(
        self, rows: Any, recipe: JudgeTraining, where: str, boxes: Tensor | None = None
    ) -> None:
        self._rows, self._size, self._boxes = rows, recipe.size, boxes
        said = {a: values(rows, x.column, where) for a, x in recipe.attributes.items()}
        columns = [[x.find(v) for v in said[a]] for a, x in recipe.attributes.items()]
        self.known = torch.tensor([[k is not None for k in column] for column in columns]).T
        self.labels = torch.tensor([[k or 0 for k in column] for column in columns]).T
        for place, (name, labels) in enumerate(recipe.attributes.items()):
            for k, cls in enumerate(labels.names):
                if not (self.known[:, place] & (self.labels[:, place] == k)).any():
                    raise UserError(
                        f"{where}: no image has class {cls!r} of {name!r} (column "
                        f"{labels.column!r}, {values_found(said[name])}); "
                        f"attributes.{name}.classes says which values mean a class"
                    )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self._rows[index]
        if self._boxes is None:
            pixels = pixels_of(row, self._size)
        else:
            whole, box = to_float(pixels_of(row)[None]), self._boxes[index][None]
            pixels = to_uint8(crop(whole, box, self._size))[0]
        return {
            "images": torch.from_numpy(pixels),
            "labels": self.labels[index],
            "known": self.known[index],
        }


def images_of(
    rows: Any,
    recipe: JudgeTraining,
    folder: pathlib.Path,
    where: str,
    identity: str,
    progress: Callable[[int, int, str], None] | None,
) -> "LabelledImages":
    """The images of a split as the network sees them: whole, or the faces cut out.

    Args:
        rows: of the split, as `evenhand.images.labelled` gives them.
        recipe: says whether, and how, faces are cut out.
        folder: run directory; it keeps where they are.
        where: the data and the split, for errors.
        identity: digest of the images, by which what was kept is theirs.
        progress: called with (images done, images in all, words).

    Raises:
        UserError: no image shows a face.
    """
    if not recipe.crops:
        return LabelledImages(rows, recipe, where)
    kept = folder / f"faces-{digest_of([identity, recipe.crops.model_dump()])}.npy"
    rows, boxes = _with_faces(rows, recipe.crops, kept, where, progress=progress)
    return LabelledImages(rows, recipe, f"{where}, where a face was found", boxes)


def _with_faces(
    rows: Any,
    faces: Faces,
    kept: pathlib.Path,
    where: str,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Any, Tensor]:
    """The rows that show a face, and the box `[N, 4]` of the largest, in pixels.

    Args:
        rows: of one split, as `evenhand.images.labelled` gives them.
        faces: how they are cut out.
        kept: file of the boxes, so that a training that goes on does not look for them again.
        where: the data and the split, for errors.
        progress: called with (images done, images in all, words).

    Raises:
        UserError: no image shows a face.
    """
    if not kept.is_file():
        found = _boxes(rows, faces, progress)
        with whole(kept) as temporary, temporary.open("wb") as file:
            np.save(file, found)
    boxes = np.load(kept)
    there = np.flatnonzero(np.isfinite(boxes).all(1))
    if not len(there):
        raise UserError(
            f"{where}: in none of the {len(rows)} images a face was found; if these are crops of "
            "faces already, leave faces out (faces=null)"
        )
    return rows.select(there), torch.from_numpy(boxes[there])


def _boxes(
    rows: Any,
    faces: Faces,
    progress: Callable[[int, int, str], None] | None,
) -> np.ndarray:
    """Boxes `[N, 4]` float32 of all rows; NaN, in this file only, where there is no face."""
    device, done = default_device(), 0
    find = FaceCrops(faces, device=device)
    boxes = np.full((len(rows), 4), np.nan, dtype=np.float32)
    for places, images in in_batches(((i, pixels_of(r)) for i, r in enumerate(rows)), 64):
        found = find(images.to(device))
        there = (found.faces > 0).cpu().numpy()
        boxes[np.array(places)[there]] = found.boxes.cpu().numpy()[there]
        done += len(places)
        if progress:
            progress(done, len(rows), "images searched for faces")
    return boxes
