"""What a recipe will cost, from two steps of it."""

import contextlib
import itertools
import pathlib
import shutil
import tempfile
import time
from dataclasses import dataclass, field

from evenhand.adapt import train
from evenhand.adapt.fairtl.own_images import ASKED, own_prompts
from evenhand.adapt.fairtl.scores import MOST, steps_of
from evenhand.core.schema import read_json
from evenhand.recipes.dft import Dft
from evenhand.recipes.dreambooth import Dreambooth
from evenhand.recipes.fairtl import FairTl, LinearProbing, OwnImages
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
        clusters, images = _clusters(run), _own_images(recipe, run)
        if page and (run / "clusters.html").is_file():
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / "clusters.html", page)
    assert state is not None
    parameters = sum(x.numel() for x in state["parameters"])
    steps = recipe.steps * (recipe.runs if isinstance(recipe, Dft) else 1)
    if probing := _measured(recipe):
        steps += steps_of(probing)
    drawing = clock.image * images
    seconds = clock.step * steps + drawing
    return Cost(parameters, _step(recipe), seconds, drawing, peak_memory(), clusters)


def _measured(recipe: Training) -> LinearProbing | None:
    """How a recipe finds out which layers are trained first; None where it need not."""
    probing = recipe.probing if isinstance(recipe, FairTl) else None
    given = probing and probing.scores
    return None if given and pathlib.Path(given).is_file() else probing


def _own_images(recipe: Training, run: pathlib.Path) -> int:
    """How many images the model draws before its training."""
    if isinstance(recipe, Dft):
        return 0
    images = recipe.prior.images if recipe.prior else 0
    if isinstance(recipe, FairTl) and recipe.own and (recipe.said or recipe.keep):
        own = len(own_prompts(recipe))
        images += own + (min(ASKED, own) if recipe.said and recipe.judge else 0)
    if _measured(recipe):
        found = read_json(run / "reference.json", what="a run's reference set")
        images += min(MOST, found["images"])
    return images


def _short(recipe: Training) -> Training:
    """The recipe with two steps, and few images to draw."""
    if isinstance(recipe, Dft):
        return recipe.model_copy(update={"steps": 2, "checkpoint_every": 2, "runs": 1})
    # those of several adapters are shared out; what is too much is not run
    steps = max(2, recipe.steps) if isinstance(recipe, Dreambooth) else 2
    short = recipe.model_copy(update={"steps": steps, "checkpoint_every": 1})
    if isinstance(recipe, FairTl):
        short = short.model_copy(update={"probing": None, "own": _few(recipe)})
    if not recipe.prior:
        return short
    few = recipe.prior.model_copy(update={"images": min(recipe.prior.images, DRAWN)})
    return short.model_copy(update={"prior": few})


def _few(recipe: FairTl) -> OwnImages | None:
    """The recipe's own images, of the first concepts, about `DRAWN` of them."""
    if recipe.own is None or not (recipe.said or recipe.keep):
        return recipe.own
    prompts = own_prompts(recipe)
    concepts = list(dict.fromkeys(prompt.concept for prompt in prompts))
    wordings = len(prompts) // (recipe.own.each * len(concepts))
    some = concepts[: max(1, DRAWN // wordings)]
    each = min(recipe.own.each, max(1, DRAWN // (wordings * len(some))))
    return recipe.own.model_copy(update={"each": each, "concepts": some})


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
