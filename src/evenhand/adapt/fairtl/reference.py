"""The reference set: captions that leave the class open, each image once, its balance reported."""

import pathlib
import re
import warnings
from collections import Counter, defaultdict
from typing import Any

from evenhand.core.attributes import Target
from evenhand.core.errors import UserError, unknown
from evenhand.core.files import write_json
from evenhand.core.prompts import load_prompts
from evenhand.core.words import Telltale
from evenhand.diffusion.denoising import Denoising
from evenhand.images.labelled import name_of, readable
from evenhand.images.tensors import in_batches
from evenhand.judges.base import answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.fairtl import FairTl
from evenhand.recipes.judge import find_judge
from evenhand.stats.shares import wilson
from evenhand.training.examples import Examples, examples_of
from evenhand.training.pictures import Pictures

ADVICE = (
    "captions of the reference set leave the class open, or the model learns words and not "
    "balance; word it otherwise, or put the word under allow"
)


def reference_set(
    recipe: FairTl, pictures: Pictures, denoising: Denoising, folder: pathlib.Path
) -> Examples:
    """The reference images of a recipe, encoded once; writes `reference.json` into the folder.

    Raises:
        UserError: a caption that tells a class or names a held-out concept, or fewer images than
            a batch.
    """
    refuse_telling(recipe, pictures)
    kept, twice = _once(pictures)
    chosen = pictures.select(kept)
    found = examples_of(chosen, denoising, folder / "images.safetensors", recipe.at_once)
    if len(found) < recipe.batch:
        raise UserError(
            f"{pictures.wanted.path}: holds {len(found)} different images that can be read, fewer "
            f"than a batch of {recipe.batch}; lower batch, or add images"
        )
    balance = _balance(recipe, chosen) if recipe.judge else None
    write_json(
        folder / "reference.json",
        {
            "images": len(found),
            "twice": len(twice),
            "unread": len(kept) - len(found),
            "captions": len(set(chosen.captions)),
            "judge": recipe.judge,
            "shares": balance,
        },
    )
    return found


def refuse_telling(recipe: FairTl, pictures: Pictures) -> None:
    """Raises UserError where a caption tells a class, or names a held-out concept."""
    linter = telltale_of(recipe)
    held_out = load_prompts(recipe.held_out) if recipe.held_out else None
    concepts = (held_out.concepts.get("test") or []) if held_out else []
    named = {concept: re.compile(rf"\b{re.escape(concept)}\b", re.I) for concept in concepts}
    for i, caption in enumerate(pictures.captions):
        if linter.word(caption):
            linter.refuse(caption, pictures.name(i))
        for concept, pattern in named.items():
            if pattern.search(caption):
                raise UserError(
                    f"{pictures.name(i)}: {caption!r} names {concept!r}, a held-out concept of "
                    f"{recipe.held_out}: a measurement on it would show what was trained; leave "
                    "the image out"
                )


def telltale_of(recipe: FairTl) -> Telltale:
    """Who refuses captions that tell a class: by its name, words, wordings, and the judge's."""
    explicit = load_prompts(recipe.own.prompts).explicit if recipe.own else {}
    judge = find_judge(recipe.judge) if recipe.judge else None
    texts: dict[str, dict[str, list[str]]] = {}
    for name in recipe.target.attributes:
        known = judge.known[name].classes if judge and name in judge.known else []
        shares = recipe.target.by_class.get(name, {})
        given, said = recipe.words.get(name, {}), _differing(explicit.get(name, {}))
        texts[name] = {
            cls: [cls, *given.get(cls, []), *said.get(cls, [])]
            for cls in dict.fromkeys([*shares, *known, *given, *said])
        }
    if other := recipe.words.keys() - texts.keys():
        raise unknown("attribute", min(other), texts, where="words")
    return Telltale(texts, recipe.allow, ADVICE)


def _differing(wordings: dict[str, str]) -> dict[str, set[str]]:
    """The words of each class's wording that do not stand in all of them."""
    words = {cls: set(text.split()) for cls, text in wordings.items()}
    common = set.intersection(*words.values()) if words else set()
    return {cls: found - common for cls, found in words.items()}


def _once(pictures: Pictures) -> tuple[list[int], list[int]]:
    """Numbers of the rows whose image did not stand before, and of the others."""
    first: dict[str, int] = {}
    kept, twice = [], []
    for i, digest in enumerate(pictures.files):
        if digest and digest in first:
            twice.append(i)
            continue
        first.setdefault(digest, i)
        kept.append(i)
    if twice:
        names = [name_of(pictures.rows[i]) for i in (twice[0], first[pictures.files[twice[0]]])]
        warnings.warn(
            f"{pictures.wanted.path}: {len(twice)} images stand there twice, such as {names[0]} "
            f"(as {names[1]}); each counts once",
            stacklevel=2,
        )
    return kept, twice


def _balance(recipe: FairTl, pictures: Pictures) -> dict[str, Any]:
    """Shares of the target's classes that the judge perceives, with a warning where they differ.

    Raises:
        UserError: the judge does not know an attribute or a class of the target.
    """
    judge = load_judge(find_judge(recipe.judge or ""))
    recipe.target.check(judge.attributes)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    by_caption: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    pixels = readable(pictures.rows, pictures.wanted.path, side=judge.side)
    for numbers, images in in_batches(pixels, 64):
        found = answers(judge, images)
        for name in recipe.target.attributes:
            classes = judge.classes(name)
            for i, k, judged in zip(
                numbers, found.probs[name].argmax(-1).tolist(), found.seen.tolist(), strict=True
            ):
                if judged:
                    seen[name][classes[k]] += 1
                    by_caption[name, pictures.captions[i]][classes[k]] += 1
    return {
        name: _shares(name, counted, recipe.target, by_caption) for name, counted in seen.items()
    }


def _shares(
    name: str,
    counted: Counter[str],
    target: Target,
    by_caption: dict[tuple[str, str], Counter[str]],
) -> dict[str, Any]:
    """What was counted of an attribute beside the target, said aloud where the two differ."""
    wished, n = target.by_class.get(name, {}), sum(counted.values())
    found = {cls: wilson(counted[cls], n) for cls in dict.fromkeys([*wished, *counted])}
    off = _off(counted, wished)
    captions = {c: counts for (attribute, c), counts in by_caption.items() if attribute == name}
    collapsed = [c for c, counts in captions.items() if _off(counts, wished)]
    if off:
        words = ", ".join(f"{cls} {found[cls]} (asked for: {wished[cls]:g})" for cls in off)
        warnings.warn(
            f"the reference set is skewed in {name}, as its judge perceives it: {words}; the model "
            "will learn these shares",
            stacklevel=2,
        )
    elif len(collapsed) > max(1, 0.1 * len(captions)):
        warnings.warn(
            f"the reference set is balanced in {name} as a whole, and skewed in the images of "
            f"{len(collapsed)} captions, such as {collapsed[0]!r}; balance each caption",
            stacklevel=2,
        )
    return {
        "shares": {cls: [x.value, x.low, x.high] for cls, x in found.items()},
        "target": wished,
        "images": n,
        "skewed": bool(off),
        "skewed_captions": collapsed,
    }


def _off(counted: Counter[str], wished: dict[str, float]) -> list[str]:
    """Classes of the target whose interval does not hold the share asked for."""
    n = sum(counted.values())
    found = {cls: wilson(counted[cls], n) for cls in wished}
    return [
        cls
        for cls, x in found.items()
        if x.low is not None and x.high is not None and not x.low <= wished[cls] <= x.high
    ]
