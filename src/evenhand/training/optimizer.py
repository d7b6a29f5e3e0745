"""An optimizer of torch with what goes around it, as a recipe's `optimisation:` block says.

Warm-up, schedule, groups, clipping, an average of the weights, checkpoints.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from evenhand.core.errors import UserError
from evenhand.recipes.optimisation import Optimisation
from evenhand.training.checkpoints import load_state, must_fit, save_state

BAD_STEPS = 5  # non-finite gradients in a row after which training stops
CAUSE = (
    "lower optimisation.learning_rate, or train in float32 (dtype=float32), into another directory "
    "(--out)"
)
Named = Iterable[tuple[str, torch.nn.Parameter]]


class Optimizer:
    """Steps parameters along their gradients.

    A step whose gradient is not finite is left out and counted; `left_out` says how many were.

    Args:
        how: the settings.
        named: the parameters to be trained, and no others, with their names, by which the groups
            of the settings find them; their `.grad` is what `step` follows.
        steps: of the whole training, which the schedule spans.

    Raises:
        UserError: a group's pattern matches no parameter, or bitsandbytes is missing.
    """

    def __init__(self, how: Optimisation, named: Named, *, steps: int) -> None:
        from diffusers.training_utils import EMAModel

        named = list(named)
        self._parameters = [parameter for _, parameter in named]
        self._clip = float("inf") if how.clip is None else how.clip
        self._inner = _inner(how, _groups(how, named))
        self._peaks = [group["lr"] for group in self._inner.param_groups]
        self._factor = factors(how, steps)
        self._done = self._bad = self.left_out = 0
        self._average = EMAModel(self._parameters, decay=how.ema) if how.ema else None

    def step(self, where: str) -> float:
        """One step along the parameters' gradients, left out where these are not finite.

        Args:
            where: of the training, in words, for errors.

        Returns:
            the gradients' norm, before it is clipped.

        Raises:
            UserError: the gradient was not finite in `BAD_STEPS` steps in a row.
        """
        for group, peak in zip(self._inner.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self._factor(self._done)
        self._done += 1
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if torch.isfinite(norm):
            self._inner.step()
            self._bad = 0
            if self._average:
                self._average.step(self._parameters)
        else:
            self._bad += 1
            self.left_out += 1
        if self._bad == BAD_STEPS:
            raise UserError(
                f"{where}: the gradient was not finite in {BAD_STEPS} steps in a row; {CAUSE}"
            )
        self._inner.zero_grad()
        return float(norm)

    def check_finite(self, where: str) -> None:
        """To be asked before weights are written.

        Warns of steps that were left out.

        Raises:
            UserError: a weight is not finite, or the last step's gradient was not: then the loss
                was not either, and the weights are no result.
        """
        if self._bad:
            raise UserError(
                f"{where}: the gradient was not finite in the last {self._bad} steps, so nothing "
                f"is written; {CAUSE}"
            )
        if not all(bool(p.isfinite().all()) for p in self._parameters):
            raise UserError(f"{where}: weights are not finite, so nothing is written; {CAUSE}")
        if self.left_out:
            warnings.warn(
                f"{where}: {self.left_out} of {self._done} steps were left out because their "
                "gradient was not finite",
                stacklevel=2,
            )

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
        """Everything that a checkpoint needs beside the parameters."""
        return {
            "optimizer": self._inner.state_dict(),
            "done": self._done,
            "bad": self._bad,
            "left_out": self.left_out,
            "average": self._average.state_dict() if self._average else None,
        }

    def load(self, state: dict[str, Any] | None, where: str) -> None:
        """Puts back what `state` gave; nothing where there is none.

        Raises:
            UserError: it is of other parameters, or of another version of evenhand.
        """
        if state is None:
            return
        with must_fit(where):
            self._inner.load_state_dict(state["optimizer"])
            self._done, self._bad, self.left_out = (
                int(state[key]) for key in ("done", "bad", "left_out")
            )
            if self._average:
                self._average.load_state_dict(state["average"])
                self._average.to(device=self._parameters[0].device)

    def save(self, path: str | os.PathLike, step: int, against: str) -> None:
        """Writes a checkpoint, from which `restore` goes on.

        Args:
            path: of the checkpoint.
            step: number of steps done.
            against: as of `restore`.
        """
        parameters = [parameter.detach() for parameter in self._parameters]
        # the key is of trainings against a classifier; others keep their model's source in it
        found = {"step": step, "classifier": against, "parameters": parameters}
        save_state(path, {**found, **self.state()})

    def restore(self, path: str | os.PathLike, against: str) -> int:
        """Puts a checkpoint in place, parameters included; returns the number of steps done.

        Args:
            path: of the checkpoint that `save` wrote; there may be none.
            against: `name@digest` of the classifier that is trained against, or of the model that
                is trained where there is none.

        Raises:
            UserError: the checkpoint was made with another classifier or model, is damaged, or of
                another training.
        """
        state = load_state(path)
        if state is None:
            return 0
        if state.get("classifier") != against:
            raise UserError(
                f"{path}: was trained with {state.get('classifier')}, which is {against} now. "
                "Name another directory with --out, or delete this one"
            )
        with must_fit(path), torch.no_grad():
            for parameter, value in zip(self._parameters, state["parameters"], strict=True):
                if value.shape != parameter.shape:  # copy_ would repeat it
                    raise ValueError(f"holds {tuple(value.shape)} for {tuple(parameter.shape)}")
                parameter.copy_(value)
            step = int(state["step"])
        self.load(state, str(path))
        return step


def factors(how: Optimisation, steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at a step (from 0).

    Rises linearly through the warm-up to 1, so that its first step already moves; then
    transformers' schedule over the steps that remain.
    """
    from transformers import get_scheduler

    warmup = how.warmup_steps(steps)
    unused = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=how.learning_rate)
    schedule: Any = get_scheduler(
        how.schedule,
        unused,
        num_warmup_steps=0,
        num_training_steps=max(steps - warmup, 1),
        scheduler_specific_kwargs=dict(how.schedule_options),
    )
    rest = schedule.lr_lambdas[0]
    return lambda step: (step + 1) / warmup if step < warmup else rest(step - warmup)


def _groups(how: Optimisation, named: list[tuple[str, torch.nn.Parameter]]) -> list[dict[str, Any]]:
    """Torch's parameter groups: one for each of the settings', and one for the rest.

    Raises:
        UserError: a pattern matches no parameter that is left for it.
    """
    rest, found = named, []
    for group in how.groups:
        mine = [(name, p) for name, p in rest if re.search(group.match, name)]
        if not mine:
            names = ", ".join(name for name, _ in rest[:5])
            raise UserError(
                f"optimisation.groups: {group.match!r} matches no trained parameter that no "
                f"earlier group took; there are {names}{', ...' if len(rest) > 5 else ''}"
            )
        rest = [(name, p) for name, p in rest if not re.search(group.match, name)]
        settings = {"lr": group.learning_rate, "weight_decay": group.weight_decay}
        found.append(
            {
                "params": [p for _, p in mine],
                **{key: value for key, value in settings.items() if value is not None},
            }
        )
    if rest:
        found.append({"params": [p for _, p in rest]})
    return found


def _inner(how: Optimisation, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    common: dict[str, Any] = {"lr": how.learning_rate, "weight_decay": how.weight_decay}
    if how.optimizer == "sgd":
        momentum = 0.9 if how.momentum is None else how.momentum
        return torch.optim.SGD(groups, momentum=momentum, **common)
    betas = how.betas or (0.9, 0.999)
    if how.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=betas, **common)
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "optimisation.optimizer=adamw8bit needs bitsandbytes: pip install bitsandbytes, or "
            "optimisation.optimizer=adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit(groups, betas=betas, **common)
