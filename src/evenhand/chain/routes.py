"""The ways of a chain from a generator to classifiers, beside each other."""

from collections.abc import Iterator, Sequence

from evenhand.chain.models import Classifiers, ImageSet, Measurement, Route, StageLine
from evenhand.chain.plan import Planned


def routes_of(
    stages: Sequence[Planned],
    lines: Sequence[StageLine],
    measurements: Sequence[Measurement],
    sets: Sequence[ImageSet],
    classifiers: Sequence[Classifiers],
) -> Iterator[Route]:
    """One route for each set; and one for each adapter of which no set is made."""
    seconds = {line.name: line.seconds for line in lines}
    needs = {line.name: line.needs for line in lines}
    used = {adapter for found in sets for adapter in found.adapters}
    trained = [p.name for p in stages if p.stage.verb == "train" and p.name not in used]
    by_words = [found for found in sets if not found.adapters]
    for found in [*sets, *([name] for name in trained)]:
        adapters = found.adapters if isinstance(found, ImageSet) else found
        mine = [m for m in measurements if m.adapter in adapters]
        own, stage = isinstance(found, ImageSet), getattr(found, "stage", "")
        parts = [*adapters, *([stage] if own else [])]
        for part in parts:  # grows while it is read
            parts += [name for name in needs[part] if name not in parts]
        parts += [m.stage for m in mine]
        yield Route(
            name=" + ".join(adapters) or (f"words, {stage}" if len(by_words) > 1 else "words"),
            gap=mine[0].gap if mine else None,
            set=found if own else None,
            arms=[
                arm for table in classifiers for arm in table.arms if own and arm.set == found.stage
            ],
            seconds=round(sum(seconds[part] for part in dict.fromkeys(parts)), 1),
        )
