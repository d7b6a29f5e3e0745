"""What is asked for alike: streams of prompts, from contexts crossed with cells."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import Prompt
from evenhand.core.words import Telltale
from evenhand.generate.contexts import Context, check_slots, contexts_of, filled, slots_of
from evenhand.generate.drawers import Drawer, texts_of
from evenhand.generate.quotas import Quotas, Stream, apportioned, cells_of, feed, name_of
from evenhand.generate.words import telltale
from evenhand.recipes.generate import Generate
from evenhand.recipes.judge import JudgeConfig


def checked_contexts(
    config: Generate,
    judge: JudgeConfig,
    classes: Mapping[str, Sequence[str]],
    written: Sequence[str] | None = None,
    more: Sequence[str] = (),
) -> list[Context]:
    """The rows that are crossed with the cells; none of them tells a class.

    Args:
        config: the recipe.
        judge: whose words for the classes no row may hold.
        classes: of each attribute, those asked for.
        written: contexts that a writer wrote.
        more: slots of the prompt that something else fills.

    Raises:
        UserError: a row that does, a slot that nothing fills, or two rows that are alike.
    """
    contexts = contexts_of(config.contexts, written)
    linter = linter_of(config, judge, classes)
    fixed = config.prompt
    for slot in slots_of(fixed):
        fixed = fixed.replace(f"{{{slot}}}", " ")
    linter.refuse(fixed.replace("{a}", " "), "prompt")
    for number, context in enumerate(contexts, start=1):
        for slot, text in context.slots.items():
            if set("{}") & set(text):
                raise UserError(f"contexts, row {number}: {text!r} holds braces")
            linter.refuse(text, f"contexts, row {number}, {slot}")
        check_slots(config.prompt, [*context.slots, *classes, *more])
    return contexts


def linter_of(
    config: Generate, judge: JudgeConfig, classes: Mapping[str, Sequence[str]]
) -> Telltale:
    """Who refuses contexts that tell a class."""
    return telltale(list(classes), judge, config.wording, config.synonyms, config.contexts.allow)


def splits_of(config: Generate, contexts: Sequence[Context]) -> list[str]:
    """The split of each context: row i of every group has the same, all seeds of a prompt do.

    Raises:
        UserError: a split without a row.
    """
    place: dict[str, int] = {}
    places = []
    for context in contexts:
        places.append(place.setdefault(context.group, 0))
        place[context.group] += 1
    rows = max(place.values())
    numbers = apportioned(rows, list(config.splits.values()))
    for name, number in zip(config.splits, numbers, strict=True):
        if not number:
            raise UserError(
                f"splits: {name} would hold none of {rows} contexts; add contexts, or leave it out"
            )
    names = [name for name, n in zip(config.splits, numbers, strict=True) for _ in range(n)]
    random.Random(config.contexts.seed).shuffle(names)
    return [names[i] for i in places]


def streams_of(
    config: Generate,
    classes: Mapping[str, Sequence[str]],
    contexts: Sequence[Context],
    splits: Sequence[str],
    quotas: Quotas,
    drawers: Sequence[Drawer] = (),
) -> list[Stream]:
    """The streams of a recipe; every context stands in each stream of its group.

    Args:
        config: the recipe.
        classes: of each attribute, those asked for.
        contexts: rows.
        splits: of each.
        quotas: of the places.
        drawers: adapters of the recipe.

    Raises:
        UserError: two contexts that give the same prompt, an adapter that draws what there is not,
            or a place that no stream can feed.
    """
    for number, drawer in enumerate(drawers):
        for name, cls in drawer.draws.items():
            where = f"adapters.{number}.draws"
            if name not in classes:
                raise unknown("attribute", name, classes, where=where)
            if cls not in classes[name]:
                raise unknown("class", cls, classes[name], where=f"{where}.{name}")
    said = [dict(zip(classes, cell, strict=True)) for cell in cells_of(classes)]
    cells = said if config.cells_by == "words" else [{}]
    who = list(enumerate(drawers)) or [(None, None)]
    found = []
    for group in dict.fromkeys(context.group for context in contexts):
        for cell in cells:
            for number, drawer in who:
                draws = drawer.draws if drawer else {}
                if any(cell.get(name, cls) != cls for name, cls in draws.items()):
                    continue
                prompts = [
                    _prompt(config, context, split, cell, drawer)
                    for context, split in zip(contexts, splits, strict=True)
                    if context.group == group
                ]
                _refuse_twice([prompt.text for prompt in prompts], group)
                asked, share = {**cell, **draws}, drawer.share if drawer else 1.0
                here = [replace(prompt, states=dict(asked)) for prompt in prompts]
                found.append(Stream(group, asked, number, here, share))
    fed = {place for stream in found for place in feed(stream, list(classes), quotas)}
    for place, quota in quotas.items():
        if quota and place not in fed:
            raise UserError(
                f"adapters: none draws {name_of(place[0])}, of which {quota} images are asked for; "
                "add one, or leave the cell out"
            )
    return found


def _prompt(
    config: Generate,
    context: Context,
    split: str,
    cell: Mapping[str, str],
    drawer: Drawer | None = None,
) -> Prompt:
    """The prompt of a context that says a cell; a neutral one where the cell is empty."""
    words = {
        name: config.wording[name][cell[name]] if name in cell else config.neutral.get(name, "")
        for name in config.cells
    }
    text = filled(config.prompt, {**texts_of(drawer), **context.slots, **words})
    concept = ", ".join(x for x in context.slots.values() if x) or config.prompt
    return Prompt(text, concept, context.group or "contexts", split, dict(cell))


def neutral_prompts(
    config: Generate,
    classes: Mapping[str, Sequence[str]],
    contexts: Sequence[Context],
    drawers: Sequence[Drawer] = (),
) -> dict[str, str]:
    """For each prompt of a recipe that says a cell, the same prompt without it.

    Args:
        config: the recipe.
        classes: of each attribute, those asked for.
        contexts: rows of the recipe.
        drawers: adapters of the recipe, whose tokens stay.
    """
    found = {}
    for context, drawer in itertools.product(contexts, drawers or [None]):
        text = " ".join(_prompt(config, context, "", {}, drawer).text.split())
        for cell in cells_of(classes):
            said = dict(zip(classes, cell, strict=True))
            found[_prompt(config, context, "", said, drawer).text] = text
    return found


def _refuse_twice(texts: Sequence[str], group: str) -> None:
    rows: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        first = rows.setdefault(text, number)
        if first != number:
            where = f" of group {group!r}" if group else ""
            raise UserError(
                f"contexts: rows {first} and {number}{where} give the same prompt {text!r}; leave "
                "one out, or give the prompt a slot that tells them apart"
            )
