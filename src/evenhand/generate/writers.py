"""The three formats of a set, a shard at a time.

`datasets` and `webdataset` read them; there is no writer for two of them.
"""

import io
import json
import pathlib
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from evenhand.core.files import whole, write_text
from evenhand.images.io import read_image
from evenhand.recipes.generate import Format

SHARD = 1000  # images of a file, at most
GROUP = 100  # rows of parquet that are held in memory
Rows = Sequence["Item"]


@dataclass(frozen=True)
class Item:
    """An image of a set.

    Attributes:
        path: of its file.
        row: its metadata, `id` first.
        own: whether evenhand wrote the file; else it is written anew as PNG, with the pixels that
            were judged.
    """

    path: pathlib.Path
    row: dict[str, Any]
    own: bool = True

    def png(self) -> bytes:
        """The image as a PNG file."""
        if self.own:
            return self.path.read_bytes()
        buffer = io.BytesIO()
        Image.fromarray(read_image(self.path)).save(buffer, format="PNG")
        return buffer.getvalue()


def write_parquet(path: pathlib.Path, items: Rows) -> None:
    """Rows with an `image` column of the type `datasets.Image`."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    kinds = {bool: "bool", int: "int64", float: "float64", str: "string"}
    columns = {
        name: datasets.Value("bool" if name == "flagged" else kinds[type(value)])
        for name, value in items[0].row.items()
    }
    schema = datasets.Features({"image": datasets.Image(), **columns}).arrow_schema
    with whole(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for start in range(0, len(items), GROUP):
            rows = [
                {"image": {"bytes": x.png(), "path": f"{x.row['id']}.png"}, **x.row}
                for x in items[start : start + GROUP]
            ]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def write_imagefolder(path: pathlib.Path, items: Rows) -> None:
    """A folder of PNG files and `metadata.jsonl`."""
    with whole(path) as temporary:
        temporary.mkdir()
        lines = []
        for item in items:
            name = f"{item.row['id']}.png"
            (temporary / name).write_bytes(item.png())
            lines.append(json.dumps({"file_name": name, **item.row}, ensure_ascii=False))
        write_text(temporary / "metadata.jsonl", "".join(f"{line}\n" for line in lines))


def write_webdataset(path: pathlib.Path, items: Rows) -> None:
    """A tar file that holds `ID.png` and `ID.json` for each image; its bytes follow from them."""
    with whole(path) as temporary, tarfile.open(temporary, "w") as tar:
        for item in items:
            metadata = json.dumps(item.row, ensure_ascii=False).encode()
            for ending, content in (("png", item.png()), ("json", metadata)):
                info = tarfile.TarInfo(f"{item.row['id']}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


WRITERS: dict[Format, tuple[Callable[[pathlib.Path, Rows], None], str]] = {
    "parquet": (write_parquet, ".parquet"),
    "imagefolder": (write_imagefolder, ""),
    "webdataset": (write_webdataset, ".tar"),
}


def write_shards(
    folder: pathlib.Path,
    formats: Sequence[Format],
    split: str,
    items: Rows,
    first: int,
) -> list[tuple[str, int]]:
    """Writes images of a split in shards, in every format.

    Args:
        folder: of the set.
        formats: to write.
        split: its name.
        items: its images.
        first: number of the first shard.

    Returns:
        the shards' paths in the folder, and how many images each holds.
    """
    found = []
    for number, shard in enumerate(_shards(items), start=first):
        for kind in formats:
            write, ending = WRITERS[kind]
            path = f"{kind}/{split}/{number:05d}" if not ending else ""
            path = path or f"{kind}/{split}-{number:05d}{ending}"
            write(folder / path, shard)
            found.append((path, len(shard)))
    return found


def _shards(items: Rows) -> Iterator[Rows]:
    for start in range(0, len(items), SHARD):
        yield items[start : start + SHARD]
