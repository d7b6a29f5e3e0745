"""What a chain would do and cost, before it is begun."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from evenhand.chain.plan import DRAWN, Planned, data_of, plan, with_sets
from evenhand.chain.records import made_by
from evenhand.chain.run import adapted, is_done
from evenhand.recipes.chain import DATA, Chain, Drawings
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
    for planned in plan(config, folder):
        stage = planned.stage
        done = is_done(folder, planned)
        words, seconds = ("done", 0.0) if done else _cost(planned, folder, config)
        yield Cost(planned.name, stage.verb, stage.recipe, stage.set, words, seconds)


def _missing(planned: Planned, root: pathlib.Path, config: Chain) -> list[str]:
    """What a stage builds on and is not there yet; adapters that it can be tried without left out.

    It cannot be where each draws its own cells.
    """
    stage, recipe = planned.stage, planned.config
    alone = isinstance(recipe, Generate) and recipe.cells_by == "adapters"
    tried_without = () if alone else stage.adapters
    found = [
        name
        for name, verb in planned.needs.items()
        if name not in tried_without and made_by(verb, root / name) is None
    ]
    reads = isinstance(recipe, Classify) or any(DATA in pair for pair in stage.set)
    if reads and isinstance(config.data, Drawings) and not (root / DRAWN).is_file():
        found.append("the drawings")
    return found


def _cost(planned: Planned, root: pathlib.Path, config: Chain) -> tuple[str, float]:
    """What a stage would do, in words, and its seconds."""
    recipe, stage = planned.config, planned.stage
    if missing := _missing(planned, root, config):
        return f"the cost is known when {' and '.join(missing)} are there", 0.0
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

        if recipe.cells_by == "adapters":
            recipe = adapted(recipe, stage, root)
        elif stage.adapters:
            recipe = recipe.model_copy(update={"adapters": []})
        found = planned_cost(recipe, root / planned.name)
        if recipe.from_images:
            return f"{found.wished} images of {found.places} cells, of those of a folder", 0.0
        words = f"{found.wished} images of {found.places} cells, if every image is taken"
        return _about(words, found.seconds, found.memory), found.seconds
    if isinstance(recipe, Classify):
        from evenhand.classify.cost import cost
        from evenhand.classify.experiment import prepare

        sets = {label: str(root / other) for label, other in stage.sets.items()}
        found = prepare(with_sets(recipe, sets), data_of(config, root))
        seconds, memory = cost(found)
        return _about(f"{found.steps} steps of {len(found.arms)} arms", seconds, memory), seconds
    from evenhand.adapt.cost import cost as cost_of_training

    found = cost_of_training(recipe)
    return _about(found.step, found.seconds, found.memory), found.seconds


def _about(what: str, seconds: float, memory: int) -> str:
    return f"{what}: about {seconds / 60:.1f} minutes, {memory / 2**30:.1f} GiB at most"
