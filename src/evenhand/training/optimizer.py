"""AdamW with what goes around it.

Warm-up, schedule, clipping, an average of the weights, checkpoints.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from evenhand.core.errors import UserError
from evenhand.recipes.dft import Dft
from evenhand.training.checkpoints import load_state

BAD_STEPS = 5  # non-finite gradients in a row after which training stops


class Optimizer:
    """AdamW with warm-up, schedule, clipping and, if asked for, an average of the weights.

    Args:
        recipe: the settings.
        parameters: to be trained; their `.grad` is what `step` follows.
    """

    def __init__(self, recipe: Dft, parameters: list[torch.nn.Parameter]) -> None:
        from diffusers.training_utils import EMAModel

        self._recipe, self._parameters, self._bad = recipe, parameters, 0
        self._adamw = _adamw(recipe)(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._adamw, self._rate)
        self._average = EMAModel(parameters, decay=recipe.ema) if recipe.ema else None

    def _rate(self, step: int) -> float:
        """Factor on the learning rate: linear warm-up, then constant or a half cosine to zero."""
        recipe = self._recipe
        if step < recipe.warmup:
            return (step + 1) / recipe.warmup
        if recipe.schedule == "constant":
            return 1.0
        done = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
        return 0.5 * (1 + float(np.cos(np.pi * min(done, 1.0))))

    def step(self, where: str) -> float:
        """One step along the parameters' gradients, left out where these are not finite.

        Returns their norm.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.gradient.clip)
        if torch.isfinite(norm):
            self._adamw.step()
            self._bad = 0
            if self._average:
                self._average.step(self._parameters)
        else:
            self._bad += 1
        if self._bad == BAD_STEPS:
            raise UserError(
                f"{where}: the gradient was not finite in {BAD_STEPS} steps in a row; "
                "lower learning_rate, or train in float32 (dtype=float32), into another "
                "directory (--out)"
            )
        self._adamw.zero_grad()
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Detected call of `lr_scheduler.step", UserWarning
            )  # a first step left out
            self._schedule.step()
        return float(norm)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the parameters hold their average, if there is one."""
        if self._average is None:
            yield
            return
        self._average.store(self._parameters)
        self._average.copy_to(self._parameters)
        try:
            yield
        finally:
            self._average.restore(self._parameters)

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint needs."""
        return {
            "parameters": [p.detach() for p in self._parameters],
            "optimizer": self._adamw.state_dict(),
            "schedule": {"last_epoch": self._schedule.last_epoch},
            "average": self._average.state_dict() if self._average else None,
        }

    def restore(self, path: str | os.PathLike, classifier: str) -> int:
        """Puts a checkpoint in place; returns the number of steps done.

        Args:
            path: of the checkpoint; there may be none.
            classifier: `name@digest` of the one that is trained against.

        Raises:
            UserError: the checkpoint was made with another classifier.
        """
        state = load_state(path)
        if state is None:
            return 0
        if state.get("classifier") != classifier:
            raise UserError(
                f"{path}: was trained against {state.get('classifier')}, which is {classifier} "
                "now. "
                "Name another directory with --out, or delete this one"
            )
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self._adamw.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = state["schedule"]["last_epoch"]
        if self._average:
            self._average.load_state_dict(state["average"])
            self._average.to(device=self._parameters[0].device)
        return state["step"]


def _adamw(recipe: Dft) -> Any:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "optimizer=adamw8bit needs bitsandbytes: pip install bitsandbytes, or optimizer=adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit
