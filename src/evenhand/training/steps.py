"""The one loop of optimisation steps of every training of a diffusion model."""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from evenhand.recipes.denoising import DenoisingTraining
from evenhand.recipes.dft import Dft
from evenhand.training.optimizer import Optimizer
from evenhand.training.processes import same_everywhere
from evenhand.training.run_directory import Progress, cut_log, log_line

Gradient = Callable[[int], tuple[dict[str, float], dict[str, Any]]]
Save = Callable[[pathlib.Path], None]


class Steps:
    """The optimisation steps of a training, from its folder's checkpoint on.

    Args:
        recipe: number of steps, optimisation, and how often what is kept.
        folder: of the run; holds checkpoint.pt and log.jsonl.
        named: parameters that are trained, by name.
        against: as of `Optimizer.restore`.
        accelerator: of the processes that train together.

    Attributes:
        log: of the steps done so far, the same file in every process.

    Raises:
        UserError: the checkpoint is of another training, or damaged.
    """

    def __init__(
        self,
        recipe: DenoisingTraining | Dft,
        folder: pathlib.Path,
        named: Mapping[str, nn.Parameter],
        *,
        against: str,
        accelerator: Any,
    ) -> None:
        self._recipe, self._folder, self._against = recipe, folder, against
        self._accelerator = accelerator
        self._optimizer = Optimizer(recipe.optimisation, named.items(), steps=recipe.steps)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = same_everywhere(accelerator, folder / "checkpoint.pt")
        self._first = self._optimizer.restore(checkpoint, against)
        if accelerator.is_main_process:
            cut_log(folder / "log.jsonl", self._first)
        accelerator.wait_for_everyone()  # all read the log that was cut
        self.log = same_everywhere(accelerator, folder / "log.jsonl")

    def take(self, gradient: Gradient, *, report: Progress, save: Save | None = None) -> None:
        """Takes all steps that are left.

        Args:
            gradient: puts the gradient of a step, the same in every process, into the `.grad` of
                the parameters. Returns the step's numbers, and what else the log keeps of it.
            report: called after every step with its numbers, by the main process.
            save: writes what is trained so far into a folder, every `recipe.save_every` steps.

        Raises:
            UserError: the gradient was not finite for too long, or the weights are not.
        """
        recipe, folder, main = self._recipe, self._folder, self._accelerator.is_main_process
        for step in range(self._first, recipe.steps):
            began = time.monotonic()
            row, more = gradient(step)
            row["gradient_norm"] = self._optimizer.step(f"{folder}: step {step}")
            if not main:
                continue
            took = {"seconds": round(time.monotonic() - began, 4)}
            log_line(folder / "log.jsonl", {"step": step, **row, **more, **took})
            done = step + 1
            if done % recipe.checkpoint_every == 0 or done == recipe.steps:
                self._optimizer.save(folder / "checkpoint.pt", done, self._against)
            if save and recipe.save_every and done % recipe.save_every == 0:
                self._optimizer.check_finite(str(folder))
                self.write(save, folder / f"{recipe.makes}s" / f"step-{done}")
            report(done, row)
        self._optimizer.check_finite(str(folder))

    def write(self, save: Save, where: pathlib.Path) -> None:
        """Writes what is trained, averaged if the recipe says so; the main process does.

        Args:
            save: writes it into a folder.
            where: the folder.
        """
        if self._accelerator.is_main_process:
            with self._optimizer.averaged():
                save(where)
