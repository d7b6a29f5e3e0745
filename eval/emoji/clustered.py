"""Synthetic images of the benchmark of classifiers by adapters of each group's real images.

Each group of the biased training images is divided into clusters by how they look; an adapter is
trained on each cluster, and draws the group's images (Basu et al., arXiv 2511.08711). Nothing but
the target and the shortcut is known of an image: captions say no occupation.
"""

import pathlib
from collections.abc import Callable

from PIL import Image
from worlds import TONES

from evenhand.adapt import train
from evenhand.classify.experiment import prepare
from evenhand.core.adapter_sets import Member, find_set
from evenhand.core.files import whole
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.emoji.drawings import GENDERS, write_rows
from evenhand.images.tensors import to_uint8
from evenhand.recipes.classify import Classify
from evenhand.recipes.methods import load_training
from evenhand.recipes.model import load_model
from evenhand.training.checkpoints import step_generator

CAPTION = "{token} : a portrait of a {gender} with {tone} skin"
STEPS = 1000  # of all adapters together
AT_ONCE = 50
Update = Callable[[int, int], None]


def clustered(
    folder: pathlib.Path, recipe: Classify, data: pathlib.Path, *, each: int, seed: int,
    progress: Update,
) -> None:  # fmt: skip
    """Trains the adapters of a recipe's biased training images, and draws by them.

    Args:
        folder: gets the images of each group (`images/GROUP.parquet`), and the training.
        recipe: says which real images are trained on (`bias`).
        data: the real images.
        each: images of each of the four groups.
        seed: of training and images.
        progress: called with (steps or images done, in all).
    """
    if not (folder / "real.parquet").is_file():
        experiment = prepare(recipe.model_copy(update={"variants": {"erm": {}}}), data)
        (arm,) = experiment.arms.values()
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / "real.parquet") as temporary:
            experiment.real["train"].rows.select(arm.real.tolist()).to_parquet(temporary)
    sides = {"column": "tone", "classes": TONES}
    genders = {"column": "gender", "classes": {name: [name] for name in GENDERS}}
    training = load_training(
        "dreambooth/emoji",
        [
            f"images={{path: {folder / 'real.parquet'}, caption: '{CAPTION}'}}",
            f"groups={{gender: {genders}, side: {sides}}}",
            "clusters={judge: emoji-judge, k: 3, floor: 10}",
            f"steps={STEPS}",
            f"seed={seed}",
        ],
    )
    found = find_set(
        train(training, folder / "run", progress=lambda done, _: progress(done, STEPS))
    )
    for gender in GENDERS:
        for side, tones in TONES.items():
            path = folder / "images" / f"{gender}-{side}.parquet"
            if path.is_file():
                continue
            group, rows = {"gender": gender, "side": side}, []
            shares = found.weights(group)
            for member in found.of(group):
                wanted = round(each * shares[member.name])
                rows += _drawn(member, group, tones, wanted + 1, seed, found.caption)
            write_rows(path, rows[:each])
            progress(STEPS, STEPS)


def _drawn(
    member: Member, group: dict[str, str], tones: list[str], n: int, seed: int, text: str
) -> list[dict]:
    """Rows of images that a member draws, with what was asked for."""
    diffusion, rows = load_diffusion(load_model("emoji"), adapter=member.mix), []
    for first in range(0, n, AT_ONCE):
        places = range(first, min(first + AT_ONCE, n))
        asked = [tones[i % len(tones)] for i in places]
        prompts = [text.format(token=member.token, gender=group["gender"], tone=t) for t in asked]
        numbers = [
            int(step_generator(seed, "clustered", member.name, i).initial_seed() % 2**62)
            for i in places
        ]
        images = diffusion.sample(prompts, numbers, num_inference_steps=10)
        rows += [
            {"image": Image.fromarray(image), "gender": group["gender"], "tone": tone}
            for image, tone in zip(to_uint8(images), asked, strict=True)
        ]
    return rows
