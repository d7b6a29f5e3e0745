"""Where a network's files lie, and the digests by which it is known.

A judge is what its weights and its settings are: neither the name nor the place of its files.
"""

import pathlib
from typing import NamedTuple

from evenhand.core.files import digest

WEIGHTS = ("*.safetensors", "*.bin")  # the first kind that is there is the one that is loaded
SETTINGS = (
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "chat_template.jinja",
)


class Source(NamedTuple):
    """A network of transformers, found.

    Attributes:
        path: folder or Hub name, to load it from.
        revision: the commit of a Hub name; None for a folder.
        folder: with its files; of a Hub name, those that the cache has so far.
    """

    path: str
    revision: str | None
    folder: pathlib.Path

    @property
    def identity(self) -> list[str]:
        """Its commit on the Hub, if it has one, and the digests of its weights.

        Those of its settings instead of a commit where it is a folder. To be asked for once it is
        loaded.
        """
        if self.revision:
            return [self.revision, *digests(self.folder)]
        return [*digests(self.folder), *digests(self.folder, SETTINGS)]


def find(path: str, revision: str | None = None) -> Source:
    """A folder, or a Hub name at the commit that the revision (or its main branch) means now.

    Raises:
        OSError: there is none, or the Hub cannot be reached.
    """
    if pathlib.Path(path).is_dir():
        return Source(path, None, pathlib.Path(path))
    from transformers.utils.hub import cached_file

    config = cached_file(path, "config.json", revision=revision)
    assert config  # or it raises
    folder = pathlib.Path(config).parent  # .../snapshots/COMMIT
    return Source(path, folder.name, folder)


def digests(folder: pathlib.Path, patterns: tuple[str, ...] = WEIGHTS) -> list[str]:
    """Digests of a folder's weights, or of the files of other patterns, by name."""
    groups = [sorted(folder.glob(pattern)) for pattern in patterns]
    if patterns is WEIGHTS:
        groups = [group for group in groups if group][:1]
    return [digest(file) for group in groups for file in group]
