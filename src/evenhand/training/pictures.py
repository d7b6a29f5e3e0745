"""Images with captions as a recipe names them, before a model encodes them."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of
from evenhand.images.labelled import digests, labelled, name_of, values
from evenhand.recipes.denoising import Captioned


@dataclass(frozen=True)
class Pictures:
    """N images with captions.

    Attributes:
        wanted: what the recipe says of them.
        rows: of the data.
        captions: N texts.
        files: digest of each image file; an empty text where it cannot be read.
    """

    wanted: Captioned
    rows: Any
    captions: list[str]
    files: list[str]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.captions)

    @property
    def digest(self) -> str:
        """Of the images and what they are called, in their order; where they lie has no part."""
        return digest_of([self.files, self.captions])

    def name(self, row: int) -> str:
        """The data and the file of an image, for messages; its labels where it has no file."""
        return f"{self.wanted.path}: {name_of(self.rows[row])}"

    def select(self, rows: Sequence[int]) -> "Pictures":
        """Some of them."""
        captions, files = ([x[i] for i in rows] for x in (self.captions, self.files))
        return Pictures(self.wanted, self.rows.select(rows), captions, files)


def read_pictures(wanted: Captioned) -> Pictures:
    """The images of a recipe; their files are read once, for their digests.

    Raises:
        UserError: the data or a column of the caption is not there, or a caption is empty.
    """
    rows = data_of(wanted)
    return Pictures(wanted, rows, captions_of(rows, wanted), digests(rows))


def data_of(wanted: Captioned) -> Any:
    """The data's rows, of the split that the recipe names. Raises UserError without that split."""
    import datasets

    parts = labelled(wanted.path)
    if wanted.split and wanted.split not in parts:
        raise UserError(f"{wanted.path}: has no split {wanted.split!r}; it has {', '.join(parts)}")
    return parts[wanted.split] if wanted.split else datasets.concatenate_datasets([*parts.values()])


def captions_of(
    rows: Any, wanted: Captioned, known: Mapping[str, Sequence[Any]] | None = None
) -> list[str]:
    """The caption of each row.

    Args:
        rows: of the data.
        wanted: the template.
        known: texts of slots that are no columns, one a row.

    Raises:
        UserError: no such column, a row without a caption, or a value that the template cannot
            take.
    """
    known = known or {}
    fields = [
        name for _, name, _, _ in string.Formatter().parse(wanted.caption) if name is not None
    ]
    columns = {
        name: known[name] if name in known else values(rows, name, f"{wanted.path}: caption")
        for name in fields
    }
    return [
        _caption(wanted, {name: column[i] for name, column in columns.items()}, rows, i)
        for i in range(len(rows))
    ]


def _caption(wanted: Captioned, words: dict[str, Any], rows: Any, row: int) -> str:
    """The caption of one row, of which `words` are the values."""
    try:
        caption = "" if None in words.values() else wanted.caption.format(**words)
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(
            f"{wanted.path}: {name_of(rows[row])}: caption {wanted.caption!r} cannot be filled "
            f"with {words} ({error})"
        ) from error
    if not caption.strip():
        raise UserError(
            f"{wanted.path}: {name_of(rows[row])} has no caption ({wanted.caption!r}); fill it in, "
            "or leave the row out"
        )
    return caption
