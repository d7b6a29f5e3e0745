"""What stands in the prompts besides the classes: rows of slots, each crossed with every cell."""

import itertools
import math
import pathlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import article, load_prompts
from evenhand.images.tables import rows_of_file
from evenhand.recipes.generate import Contexts

SLOT = re.compile(r"\{([^{}]*)\}")
ARTICLE = "a"  # the slot of the article
LOOKED_AT = 10_000  # combinations of a vocabulary among which rows are chosen, at most


@dataclass(frozen=True)
class Context:
    """One row.

    Attributes:
        group: that it counts in.
        slots: `{slot: text}`.
    """

    group: str
    slots: dict[str, str]


def contexts_of(config: Contexts, written: Sequence[str] | None = None) -> list[Context]:
    """The rows of a recipe, group by group.

    Args:
        config: of the recipe.
        written: what the writer made of each row of `vocabulary_rows(config)`, in their order.

    Raises:
        UserError: a file that cannot be read, fewer combinations than rows, or no slot of the
            groups' name.
    """
    rows = _of_file(config.file) if config.file else vocabulary_rows(config)
    if written is not None:
        kept = {config.group} if config.group else set()
        rows = [
            {"context": text, **{k: v for k, v in row.items() if k in kept}}
            for row, text in zip(rows, written, strict=True)
        ]
    found = [Context(_group(config, row), row) for row in rows]
    order = {group: i for i, group in enumerate(dict.fromkeys(x.group for x in found))}
    return sorted(found, key=lambda x: order[x.group])


def _group(config: Contexts, row: Mapping[str, str]) -> str:
    if config.group and config.group not in row:
        raise unknown("slot", config.group, row, where="contexts.group")
    return row[config.group] if config.group else ""


def _of_file(name: str) -> list[dict[str, str]]:
    """The rows of a text file, a context a line, or of a table, whose columns are slots."""
    path = pathlib.Path(name)
    if path.suffix.lower() == ".txt":
        concepts = load_prompts(name).concepts.values()
        return [{"context": text} for texts in concepts for text in texts]
    rows = list(rows_of_file(path))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not all(isinstance(x, str) for x in row.values()):
            raise UserError(f"{path}, row {number}: is no row of texts by slot (got {row!r})")
        if row.keys() != rows[0].keys():
            raise UserError(f"{path}, row {number}: has other slots than the first row")
    if not rows:
        raise UserError(f"{path}: holds no context")
    return rows


def vocabulary_rows(config: Contexts) -> list[dict[str, str]]:
    """Combinations of the vocabulary: the same for every group, each text as often as the others.

    Row by row the combination is taken whose texts were used least so far; chance decides between
    equals.
    """
    if not config.vocabulary:
        return [{}]
    others = {s: texts for s, texts in config.vocabulary.items() if s != config.group}
    groups = config.vocabulary.get(config.group or "", [""])
    rows = _balanced(others, config.rows, random.Random(config.seed))
    return [
        {slot: group if slot == config.group else row[slot] for slot in config.vocabulary}
        for group in groups
        for row in rows
    ]


def _balanced(
    vocabulary: Mapping[str, Sequence[str]], rows: int | None, chance: random.Random
) -> list[dict[str, str]]:
    many = math.prod(len(texts) for texts in vocabulary.values())
    if rows is None:
        if many > LOOKED_AT:
            raise UserError(f"contexts: the vocabulary has {many:,} combinations; give rows")
        return [
            dict(zip(vocabulary, texts, strict=True))
            for texts in itertools.product(*vocabulary.values())
        ]
    if rows > min(many, LOOKED_AT):
        raise UserError(
            f"contexts.rows: {rows} of {min(many, LOOKED_AT):,} combinations of the vocabulary; "
            "add texts to it"
        )
    if many <= LOOKED_AT:
        left = list(itertools.product(*vocabulary.values()))
        chance.shuffle(left)
    else:
        picked = (
            tuple(chance.choice(list(texts)) for texts in vocabulary.values())
            for _ in range(LOOKED_AT)
        )
        left = list(dict.fromkeys(picked))
    used: Counter[tuple[int, str]] = Counter()
    found = []
    for _ in range(rows):
        costs = [sum(used[i, text] for i, text in enumerate(texts)) for texts in left]
        texts = left.pop(costs.index(min(costs)))
        used.update(enumerate(texts))
        found.append(dict(zip(vocabulary, texts, strict=True)))
    return found


def slots_of(template: str) -> list[str]:
    """The slots of a template, but that of the article."""
    return [name for name in SLOT.findall(template) if name != ARTICLE]


def filled(template: str, texts: Mapping[str, str]) -> str:
    """A template with its slots filled; blanks and commas that an empty text leaves are mended."""
    text = SLOT.sub(lambda m: m[0] if m[1] == ARTICLE else texts[m[1]], template)
    text = re.sub(r"\s+([,.;:])", r"\1", " ".join(text.split()))
    text = re.sub(r",[\s,]*([,.;:])", r"\1", text).strip(" ,")
    return re.sub(r"\{a\} ?", lambda m: f"{article(text[m.end() :])} ", text)


def check_slots(template: str, known: Iterable[str]) -> None:
    """Raises UserError where a template has a slot that nothing fills."""
    known = list(known)
    for name in slots_of(template):
        if name not in known:
            raise unknown("slot", name, known, where=f"prompt {template!r}")
