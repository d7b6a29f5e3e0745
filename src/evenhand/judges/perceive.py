"""A record for each image that was judged."""

import re
from typing import TYPE_CHECKING, Any

from evenhand.core.prompts import Prompt
from evenhand.core.records import Record

if TYPE_CHECKING:
    from torch import Tensor

    from evenhand.judges.base import Judge


Row = tuple[Prompt, int]


def judged(
    batch: list[Row],
    images: "Tensor",
    judge: "Judge",
    attributes: dict[str, Any],
    source: str,
    files: list[str] | None = None,
    flagged: list[bool] | None = None,
) -> list[Record]:
    """A record for each image `[N, 3, H, W]`: what was asked, drawn and perceived."""
    from evenhand.judges.base import answers

    predictions = answers(judge, images)
    names = [
        *attributes,
        *([judge.concept] if judge.concept and judge.concept not in attributes else []),
    ]
    classes = {name: judge.classes(name) for name in names}
    probs = {name: predictions.probs[name].cpu().tolist() for name in names}
    return [
        Record(
            prompt=p.text,
            concept=p.concept,
            family=p.family,
            split=p.split,
            seed=seed,
            source=source,
            image=files[i] if files else _file(p.text, seed),
            probs={
                a: {c: round(x, 4) for c, x in zip(classes[a], probs[a][i], strict=True)}
                for a in names
            },
            seen=bool(predictions.seen[i]),
            flagged=flagged[i] if flagged else None,
            states=p.states,
        )
        for i, (p, seed) in enumerate(batch)
    ]


def _file(prompt: str, seed: int) -> str:
    """Where an image is kept, relative to the run directory."""
    return f"images/{re.sub(r'[^a-z0-9]+', '-', prompt.lower())[:60].strip('-')}-{seed:08x}.png"
