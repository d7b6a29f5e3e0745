"""What a chain would do and cost, before it is begun."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from evenhand.chain.plan import Planned, data_of, plan, with_sets
from evenhand.chain.run import is_done
from evenhand.recipes.chain import Chain
from evenhand.recipes.classify import Classify
from evenhand.recipes.generate import Generate
from evenhand.recipes.measure import Measure


@dataclass(frozen=True)
class Cost:
    """Of a stage.

    Attributes:
        name, verb, recipe, changed: as the chain has them.
        words: what would be done.
        seconds: that it will take; 0 where it is done, or not known.
    """

    name: str
    verb: str
    recipe: str
    changed: list[str]
    words: str
    seconds: float


def costs(config: Chain, folder: pathlib.Path) -> Iterator[Cost]:
    """Every stage of a chain, in order; those not done are tried on two batches or steps.

    Models are tried without the adapters of other stages, which cost little.

    Raises:
        UserError: as `evenhand.chain.chain`.
    """
    data = data_of(config, folder)
    for planned in plan(config, folder):
        stage = planned.stage
        done = is_done(folder, planned)
        words, seconds = ("done", 0.0) if done else _cost(planned, folder, data)
        yield Cost(planned.name, stage.verb, stage.recipe, stage.set, words, seconds)


def _cost(planned: Planned, root: pathlib.Path, data: str) -> tuple[str, float]:
    """What a stage would do, in words, and its seconds."""
    recipe, stage = planned.config, planned.stage
    if isinstance(recipe, Measure):
        from evenhand.measure import plan as measurement
        from evenhand.measure.generator import cost
        from evenhand.measure.plan import GeneratorPlan

        alone = {"adapter": None, "adapter_scale": 1.0} if stage.adapters else {}
        found = measurement(recipe.model_copy(update=alone))
        if not isinstance(found, GeneratorPlan) or found.model.endpoint:
            return "images that are made elsewhere, or by a service", 0.0
        seconds, memory = cost(found)
        return _about(f"{len(found.rows)} images", seconds, memory), seconds
    if isinstance(recipe, Generate):
        from evenhand.generate.cost import planned_cost

        if recipe.cells_by == "adapters" or recipe.from_images:
            return "the cost is known when its adapters are there", 0.0
        alone = {"adapters": []} if stage.adapters else {}
        found = planned_cost(recipe.model_copy(update=alone), root / planned.name)
        words = f"{found.wished} images of {found.places} cells, if every image is taken"
        return _about(words, found.seconds, found.memory), found.seconds
    if isinstance(recipe, Classify):
        from evenhand.classify.cost import cost
        from evenhand.classify.experiment import prepare

        sets = {label: root / other for label, other in stage.sets.items()}
        if not all((path / "dataset.json").is_file() for path in sets.values()):
            return "the cost is known when its sets are there", 0.0
        found = prepare(with_sets(recipe, {k: str(p) for k, p in sets.items()}), data)
        seconds, memory = cost(found)
        return _about(f"{found.steps} steps of {len(found.arms)} arms", seconds, memory), seconds
    from evenhand.adapt.cost import cost as cost_of_training

    if planned.needs:
        return "the cost is known when the stages are there that it builds on", 0.0
    found = cost_of_training(recipe)
    return _about(found.step, found.seconds, found.memory), found.seconds


def _about(what: str, seconds: float, memory: int) -> str:
    return f"{what}: about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB at most"
