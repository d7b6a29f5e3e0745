"""The schema of `optimisation:`, the block by which every recipe says how weights are stepped.

Data only; `evenhand.training.optimizer` does what it says.
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from evenhand.core.schema import Strict

Rate = Annotated[float, Field(gt=0, le=1e30)]  # steps of larger ones overflow float32
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Beta = Annotated[float, Field(ge=0, lt=1)]

SCHEDULES = {  # transformers' names, and the options that each takes
    "constant": set(),
    "linear": set(),
    "cosine": {"num_cycles"},
    "cosine_with_restarts": {"num_cycles"},
    "polynomial": {"lr_end", "power"},
    "warmup_stable_decay": {"num_decay_steps"},
}
MOVED = {  # where recipes held these settings before they shared one block
    **{
        key: f"optimisation.{key}"
        for key in ("learning_rate", "weight_decay", "optimizer", "warmup", "schedule", "ema")
    },
    "gradient.clip": "optimisation.clip",
}


class Group(Strict):
    """Parameters with a learning rate or a weight decay of their own.

    Attributes:
        match: regular expression, searched in the parameters' names. A parameter belongs to the
            first group that matches it.
        learning_rate: instead of the block's.
        weight_decay: instead of the block's.
    """

    match: str
    learning_rate: Rate | None = None
    weight_decay: Decay | None = None

    @field_validator("match")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _changes_something(self) -> "Group":
        if self.learning_rate is None and self.weight_decay is None:
            raise ValueError(f"the group {self.match!r} sets no learning_rate and no weight_decay")
        return self


class Optimisation(Strict):
    """How weights follow their gradients.

    Attributes:
        optimizer: `adamw`; `adamw8bit` needs bitsandbytes and a GPU; `sgd`.
        learning_rate: after the warm-up.
        weight_decay: AdamW's is decoupled from the gradient, SGD's is added to it.
        betas: of AdamW; (0.9, 0.999) when None.
        momentum: of SGD; 0.9 when None.
        schedule: transformers' name of what the learning rate does after the warm-up.
        schedule_options: of the schedule: `num_cycles` of the cosines, `lr_end` and `power` of
            `polynomial`, `num_decay_steps` of `warmup_stable_decay`, which needs it.
        warmup: steps over which the learning rate rises; below 1 a share of all steps. Step s
            (from 0) of w has the factor (s + 1)/w.
        clip: largest norm of the gradient of all trained parameters together; longer ones are
            shortened to it. None leaves them as they are.
        ema: decay of the average of the weights that is kept in their place,
            min((1 + step)/(10 + step), ema); no average when None.
        groups: parameters with settings of their own.
    """

    optimizer: Literal["adamw", "adamw8bit", "sgd"] = "adamw"
    learning_rate: Rate = 1e-3
    weight_decay: Decay = 0.0
    betas: tuple[Beta, Beta] | None = None
    momentum: Beta | None = None
    schedule: Literal[
        "constant",
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "warmup_stable_decay",
    ] = "cosine"
    schedule_options: dict[str, float] = {}
    warmup: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    clip: Rate | None = 1.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    groups: list[Group] = []

    @model_validator(mode="after")
    def _check(self) -> "Optimisation":
        if self.optimizer == "sgd" and self.betas is not None:
            raise ValueError("betas are AdamW's; sgd takes momentum")
        if self.optimizer != "sgd" and self.momentum is not None:
            raise ValueError(f"momentum is SGD's; {self.optimizer} takes betas")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(
                f"warmup is {self.warmup}: give whole steps, or a share of all steps below 1"
            )
        if unknown := self.schedule_options.keys() - SCHEDULES[self.schedule]:
            takes = ", ".join(sorted(SCHEDULES[self.schedule])) or "none"
            raise ValueError(
                f"schedule_options: {', '.join(sorted(unknown))} is no option of the schedule "
                f"{self.schedule}, which takes {takes}"
            )
        decay = self.schedule_options.get("num_decay_steps", 0)
        if self.schedule == "warmup_stable_decay" and (decay < 1 or decay != int(decay)):
            raise ValueError(
                "schedule_options.num_decay_steps: warmup_stable_decay needs the number of steps, "
                f"at the end, over which the learning rate falls (given: {decay:g})"
            )
        end = self.schedule_options.get("lr_end", 1e-7)
        if self.schedule == "polynomial" and end >= self.learning_rate:
            raise ValueError(f"schedule_options.lr_end is {end}, not below learning_rate")
        return self

    def warmup_steps(self, steps: int) -> int:
        """The steps of the warm-up in a training of so many steps."""
        return math.ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)


def refuse_moved(values: Any) -> Any:
    """Returns a recipe's raw values, unless they hold a setting where it stood in older recipes.

    Raises:
        ValueError: one line that names the new place of each.
    """
    if not isinstance(values, dict):
        return values
    gradient = values.get("gradient")
    found = [key for key in MOVED if key in values]
    if isinstance(gradient, dict) and "clip" in gradient:
        found.append("gradient.clip")
    if found:
        raise ValueError("; ".join(f"{key} is now {MOVED[key]}" for key in found))
    return values
