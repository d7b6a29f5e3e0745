"""What a recipe will cost, from two steps of it."""

import pathlib
import tempfile
import time
from dataclasses import dataclass

from evenhand.adapt.dft.finetune import finetune
from evenhand.core.adapters import find_adapter
from evenhand.recipes.dft import Dft
from evenhand.training.run_directory import peak_memory


@dataclass(frozen=True)
class Cost:
    """Of a recipe.

    Attributes:
        parameters: trainable ones.
        images: a step.
        calls: denoiser calls a step without and with gradients, each on a step's images; the frozen
            model's reference images take as many as the first again, where no kept ones serve.
        seconds: of all steps of all runs, if each takes as long as the second did.
        memory: peak, bytes; of the GPU where there is one, else of the process.
    """

    parameters: int
    images: int
    calls: tuple[int, int]
    seconds: float
    memory: int


def cost(recipe: Dft) -> Cost:
    """Runs two steps in a temporary folder and says what the whole recipe will cost."""
    from safetensors.torch import load_file

    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        short = recipe.model_copy(update={"steps": 2, "checkpoint_every": 2, "runs": 1})
        adapter = finetune(
            short, pathlib.Path(folder) / "run", progress=lambda *_: times.append(time.monotonic())
        )
        parameters = sum(x.numel() for x in load_file(find_adapter(adapter).weights).values())
    steps, seconds = (
        max(recipe.num_inference_steps),
        (times[1] - times[0]) * recipe.steps * recipe.runs,
    )
    return Cost(
        parameters,
        recipe.prompts_per_step * recipe.images + recipe.explicit_images,
        (steps, min(recipe.gradient.calls or steps, steps)),
        seconds,
        peak_memory(),
    )
