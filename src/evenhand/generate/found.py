"""Images made elsewhere as a set: the same labels, filter, quotas and card."""

import functools
import pathlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from evenhand.core.errors import UserError
from evenhand.core.files import digest, digest_of
from evenhand.core.prompts import Prompt, Row
from evenhand.core.records import hash63, key
from evenhand.core.resources import one_spelling
from evenhand.generate.drawing import Embed, embedding, looked_at
from evenhand.generate.drawn import Drawn, drawn_lines, without_image
from evenhand.generate.ledger import Ledger
from evenhand.generate.plan import SetPlan, classes_of, judge_of, judging
from evenhand.generate.quotas import Stream, quotas_of
from evenhand.generate.sizes import WishedSize
from evenhand.images.folders import by_folder
from evenhand.images.io import Pixels, read_images
from evenhand.images.tables import Picture, printable, read_table
from evenhand.images.tensors import in_batches
from evenhand.judges.base import Judge
from evenhand.judges.perceive import judged
from evenhand.recipes.generate import Generate


def plan_of_folder(config: Generate) -> tuple[SetPlan, list[Picture]]:
    """The set that a folder of images shall become, and its images in the order of their streams.

    A stream is the images of one family (the column of the table) of which the same was asked. What
    the recipe says of drawing is not used.

    Raises:
        UserError: no such folder, a class that the judge does not know, or no judge.
    """
    folder = pathlib.Path(config.from_images or "").resolve()
    if printable(folder) != str(folder):
        raise UserError(f"{printable(folder)}: its name is not UTF-8; rename it")
    judge = judge_of(config)
    classes = classes_of(config, judge)
    pictures = read_table(config.table, folder) if config.table else by_folder(folder)[0]
    by_stream: dict[tuple[str, ...], list[Picture]] = defaultdict(list)
    grouped = len({p.prompt.family for p in pictures}) > 1
    for picture in pictures:
        group = picture.prompt.family if grouped else ""
        states = {a: c for a, c in picture.prompt.states.items() if a in classes}
        place = picture.prompt.text if config.table else str(picture.path)
        split = _split(config, place)
        prompt = Prompt(picture.prompt.text, picture.prompt.concept, group, split, states)
        names = (group, *(f"{a}\0{c}" for a, c in sorted(states.items())))
        by_stream[names].append(picture._replace(prompt=prompt))
    groups = list(dict.fromkeys(names[0] for names in by_stream))
    settings = {
        "images_from": str(folder),
        "source": f"folder:{folder.name}",
        "files": digest_of([_stamp(p) for p in pictures]),
        "table": [one_spelling(config.table), digest(config.table)] if config.table else None,
        **judging(config, judge, classes, folder.name),
    }
    ordered = [picture for mine in by_stream.values() for picture in mine]
    streams = [
        Stream(names[0], mine[0].prompt.states, None, [p.prompt for p in mine])
        for names, mine in by_stream.items()
    ]
    quotas = quotas_of(config, classes, groups)
    return FoundPlan(config, judge, settings, classes, quotas, streams, None, [], ordered), ordered


def _stamp(picture: Picture) -> list[Any]:
    """A file as it is now: a folder whose files change is another set."""
    found = picture.path.stat() if picture.path.is_file() else None
    return [str(picture.path), found.st_size if found else None]


def _split(config: Generate, place: str) -> str:
    """The split of an image, by a hash of its prompt."""
    chance, names = hash63("split", config.contexts.seed, place) / 2**63, list(config.splits)
    for name in names:
        chance -= config.splits[name]
        if chance < 0:
            return name
    return names[-1]


@dataclass(frozen=True)
class FoundPlan(SetPlan):
    """Of images that are there: `pictures`, stream by stream. The budget is all of them."""

    pictures: list[Picture]

    @property
    def budget(self) -> int:
        """Images of the folder."""
        return len(self.pictures)

    @property
    def keeps(self) -> bool:
        """Images of a folder are there as long as the folder is."""
        return True

    def turns(self, ledger: Ledger, size: WishedSize) -> list[int]:
        """All images, in one round."""
        if ledger.drawn:
            return []
        return [s for s, stream in enumerate(self.streams) for _ in stream.prompts]

    def rows(self, turns: Sequence[int], drawn: Mapping[int, int]) -> tuple[list[Row], list[int]]:
        """The images themselves, in their order."""
        return [(p.prompt, p.seed) for p in self.pictures], list(turns)


@dataclass(frozen=True)
class Finder:
    """Judges units of images that are there; nothing of them is copied before they are taken."""

    plan: SetPlan
    judge: Judge
    device: torch.device
    settings: dict[str, Any]
    pictures: list[Picture]
    claim: Callable[[], None]

    @functools.cached_property
    def embed(self) -> Embed | None:
        """Features in which near-duplicates are compared."""
        return embedding(self.plan.config.filter, self.judge, self.device)

    @functools.cached_property
    def _files(self) -> dict[tuple[str, int], Picture]:
        return {key(p.prompt, p.seed): p for p in self.pictures}

    def __call__(self, rows: list[Row], streams: Mapping[tuple[str, int], int]) -> str:
        """Judges a unit; returns its part."""
        pictures = [self._files[key(*row)] for row in rows]
        found: dict[str, Drawn] = {}

        def readable() -> Iterator[tuple[Picture, Pixels]]:
            for picture, image in read_images(pictures):
                if isinstance(image, Exception):
                    source, path = self.settings["source"], str(picture.path)
                    found[path] = without_image(
                        picture.prompt, picture.seed, source, "unreadable", path
                    )
                else:
                    yield picture, image

        for batch, images in in_batches(readable(), self.plan.config.batch, device=self.device):
            records = judged(
                [(p.prompt, p.seed) for p in batch],
                images,
                self.judge,
                self.settings["attributes"],
                self.settings["source"],
                [str(p.path) for p in batch],
            )
            config = self.plan.config.filter
            for x in looked_at(records, images, config, self.plan.names, self.embed):
                path = pathlib.Path(x.record.image)
                found[str(path)] = replace(x, digest=digest(path), bytes=path.stat().st_size)
        self.claim()
        return drawn_lines([found[str(p.path)] for p in pictures])
