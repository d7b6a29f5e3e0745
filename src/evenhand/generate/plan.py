"""What a set will hold and draw.

Names are looked up here and nowhere after; no model is loaded.
"""

import pathlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenhand.core.adapters import Adapter
from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import Row
from evenhand.core.records import image_seed
from evenhand.core.resources import one_spelling
from evenhand.generate.asked import checked_contexts, splits_of, streams_of
from evenhand.generate.drawers import Drawer, drawers_of, slots_for
from evenhand.generate.ledger import Ledger
from evenhand.generate.quotas import Quotas, Stream, next_round, quotas_of
from evenhand.generate.sizes import WishedSize
from evenhand.generate.words import refuse_negated
from evenhand.measure.plan import calibration_of
from evenhand.recipes.generate import Generate
from evenhand.recipes.judge import JudgeConfig, find_judge
from evenhand.recipes.model import Model, load_model

COLUMNS = ("image", "file_name", "id", "prompt", "context", "group", "seed", "source", "flagged")


@dataclass(frozen=True)
class SetPlan:
    """A set, ready to be made.

    Attributes:
        config: the recipe.
        judge: who decides what an image shows.
        settings: everything that the set depends on but its size, JSON values; what only the loaded
            models know is added later.
        classes: of each attribute, those asked for.
        quotas: of the places.
        streams: what is asked for alike.
        model: the generator; None where the images are made elsewhere.
        drawers: adapters of the recipe.
    """

    config: Generate
    judge: JudgeConfig
    settings: dict[str, Any]
    classes: dict[str, list[str]]
    quotas: Quotas
    streams: list[Stream]
    model: Model | None
    drawers: list[Drawer]

    @property
    def names(self) -> list[str]:
        """The attributes, in the order of cells."""
        return list(self.classes)

    @property
    def adapters(self) -> list[Adapter]:
        """All that draw, each once."""
        found = {a.digest: a for drawer in self.drawers for a in drawer.adapters}
        return list(found.values())

    @property
    def keeps(self) -> bool:
        """Whether images that were not needed are still there when the set grows."""
        return self.config.filter.rejected == "keep"

    @property
    def budget(self) -> int:
        """Images drawn, at most."""
        return self.config.budget or 4 * sum(self.quotas.values())

    def turns(self, ledger: Ledger, size: WishedSize) -> list[int]:
        """The streams of the images to draw next, in the order of drawing; none at the end."""
        left = size.budget - ledger.drawn
        return next_round(self.streams, self.names, size.quotas, ledger.tally, left)

    def rows(self, turns: Sequence[int], drawn: Mapping[int, int]) -> tuple[list[Row], list[int]]:
        """Prompts and seeds of the next images, and their streams, those of one adapter together.

        Args:
            turns: streams in the order of drawing.
            drawn: images of each stream so far.
        """
        count, found = dict(drawn), []
        for s in turns:
            stream, k = self.streams[s], count.get(s, 0)
            prompt = stream.prompts[k % len(stream.prompts)]
            purpose = "\0".join(["generate", stream.group, self._drawer(stream)])
            index = k // len(stream.prompts)
            found.append(((prompt, image_seed(purpose, self.config.seed, prompt.text, index)), s))
            count[s] = k + 1
        found.sort(key=lambda x: -1 if (a := self.streams[x[1]].adapter) is None else a)
        return [row for row, _ in found], [s for _, s in found]

    def _drawer(self, stream: Stream) -> str:
        return "" if stream.adapter is None else self.drawers[stream.adapter].digest


def plan(config: Generate, written: Sequence[str] | None = None) -> SetPlan:
    """Finds every unknown name and impossible value of a set that a generator shall draw.

    Args:
        config: the recipe.
        written: contexts that the writer of the recipe wrote, if it has one.

    Raises:
        UserError: what is unknown or impossible, and what is known instead.
    """
    model = load_model(config.model or "")
    judge = judge_of(config)
    classes = classes_of(config, judge)
    refuse_negated(config.wording)
    _check_wording(config, classes)
    drawers = drawers_of(config)
    contexts = checked_contexts(config, judge, classes, written, slots_for(drawers))
    groups = list(dict.fromkeys(context.group for context in contexts))
    quotas = quotas_of(config, classes, groups)
    splits = splits_of(config, contexts)
    streams = streams_of(config, classes, contexts, splits, quotas, drawers)
    writer = config.contexts.writer
    settings = {
        "model": one_spelling(config.model or ""),
        "dtype": model.dtype,
        "adapters": [drawer.settings for drawer in drawers],
        "prompt": config.prompt,
        "cells_by": config.cells_by,
        "wording": config.wording if config.cells_by == "words" else {},
        "neutral": config.neutral,
        "contexts": [{"group": c.group, **c.slots} for c in contexts],
        "writer": writer.model_dump(mode="json") if writer else None,
        "batch": config.batch,
        "settings": model.sampling(config.settings).model_dump(mode="json"),
        **judging(config, judge, classes, model.domain or pathlib.Path(config.model or "").name),
    }
    return SetPlan(config, judge, settings, classes, quotas, streams, model, drawers)


def judge_of(config: Generate) -> JudgeConfig:
    """Who judges: the recipe's judge, or its model's.

    Raises:
        UserError: neither names one, or it is not known.
    """
    default = load_model(config.model).judge if config.model else None
    name = config.judge or default
    if not name:
        raise UserError("no judge: name the classifier that decides what an image shows (judge)")
    return find_judge(name)


def classes_of(config: Generate, judge: JudgeConfig) -> dict[str, list[str]]:
    """The classes asked for of each attribute.

    Raises:
        UserError: the judge does not know one, or a column of the set has the attribute's name.
    """
    found = {}
    for name, chosen in config.cells.items():
        if name not in judge.known:
            raise unknown("attribute", name, judge.known, where=f"cells, judge {judge.name!r}")
        if name in COLUMNS:
            raise UserError(
                f"cells: attribute {name!r} would share its name with a column of the set; rename "
                "it in the judge's YAML"
            )
        for cls in chosen:
            if cls not in judge.known[name].classes:
                where = f"cells.{name}, judge {judge.name!r}"
                raise unknown("class", cls, judge.known[name].classes, where=where)
        found[name] = chosen or judge.known[name].classes
    return found


def _check_wording(config: Generate, classes: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError where a class that is asked for in words has none, or no slot for them."""
    for name, table in classes.items():
        said = config.wording.get(name, {})
        if config.cells_by != "words":
            continue
        if f"{{{name}}}" not in config.prompt:
            raise UserError(
                f"prompt: {config.prompt!r} has no slot {{{name}}}, so no prompt says "
                f"{name}; add it, or let the judge decide (cells_by: neutral)"
            )
        for cls in table:
            if not said.get(cls, "").strip():
                raise UserError(
                    f"wording.{name}: no words for {cls!r}, which cells ask for; add them, or let "
                    "the judge decide (cells_by: neutral)"
                )


def judging(
    config: Generate, judge: JudgeConfig, classes: Mapping[str, Sequence[str]], domain: str
) -> dict[str, Any]:
    """The settings that say who decides, how that judge errs, and what is left out."""
    names = list(classes)
    calibration = calibration_of(judge, names, config.calibration)
    try:
        if calibration:
            for name in names:
                calibration.confusion(judge.known[name])
    except UserError as error:  # of the one beside the judge, which nobody asked for
        warnings.warn(f"nothing is said of wrong labels: {error}", stacklevel=2)
        calibration = None
    return {
        "judge": {"name": one_spelling(judge.name)},
        "concept": judge.concept,
        "domain": domain,
        "attributes": {name: judge.attributes[name] for name in names},
        "calibration": calibration.model_dump(mode="json") if calibration else None,
        "cells": {name: list(table) for name, table in classes.items()},
        "filter": config.filter.model_dump(mode="json"),
        "splits": config.splits,
        "order": [names, list(config.splits)],  # keys of JSON have none
        "out": config.out,
        "seed": config.seed,
    }
