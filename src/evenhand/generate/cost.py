"""What a set would be and cost, before it is drawn."""

import pathlib
from dataclasses import dataclass
from typing import Any

from evenhand.generate.plan import SetPlan, plan
from evenhand.generate.quotas import Tally, next_round
from evenhand.recipes.generate import Generate

EXAMPLES = 5  # prompts that are shown


@dataclass(frozen=True)
class Cost:
    """What would be drawn.

    Attributes:
        settings: of the run, as far as nothing needs to be loaded for them.
        wished: images of the set.
        places: cells, in every group.
        budget: images drawn, at most.
        examples: of prompts.
        seconds: of the images wished for; 0 where nothing is drawn.
        memory: peak, bytes.
    """

    settings: dict[str, Any]
    wished: int
    places: int
    budget: int
    examples: list[str]
    seconds: float
    memory: int


def planned_cost(config: Generate, folder: pathlib.Path) -> Cost:
    """Plans a set; draws one batch twice where something is drawn, to know what it takes.

    Contexts that a language model shall write are written first, and kept.
    """
    if config.from_images:
        from evenhand.generate.found import plan_of_folder

        return _cost(plan_of_folder(config)[0], 0.0, 0)
    from evenhand.generate.drawing import generators
    from evenhand.generate.writing import written
    from evenhand.judges.registry import load_judge
    from evenhand.measure.generator import seconds_of
    from evenhand.training.run_directory import peak_memory

    contexts = written(config, folder)
    planned = plan(config, contexts.texts if contexts else None)
    stream = planned.streams[0]
    diffusion = generators(planned)(stream.adapter)
    judge = load_judge(planned.judge, device=diffusion.pipe.device)
    turns = next_round(planned.streams, planned.names, planned.quotas, Tally(), config.batch)
    rows = planned.rows(turns, {})[0]
    seconds = seconds_of(diffusion, judge, rows, planned.settings)
    return _cost(planned, seconds * sum(planned.quotas.values()), peak_memory())


def _cost(planned: SetPlan, seconds: float, memory: int) -> Cost:
    shown = {**planned.settings, "calibration": bool(planned.settings["calibration"])}
    texts = [prompt.text for stream in planned.streams for prompt in stream.prompts]
    return Cost(
        {**shown, "contexts": len(planned.settings.get("contexts", []))},
        sum(planned.quotas.values()),
        sum(n > 0 for n in planned.quotas.values()),
        planned.budget,
        texts[:: max(1, len(texts) // EXAMPLES)][:EXAMPLES],
        seconds,
        memory,
    )
