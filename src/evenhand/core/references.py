"""Reference images of an adapter: what it drew when it was made, for whoever loads it later.

`references.json` in the adapter's folder says what they are, `references/` holds them.
"""

import pathlib
from typing import Annotated, Any, Literal

from pydantic import Field

from evenhand.core.schema import Strict, check, read_json

FILE, FOLDER = "references.json", "references"
IMAGES = 4  # of an adapter


class Reference(Strict):
    """One image: its prompt as the user types it, without soft tokens, its seed and its file."""

    prompt: str
    seed: int
    file: Annotated[str, Field(pattern=r"^references/\w[\w.-]*\.png$")]


class References(Strict):
    """What `references.json` holds.

    Attributes:
        drawn_from: by the model in `training`, or with the adapter's `file` loaded.
        digest: of the adapter's weights.
        images: each drawn alone, with a generator of its own.
        settings: how the model sampled, as a model's YAML has them.
        dtype: of the model.
        threads, device, versions: of what drew; pixels may differ a little between them.
    """

    drawn_from: Literal["training", "file"]
    digest: str
    images: list[Reference]
    settings: dict[str, Any]
    dtype: str
    threads: int | None
    device: str | None
    versions: dict[str, str]


def read_references(folder: pathlib.Path) -> References | None:
    """Those of an adapter's folder; None where it has none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    values = read_json(path, what="a list of reference images", advice="delete it")
    return check(References, values, where=str(path))
