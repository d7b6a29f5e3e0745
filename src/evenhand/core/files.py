"""Writing files so that none is ever half there: to a temporary name beside it, then renamed.

And their digests.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder.

    On success it replaces `path`, on any error it is removed.

    The path may become a file or a folder. A folder that stands at `path` is replaced as a whole.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def digest(path: str | os.PathLike) -> str:
    """First twelve hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def digest_of(value: Any) -> str:
    """As `digest`, of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file whole."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON (indent 1, keys in the given order) whole. NaN is refused: missing is null."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
