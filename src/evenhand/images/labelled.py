"""Labelled images: parquet files, folders of class folders, Hub data sets."""

import contextlib
import hashlib
import io
import os
import pathlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch.nn.functional import interpolate

from evenhand.core.errors import UserError, loading
from evenhand.images.io import Pixels, Unreadable, read_image
from evenhand.images.tables import rows_of_file
from evenhand.images.tensors import to_float, to_uint8


def labelled(
    path: str | os.PathLike, *, split: str | None = None, seed: int = 0, image: str = "image"
) -> dict[str, Any]:
    """Labelled images as `datasets.Dataset` by split, with columns `image` and labels.

    The images are not decoded: `pixels_of` reads them.

    Args:
        path: parquet file; folder with a folder of images for each class (column `label`), or with
            a metadata.csv; table (`.csv`, `.jsonl`) of image files, relative to it, and labels; or
            Hub name.
        split: column that names the split of each row; else the data's own splits, or a random
            80/10/10.
        seed: of the random split.
        image: column that holds the images, or their files.

    Raises:
        UserError: it cannot be read, or has no images.
    """
    import datasets

    path = str(path)
    if "/" not in path and not os.path.exists(path):  # a cache of another time would be found
        raise UserError(
            f"{path}: labelled images: no such file or folder; a data set of the Hub has its "
            "owner's name in front (owner/name)"
        )
    datasets.disable_progress_bars()
    found = _with_images(_loaded(path, image), path, image)
    with loading(f"{path}: labelled images"):
        whole = datasets.concatenate_datasets(list(found.values()))
    with loading(f"{path}: column 'image'", advice="It shall hold images, or paths of files"):
        whole = whole.cast_column("image", datasets.Image(decode=False))
    if split:
        if split not in whole.column_names:
            raise UserError(
                f"{path}: has no column {split!r} that says the split; its columns are "
                f"{', '.join(whole.column_names)}. Name another, or none for a random 80/10/10: "
                "split=null in a training, no --split-column in a calibration"
            )
        names = np.array([str(name) for name in whole[split]])
        return {
            name: whole.select(np.flatnonzero(names == name))
            for name in sorted(set(names.tolist()))
        }
    if len(found) > 1:
        return {
            str(name): part.cast_column("image", datasets.Image(decode=False))
            for name, part in found.items()
        }
    order, n = np.random.default_rng(seed).permutation(len(whole)), len(whole)
    cuts = {
        "train": (0, int(0.8 * n)),
        "validation": (int(0.8 * n), int(0.9 * n)),
        "test": (int(0.9 * n), n),
    }
    return {name: whole.select(order[a:b]) for name, (a, b) in cuts.items()}


def _with_images(found: dict[str, Any], path: str, image: str) -> dict[str, Any]:
    """The splits with the column of images called `image`.

    Raises:
        UserError: there is none of that name.
    """
    for part in found.values():
        if image not in part.column_names:
            raise UserError(
                f"{path}: has no column {image!r}; its columns are {', '.join(part.column_names)}"
            )
    if image == "image":
        return found
    return {name: part.rename_column(image, "image") for name, part in found.items()}


def _loaded(path: str, image: str) -> dict[str, Any]:
    """The data's own splits."""
    import datasets

    kind = pathlib.Path(path).suffix.lower()
    with loading(f"{path}: labelled images"):
        if kind in {".csv", ".jsonl", ".ndjson"}:
            return {"all": _of_table(pathlib.Path(path), image)}
        found = (
            datasets.load_dataset("parquet", data_files=path)
            if kind == ".parquet"
            else datasets.load_dataset(path)
        )
        return {str(name): part for name, part in found.items()}


def _of_table(path: pathlib.Path, image: str) -> Any:
    """The rows of a table, their files as absolute paths."""
    import datasets

    rows = list(rows_of_file(path))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get(image), str):
            raise UserError(f"{path}, row {number}: names no file in a column {image!r}")
        row[image] = str(path.parent.absolute() / row[image])
    if not rows:
        raise UserError(f"{path}: lists no image")
    return datasets.Dataset.from_list(rows)


def values(rows: Any, column: str, where: str) -> list[Any]:
    """The values of a label column; class indices become their names.

    Raises:
        UserError: no such column.
    """
    if column not in rows.column_names:
        raise UserError(
            f"{where}: has no column {column!r} of labels; its columns are "
            f"{', '.join(rows.column_names)}"
        )
    found, feature = list(rows[column]), rows.features[column]
    return [feature.int2str(v) for v in found] if hasattr(feature, "int2str") else found


def readable(rows: Any, where: str, *, side: int | None = None) -> Iterator[tuple[int, Pixels]]:
    """The images that can be read, with their numbers; a warning counts the others at the end.

    Args:
        rows: of what `labelled` returns.
        where: they are from, for the warning.
        side: as of `read_image`.
    """
    unread = []
    for i, row in enumerate(rows):
        try:
            yield i, _pixels(row, None, side)
        except Unreadable as error:
            unread.append(f"{name_of(row)} ({error})")
    if unread:
        warnings.warn(
            f"{where}: {len(unread)} of {len(rows)} images could not be read and count for "
            f"nothing, such as {unread[0]}",
            stacklevel=2,
        )


def name_of(row: dict[str, Any]) -> str:
    """What an image of labelled data is called: its file, or its labels where it has none."""
    file = (row["image"] or {}).get("path")
    return str(file or {name: value for name, value in row.items() if name != "image"})


def values_found(found: Iterable[Any], most: int = 8) -> str:
    """The values of a label column in words, for errors: the most frequent first."""
    counted = Counter(str(v) for v in found if v is not None)
    known = sorted(counted, key=lambda v: (-counted[v], v))[: most + 1]
    more = ", ..." if len(known) > most else ""
    return f"its values are {', '.join(known[:most])}{more}" if known else "it has no values"


def digests(rows: Any) -> list[str]:
    """For each row sixteen hex digits of its image file; an empty text where it cannot be read."""
    found = []
    for row in rows:
        image: dict[str, Any] = row["image"] or {"bytes": None, "path": None}
        data, path = image["bytes"], image["path"]
        if data is None and path is not None:
            with contextlib.suppress(OSError):
                data = pathlib.Path(path).read_bytes()
        found.append("" if data is None else hashlib.sha256(data).hexdigest()[:16])
    return found


def pixels_of(row: dict[str, Any], size: int | None = None, *, side: int | None = None) -> Pixels:
    """The image `[H, W, 3]` uint8 of a row of labelled data, resized to a square where asked.

    Args:
        row: of what `labelled` returns.
        size: height and width of the result; its own when None.
        side: as of `read_image`, where the image is not resized here.

    Raises:
        UserError: it is damaged, missing, or too large.
    """
    try:
        return _pixels(row, size, side)
    except Unreadable as error:
        raise UserError(
            f"labelled images: the image of {name_of(row)}: {error}; leave it out"
        ) from error


def _pixels(row: dict[str, Any], size: int | None, side: int | None) -> Pixels:
    image: dict[str, Any] = row["image"] or {"bytes": None, "path": None}
    source = image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])
    if source is None:
        raise Unreadable("is not there")
    pixels = read_image(source, side=size or side)
    if size is None or pixels.shape[:2] == (size, size):
        return pixels
    images = interpolate(to_float(pixels[None]), (size, size), mode="bilinear", antialias=True)
    return to_uint8(images)[0]
