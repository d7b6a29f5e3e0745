"""Where the faces of labelled images are: found once, kept in the run directory."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, whole
from evenhand.images.labelled import pixels_of
from evenhand.images.tensors import in_batches
from evenhand.judges.faces import FaceCrops
from evenhand.recipes.judge import Faces


def with_faces(
    rows: Any,
    faces: Faces,
    folder: pathlib.Path,
    where: str,
    *,
    device: torch.device,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Any, Tensor]:
    """The rows that show a face, and the box `[N, 4]` of the largest, in pixels.

    Args:
        rows: of one split, as `evenhand.images.labelled` gives them.
        faces: how they are cut out.
        folder: run directory; it keeps the boxes, so that a training that goes on does not look
            for them again.
        where: the data and the split, for errors.
        device: of the detector.
        progress: called with (images done, images in all, words).

    Raises:
        UserError: no image shows a face.
    """
    kept = folder / f"faces-{digest_of([where, len(rows), faces.model_dump()])}.npy"
    if not kept.is_file():
        found = _boxes(rows, faces, device, progress)
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
    device: torch.device,
    progress: Callable[[int, int, str], None] | None,
) -> np.ndarray:
    """Boxes `[N, 4]` float32 of all rows; NaN, in this file only, where there is no face."""
    find, done = FaceCrops(faces, device=device), 0
    boxes = np.full((len(rows), 4), np.nan, dtype=np.float32)
    for places, images in in_batches(((i, pixels_of(r)) for i, r in enumerate(rows)), 64):
        found = find(images.to(device))
        there = (found.faces > 0).cpu().numpy()
        boxes[np.array(places)[there]] = found.boxes.cpu().numpy()[there]
        done += len(places)
        if progress:
            progress(done, len(rows), "images searched for faces")
    return boxes
