"""Images that the frozen model draws of prompts that say a class, and whether it follows them."""

import pathlib
from dataclasses import dataclass

import torch
from torch import Tensor

from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import Prompt, PromptSet, load_prompts
from evenhand.core.records import image_seed
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.sampling import draw
from evenhand.judges.base import Predictions, answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.judge import JudgeConfig, find_judge
from evenhand.training.checkpoints import step_generator
from evenhand.training.examples import AT_ONCE, Examples, Teacher, drawn
from evenhand.training.run_directory import Progress

ASKED = 48  # images of which it is asked whether the model follows the words


@dataclass(frozen=True)
class Own:
    """M images of the frozen model's.

    Attributes:
        latents: `[M, 1, *shape]`.
        prompts: of which they were drawn, each saying a class.
        neutral: for each the same without it.
    """

    latents: Tensor
    prompts: list[Prompt]
    neutral: list[str]

    def said(self, target: dict[str, dict[str, float]], share: float) -> Examples:
        """Prompts that leave the class open, taught by the frozen model at those that say it.

        Args:
            target: shares by attribute, of one.
            share: of these in the loss.
        """
        ((name, wished),) = target.items()
        places = [i for i, p in enumerate(self.prompts) if wished.get(p.states.get(name, ""))]
        classes = [self.prompts[i].states[name] for i in places]
        each = torch.tensor([wished[c] / classes.count(c) * len(classes) for c in classes])
        return Examples(
            self.latents[places],
            [self.neutral[i] for i in places],
            share,
            Teacher([self.prompts[i].text for i in places]),
            importance=each / sum(wished.values()),
        )

    def kept(self, attributes: list[str], weight: float, batch: int) -> Examples:
        """Prompts that say a class of these attributes, taught by the frozen model at the same."""
        places = [i for i, p in enumerate(self.prompts) if p.states.keys() <= set(attributes)]
        texts = [self.prompts[i].text for i in places]
        teacher = Teacher(texts)
        return Examples(self.latents[places], texts, weight, teacher, batch=batch, dropout=0.0)


def own_images(recipe: FairTl, denoising: Denoising, folder: pathlib.Path, tell: Progress) -> Own:
    """Draws the images of a recipe, once; they are kept in the folder.

    Raises:
        UserError: as `own_prompts`.
    """
    assert recipe.own is not None
    prompts = own_prompts(recipe)
    texts, file = [p.text for p in prompts], folder / "own.safetensors"
    latents = drawn(texts, recipe, denoising, file, "own", tell)
    neutral = _neutral(load_prompts(recipe.own.prompts), recipe.own.split, prompts)
    return Own(latents, prompts, neutral)


def own_prompts(recipe: FairTl) -> list[Prompt]:
    """The prompts of the model's own images, one an image.

    Raises:
        UserError: the prompt set lacks a concept, or a wording of a class.
    """
    assert recipe.own is not None
    found, wanted = load_prompts(recipe.own.prompts), recipe.own
    needed = recipe.target.attributes if recipe.said else []
    kept = (recipe.keep.attributes or recipe.target.attributes) if recipe.keep else []
    names = list(dict.fromkeys([*needed, *kept]))
    for name in names:
        if name not in found.explicit:
            raise unknown("attribute", name, found.explicit, where=f"own.prompts {wanted.prompts}")
    for cls, share in (recipe.target.by_class[needed[0]] if needed else {}).items():
        if share and cls not in found.explicit[needed[0]]:
            raise unknown("class", cls, found.explicit[needed[0]], where=f"own.prompts {needed[0]}")
    prompts = found.explicit_prompts(names, [wanted.split])
    for concept in wanted.concepts:
        if concept not in {p.concept for p in prompts}:
            raise unknown("concept", concept, found.concepts[wanted.split], where="own.concepts")
    prompts = [p for p in prompts if not wanted.concepts or p.concept in wanted.concepts]
    return [p for p in prompts for _ in range(wanted.each)]


def _neutral(found: PromptSet, split: str, prompts: list[Prompt]) -> list[str]:
    """For each prompt one of its concept that says no class; a concept's wordings take turns."""
    texts: dict[str, list[str]] = {}
    for prompt in found.prompts([split]):
        texts.setdefault(prompt.concept, []).append(prompt.text)
    return [texts[p.concept][i % len(texts[p.concept])] for i, p in enumerate(prompts)]


def refuse_if_words_ignored(own: Own, name: str, denoising: Denoising, recipe: FairTl) -> float:
    """Finds out whether the model follows the words of an attribute's classes.

    A judge that knows the attribute says whether images drawn of "a woman pilot" show one. Without
    a judge it is asked which of the prompts that say a class predicts an image's noise best (Li et
    al., ICCV 2023, arXiv 2303.16203): that finds words that change nothing, not words that the
    model misunderstands.

    Returns:
        the share of images that show what they were drawn of, or whose best prompt is that.

    Raises:
        UserError: that is less than half way from chance to always.
    """
    places = some_of_each(own.prompts, name, ASKED)
    classes = {own.prompts[i].states[name] for i in places}
    config = find_judge(recipe.judge) if recipe.judge else None
    if config and name in config.known and classes <= set(config.known[name].classes):
        right = _seen(own, name, places, denoising, config, recipe.at_once)
        chance = 1 / len(classes)
        found = f"{right:.2f} show, as the judge perceives them, what they were drawn of"
    else:
        right, chance = _fitting(own, name, places, denoising, recipe.seed)
        found = f"{right:.2f} fit the prompt best that they were drawn of"
    if right < (1 + chance) / 2:
        raise UserError(
            f"feedback.asked=said: the model follows the words of {name} too badly: of its own "
            f"images {found} (by chance {chance:.2f}). Take feedback.asked=gated, which needs no "
            "words"
        )
    return right


def some_of_each(prompts: list[Prompt], name: str, n: int) -> list[int]:
    """Places of n prompts, or of all if they are fewer: equally many of each class of an attribute.

    Those of a class are spread evenly over its prompts.
    """
    mine: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        if name in prompt.states:
            mine.setdefault(prompt.states[name], []).append(i)
    each = min([max(1, n // max(len(mine), 1)), *map(len, mine.values())])
    return sorted(places[k * len(places) // each] for places in mine.values() for k in range(each))


def _seen(
    own: Own,
    name: str,
    places: list[int],
    denoising: Denoising,
    config: JudgeConfig,
    at_once: int,
) -> float:
    """Share of new images of some of the prompts that show the class that they say.

    Images in which the judge finds nothing to judge do not count.

    Raises:
        UserError: it finds nothing in any of them.
    """
    diffusion = denoising.diffusion
    judge = load_judge(config, device=diffusion.device)
    rows = [(own.prompts[i], image_seed("deaf", 0, own.prompts[i].text, i)) for i in places]
    right: list[bool] = []
    for batch, images in draw(diffusion, rows, at_once=min(AT_ONCE, at_once)):
        wanted = [judge.classes(name).index(prompt.states[name]) for prompt, _ in batch]
        right += shown(answers(judge, images), name, wanted)
    if not right:
        raise UserError(
            f"judge {config.name!r} finds nothing to judge in {len(rows)} images that the model "
            f"draws of prompts that say {name}; name another judge, or none (judge=null)"
        )
    return sum(right) / len(right)


def shown(found: Predictions, name: str, wanted: list[int]) -> list[bool]:
    """For each image in which there was something to judge: whether it shows the class wanted."""
    best, seen = found.probs[name].argmax(-1).tolist(), found.seen.tolist()
    return [k == w for k, w, judged in zip(best, wanted, seen, strict=True) if judged]


def _fitting(
    own: Own, name: str, places: list[int], denoising: Denoising, seed: int
) -> tuple[float, float]:
    """Share of images whose own prompt predicts them best, and what that is by chance."""
    by_concept: dict[str, dict[str, str]] = {}
    for prompt in own.prompts:
        if name in prompt.states:
            by_concept.setdefault(prompt.concept, {})[prompt.states[name]] = prompt.text
    right, chance = 0.0, 0.0
    for i in places:
        prompt = own.prompts[i]
        texts = by_concept[prompt.concept]
        losses = _losses(
            denoising, list(texts.values()), own.latents[i, 0], step_generator(seed, i)
        )
        best = losses <= losses.min() * (1 + 1e-5)  # a batch computes equal rows almost alike
        right += float(best[list(texts).index(prompt.states[name])]) / float(best.sum())
        chance += 1 / len(texts)
    return right / len(places), chance / len(places)


@torch.no_grad()
def _losses(
    denoising: Denoising, texts: list[str], latents: Tensor, generator: torch.Generator
) -> Tensor:
    """Loss of one image at each of K texts, over the middle of the grid."""
    n, device = len(denoising), denoising.diffusion.device
    total = torch.zeros(len(texts))
    for step in sorted({n // 4, n // 2, 3 * n // 4}):
        noise = torch.randn(latents.shape, generator=generator)
        many = [x.expand(len(texts), *latents.shape).to(device) for x in (latents, noise)]
        total += denoising.loss(texts, many[0], many[1], step).cpu()
    return total
