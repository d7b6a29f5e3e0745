"""The images of the embedded benchmark of classifiers: degraded drawings, and generated ones."""

import itertools
import pathlib
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from pyarrow import parquet

from evenhand.core.adapters import find_adapter
from evenhand.core.prompts import Prompt
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.sampling import draw as generate
from evenhand.emoji.drawings import GENDERS, PLAIN, degraded, write_rows
from evenhand.emoji.world import Scene, caption, draw, load_world
from evenhand.images.tensors import to_uint8
from evenhand.judges.base import answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import find_judge
from evenhand.recipes.model import load_model
from evenhand.training.checkpoints import step_generator

TONES = {"darker": ["medium-dark", "dark"], "lighter": ["light", "medium-light"]}
SURE = 0.9  # of a class that an image of the adapted model is sorted by
ROUND = 400  # images of the adapted model in a file
Row = dict[str, Any]


def real(path: pathlib.Path, splits: dict[str, int], seed: int, how: dict = PLAIN) -> None:
    """Writes degraded drawings with gender, tone and split, so many of each group of a split."""
    world, rows = load_world(), list[Row]()
    for split, n in splits.items():
        for gender in GENDERS:
            for kind, tones in TONES.items():
                generator = step_generator(seed, split, gender, kind)
                names = [tones[i % 2] for i in range(n)]
                scene = Scene(
                    torch.randint(len(world.occupations), (n,), generator=generator),
                    torch.full((n,), world.classes["gender"].index(gender)),
                    torch.tensor([world.classes["tone"].index(tone) for tone in names]),
                    [],
                )
                pixels = to_uint8(degraded(draw(scene, generator=generator), generator, how))
                rows += [
                    {
                        "image": Image.fromarray(image),
                        "gender": gender,
                        "tone": tone,
                        "split": split,
                    }
                    for image, tone in zip(pixels, names, strict=True)
                ]
    write_rows(path, rows)


def synthetic(
    folder: pathlib.Path, each: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes images that the embedded model draws of prompts that say occupation, gender and tone.

    Args:
        folder: gets a parquet file for each group; those that are there are not drawn again.
        each: images of each of the four groups.
        seed: of the images.
        progress: called with (images drawn, images in all).
    """
    world, diffusion = load_world(), load_diffusion(load_model("emoji"))
    titles, pairs = list(world.occupations), list(itertools.product(GENDERS, TONES))
    for place, (gender, kind) in enumerate(pairs):
        path, plan, rows = folder / f"{gender}-{kind}.parquet", list[Any](), list[Row]()
        if path.is_file():
            continue
        for i in range(each):
            title = titles[i % len(titles)]
            said = {"gender": gender, "tone": TONES[kind][i // len(titles) % 2]}
            number = int(step_generator(seed, gender, kind, i).initial_seed() % 2**62)
            prompt = Prompt(caption(title, said, template=3), title, "benchmark", "all", said)
            plan.append((prompt, number))
        for batch, images in generate(
            diffusion, plan, at_once=50, num_inference_steps=10, guidance_scale=1.0
        ):
            rows += [
                {"image": Image.fromarray(image), **prompt.states}
                for (prompt, _), image in zip(batch, to_uint8(images), strict=True)
            ]
            if progress:
                progress(place * each + len(rows), len(pairs) * each)
        write_rows(path, rows)


def adapted(
    folder: pathlib.Path, each: int, seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes images that the adapted model draws of prompts that say an occupation alone.

    `emoji-judge` perceives gender and tone; an image is kept if it is sure of both and of the
    occupation. Rounds of images, a file each, until every group has enough.

    Args:
        folder: gets the parquet files; those that are there are not drawn again.
        each: images of each of the four groups, at least.
        seed: of the images.
        progress: called with (images of the smallest group, `each`).
    """
    world, judge = load_world(), load_judge(find_judge("emoji-judge"))
    diffusion = load_diffusion(load_model("emoji"), adapter=find_adapter("emoji-gender-tone"))
    titles, had = list(world.occupations), dict.fromkeys(itertools.product(GENDERS, TONES), 0)
    for number in itertools.count():
        path = folder / f"round-{number}.parquet"
        if not path.is_file():
            plan = [
                (
                    Prompt(caption(title, {}, template=3), title, "benchmark", "all", {}),
                    int(step_generator(seed, "adapted", number, i).initial_seed() % 2**62),
                )
                for i, title in enumerate(titles * (ROUND // len(titles)))
            ]
            write_rows(path, _perceived(judge, diffusion, plan))
        for row in parquet.read_table(path, columns=["gender", "tone"]).to_pylist():
            had[row["gender"], next(k for k, t in TONES.items() if row["tone"] in t)] += 1
        if progress:
            progress(min(min(had.values()), each), each)
        if min(had.values()) >= each:
            return


def _perceived(judge: Any, diffusion: Any, plan: list[Any]) -> list[Row]:
    """The images of a plan of which the judge is sure, with what it perceives."""
    rows = []
    for batch, images in generate(
        diffusion, plan, at_once=50, num_inference_steps=10, guidance_scale=1.0
    ):
        found = answers(judge, images)
        sure = {a: p.max(-1) for a, p in found.probs.items()}
        for i, image in enumerate(to_uint8(images)):
            names = {a: judge.classes(a)[int(best.indices[i])] for a, best in sure.items()}
            certain = all(float(best.values[i]) >= SURE for best in sure.values())
            known = names["gender"] in GENDERS and names["tone"] != "medium"
            if certain and known and names["occupation"] == batch[i][0].concept:
                kept = {a: names[a] for a in ("gender", "tone")}
                rows.append({"image": Image.fromarray(image), **kept})
    return rows
