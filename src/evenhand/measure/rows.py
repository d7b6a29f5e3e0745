"""What a generator is asked to draw: prompts and seeds in order; how they are cut into units."""

from collections.abc import Iterable

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of
from evenhand.core.prompts import Prompt, PromptSet, Row
from evenhand.core.records import image_seed, key
from evenhand.recipes.judge import JudgeConfig
from evenhand.recipes.measure import Measure

MOST = 10**7  # images of a run


def rows_of(
    config: Measure, sets: Iterable[PromptSet], judge: JudgeConfig
) -> tuple[list[Row], list[str], list[str]]:
    """Prompts and seeds, neutral ones first, each once.

    Returns:
        the rows; the explicit prompts left out, because the judge does not know their class; and
        the prompts that stand in several sets, which count in the first of them.

    Raises:
        UserError: unknown splits, nothing to draw, or more images than a run takes.
    """
    sets, splits = list(sets), config.splits or None
    names = config.attributes or list(judge.known)
    explicit = (
        [p for s in sets for p in s.explicit_prompts(names, splits)]
        if config.explicit_images
        else []
    )
    neutral = [p for s in sets for p in s.prompts(splits)]
    many = len(neutral) * config.images + len(explicit) * config.explicit_images
    if many > MOST:
        raise UserError(
            f"{many:,} images of {len(neutral) + len(explicit):,} prompts are more than one run "
            f"takes ({MOST:,}): lower --images"
        )
    judged = [p for p in explicit if all(c in judge.known[a].classes for a, c in p.states.items())]
    rows = [
        (p, image_seed("measure", config.seed, p.text, i))
        for p in neutral
        for i in range(config.images)
    ]
    rows += [
        (p, image_seed("measure", config.seed, p.text, i))
        for p in judged
        for i in range(config.explicit_images)
    ]
    if not rows:
        raise UserError(
            "nothing to draw: the prompt sets have no prompts that leave the class open, and none "
            "that say one are asked for (--explicit-images)"
        )
    once: dict[tuple[str, int], Row] = {}
    for row in rows:
        once.setdefault(key(*row), row)
    return list(once.values()), [p.text for p in explicit if p not in judged], _shared(rows)


def _shared(rows: Iterable[Row]) -> list[str]:
    """Texts that stand in several prompt sets, which say different things of them."""
    first: dict[str, Prompt] = {}
    return list(dict.fromkeys(p.text for p, _ in rows if first.setdefault(p.text, p) != p))


def units_of(rows: Iterable[Row], size: int, number: int = 0) -> dict[str, list[Row]]:
    """Rows cut into units by name, `size` in each.

    The name holds the round's number, the place and a digest of the rows.
    """
    rows = list(rows)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return {
        f"{number:03d}-{i:06d}-{digest_of([[p.text, p.states, seed] for p, seed in part])}": part
        for i, part in enumerate(parts)
    }
