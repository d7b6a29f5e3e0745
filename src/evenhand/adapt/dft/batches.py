"""What a step draws: prompts and seeds, and which of the images are matched to which target."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evenhand.adapt.dft.plan import Plan
from evenhand.core.attributes import Target
from evenhand.core.prompts import Prompt
from evenhand.core.records import image_seed
from evenhand.diffusion.pipeline import Diffusion
from evenhand.recipes.dft import Dft


@dataclass(frozen=True)
class Group:
    """Images (row numbers in the batch) that are matched to a target together."""

    rows: NDArray[np.int64]
    target: Target


@dataclass(frozen=True)
class Batch:
    """The N images of a step.

    Prompts and seeds, neutral ones in groups, then those whose prompt says a class.
    """

    prompts: list[Prompt]
    seeds: list[int]
    num_inference_steps: int
    groups: list[Group]

    def sample(self, diffusion: Diffusion, rows: Tensor) -> Tensor:
        """The images `[n, 3, H, W]` of the given rows; the caller decides about gradients."""
        return diffusion.call(
            [self.prompts[i].text for i in rows],
            [self.seeds[i] for i in rows],
            num_inference_steps=self.num_inference_steps,
        )


def neutral_prompts(plan: Plan) -> list[list[Prompt]]:
    """The neutral prompts of every step.

    Sets by their weights, each set shuffled anew when it is used up.
    """
    recipe, sets = plan.recipe, list(plan.sets.values())
    weights = recipe.prompts if isinstance(recipe.prompts, dict) else {recipe.prompts: 1.0}
    streams = [_endless(s.prompts(["train"]), [recipe.seed, i]) for i, s in enumerate(sets)]
    shares = np.array(list(weights.values())) / sum(weights.values())
    chosen = np.random.default_rng(recipe.seed).choice(
        len(streams), size=(recipe.steps, recipe.prompts_per_step), p=shares
    )
    return [[next(streams[i]) for i in row] for row in chosen]


def _endless(prompts: Sequence[Prompt], seed: list[int]) -> Iterator[Prompt]:
    rng = np.random.default_rng(seed)
    while True:
        yield from (prompts[i] for i in rng.permutation(len(prompts)))


def draw(
    recipe: Dft, neutral: list[Prompt], explicit: list[Prompt], step: int, rng: np.random.Generator
) -> Batch:
    """`images` images of each neutral prompt, then `explicit_images` of prompts that say a class.

    Image numbers come from the pool of `preservation.seeds` (fresh ones when it is 0), so that
    reference images can be kept. A prompt that comes twice in a step has a pool of its own each
    time: no image is drawn twice.
    """
    pool, size = recipe.preservation.seeds, recipe.images
    prompts = [p for p in neutral for _ in range(size)]
    if explicit:
        chosen = rng.integers(len(explicit), size=recipe.explicit_images)
        prompts += [explicit[i] for i in chosen]
    seen: Counter[str] = Counter()
    numbers: list[int] = []
    for p in neutral:
        own = rng.permutation(pool)[:size] if pool else step * size + np.arange(size)
        numbers += (own + seen[p.text] * (pool or recipe.steps * size)).tolist()
        seen[p.text] += 1
    for p in prompts[len(numbers) :]:
        numbers.append(int(rng.integers(pool or 2**31)) + seen[p.text] * pool)
        seen[p.text] += 1
    seeds = [
        image_seed("train", recipe.seed, p.text, int(i))
        for p, i in zip(prompts, numbers, strict=True)
    ]
    steps = int(rng.choice(recipe.num_inference_steps))
    return Batch(prompts, seeds, steps, _groups(recipe, neutral))


def _groups(recipe: Dft, neutral: list[Prompt]) -> list[Group]:
    """One group a prompt, or one a target with `alignment.together`."""
    rows = np.arange(len(neutral) * recipe.images).reshape(len(neutral), recipe.images)
    targets = [recipe.target_of(p) for p in neutral]
    if not recipe.alignment.together:
        return [Group(r, t) for r, t in zip(rows, targets, strict=True)]
    different = [t for i, t in enumerate(targets) if t not in targets[:i]]
    return [
        Group(np.concatenate([r for r, mine in zip(rows, targets, strict=True) if mine == t]), t)
        for t in different
    ]
