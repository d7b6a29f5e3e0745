"""What a recipe will cost, from two steps of it."""

import pathlib
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from evenhand.adapt import train
from evenhand.recipes.dft import Dft
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.methods import Training
from evenhand.training.checkpoints import load_state
from evenhand.training.run_directory import peak_memory


@dataclass(frozen=True)
class Cost:
    """Of a recipe.

    Attributes:
        parameters: trainable ones.
        step: what a step does, in words.
        seconds: of all steps of all runs, if each takes as long as the second did; encoding images
            and drawing those of prior preservation come before.
        memory: peak, bytes; of the GPU where there is one, else of the process.
    """

    parameters: int
    step: str
    seconds: float
    memory: int


def cost(recipe: Training) -> Cost:
    """Runs two steps in a temporary folder and says what the whole recipe will cost."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        once: dict[str, Any] = {"runs": 1} if isinstance(recipe, Dft) else {}
        once |= {"probing": None} if isinstance(recipe, FairTl) else {}
        short = recipe.model_copy(update={"steps": 2, "checkpoint_every": 2, **once})
        run = pathlib.Path(folder) / "run"
        train(short, run, progress=lambda *_: times.append(time.monotonic()))
        state = load_state(run / "checkpoint.pt")
        assert state is not None
        parameters = sum(x.numel() for x in state["parameters"])
    runs = recipe.runs if isinstance(recipe, Dft) else 1
    seconds = (times[1] - times[0]) * recipe.steps * runs
    return Cost(parameters, _step(recipe), seconds, peak_memory())


def _step(recipe: Training) -> str:
    """The work of a step, in words."""
    if isinstance(recipe, Dft):
        images = recipe.prompts_per_step * recipe.images + recipe.explicit_images
        steps = max(recipe.num_inference_steps)
        replayed = min(recipe.gradient.calls or steps, steps)
        return (
            f"a step: {images} images, {steps} denoiser calls without and {replayed} with gradients"
        )
    both = (
        f", and as many of the model's own ({recipe.prior.images} in all)" if recipe.prior else ""
    )
    if isinstance(recipe, FairTl) and recipe.keep:
        both += f", and {recipe.keep.batch} to keep prompts that say a class"
    return f"a step: {recipe.batch} images{both}, {recipe.at_once} at once"
