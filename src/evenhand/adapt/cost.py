"""What a recipe will cost, from two steps of it."""

import contextlib
import itertools
import pathlib
import shutil
import tempfile
import time
from dataclasses import dataclass, field

from evenhand.adapt import train, without_work_before, work_before
from evenhand.core.schema import read_json
from evenhand.recipes.dft import Dft
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.methods import Training
from evenhand.training.checkpoints import load_state
from evenhand.training.run_directory import peak_memory

DRAWN = 16  # images of the model's own of each kind whose drawing is timed, at most


@dataclass(frozen=True)
class Cost:
    """Of a recipe.

    Attributes:
        parameters: trainable ones, of an adapter.
        step: what a step does, in words.
        seconds: of all steps of all runs, if each takes as long as the second did, those that find
            the first layers of `fairtl` among them, and of drawing images of the model's own;
            encoding images comes before.
        drawing: seconds of them that images of the model's own take.
        memory: peak, bytes; of the GPU where there is one, else of the process.
        clusters: of a training on subgroups: the images of each group, or of each cluster.
    """

    parameters: int
    step: str
    seconds: float
    drawing: float
    memory: int
    clusters: dict[str, int] = field(default_factory=dict)


class _Enough(Exception):
    """Ends a training of which enough was seen."""


class _Clock:
    """Takes the times of a training's first two steps, and of what is drawn before."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._drawn: list[tuple[float, float]] = []  # images, and when they were there

    def __call__(self, done: int, row: dict[str, float]) -> None:
        """The training's progress."""
        now = time.monotonic()
        if "drawn" in row:
            self._drawn.append((row["drawn"], now))
            return
        self._steps.append(now)
        if len(self._steps) == 2:
            raise _Enough

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self._steps[1] - self._steps[0]

    @property
    def image(self) -> float:
        """Seconds of drawing an image; 0 where none was drawn."""
        batches = [
            (n - before, end - start)
            for (before, start), (n, end) in itertools.pairwise(self._drawn)
            if n > before  # of one set; the next one begins at 0
        ]
        images = sum(n for n, _ in batches)
        return sum(seconds for _, seconds in batches) / images if images else 0.0


def cost(recipe: Training, page: pathlib.Path | None = None) -> Cost:
    """Runs two steps in a temporary folder and says what the whole recipe will cost.

    Args:
        recipe: of the training.
        page: where the page goes that shows the clusters of a training on subgroups.
    """
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        with contextlib.suppress(_Enough):
            train(_short(recipe), run, progress=clock)
        state = load_state(next(run.rglob("checkpoint.pt")))
        clusters, (before, images) = _clusters(run), work_before(recipe, run)
        if page and (run / "clusters.html").is_file():
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / "clusters.html", page)
    assert state is not None
    parameters = sum(x.numel() for x in state["parameters"])
    steps = before + recipe.steps * (recipe.runs if isinstance(recipe, Dft) else 1)
    drawing = clock.image * images
    seconds = clock.step * steps + drawing
    return Cost(parameters, _step(recipe), seconds, drawing, peak_memory(), clusters)


def _short(recipe: Training) -> Training:
    """The recipe with two steps, and few images to draw."""
    if isinstance(recipe, Dft):
        return recipe.model_copy(update={"steps": 2, "checkpoint_every": 2, "runs": 1})
    # those of several adapters are shared out; what is too much is not run
    steps = max(2, recipe.steps) if isinstance(recipe, Dreambooth) else 2
    short = recipe.model_copy(update={"steps": steps, "checkpoint_every": 1})
    if recipe.prior:
        few = recipe.prior.model_copy(update={"images": min(recipe.prior.images, DRAWN)})
        short = short.model_copy(update={"prior": few})
    return without_work_before(short, DRAWN)


def _clusters(run: pathlib.Path) -> dict[str, int]:
    """The images of each group or cluster of a training on subgroups, by name."""
    if not (run / "clusters.json").is_file():
        return {}
    found = read_json(run / "clusters.json", what="a run's clusters")
    groups = ["/".join(group.values()) or "all images" for group in found["groups"]]
    names = [
        groups[x["group"]] + ("" if x["cluster"] is None else f" {x['cluster']}")
        for x in found["images"]
    ]
    return {name: names.count(name) for name in sorted(set(names))}


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
