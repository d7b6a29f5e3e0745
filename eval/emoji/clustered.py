"""Synthetic images by adapters of the clusters of each group's real images.

Each group of the biased training images is divided into clusters by how they look; an adapter is
trained on each cluster, and draws the group's images (Basu et al., arXiv 2511.08711). Nothing but
the target and the protected attribute is known of an image.
"""

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from classify_sets import TONES
from PIL import Image

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

AT_ONCE = 50
Update = Callable[[int, int], None]
Words = dict[str, str]


@dataclass(frozen=True)
class Subgroups:
    """How the groups of the real images are learned and drawn.

    Attributes:
        changes: of the recipe `dreambooth/emoji`: its groups, clusters, model.
        caption: of the images, and the prompt; `{token}`, classes and columns stand in braces.
        groups: by name: the classes of a group in that recipe, and what columns say of its images,
            in turn.
        steps: of all adapters together.
    """

    changes: Sequence[str]
    caption: str
    groups: dict[str, tuple[Words, Sequence[Words]]]
    steps: int = 1000


EMOJI = Subgroups(
    [
        f"groups={{gender: {{column: gender, classes: { {g: [g] for g in GENDERS} }}}, "
        f"side: {{column: tone, classes: {TONES}}}}}",
        "clusters={judge: emoji-judge, k: 3, floor: 10}",
    ],
    "{token} : a portrait of a {gender} with {tone} skin",
    {
        f"{gender}-{side}": (
            {"gender": gender, "side": side},
            [{"gender": gender, "tone": tone} for tone in tones],
        )
        for gender in GENDERS
        for side, tones in TONES.items()
    },
)


def clustered(
    folder: pathlib.Path, recipe: Classify, data: str | pathlib.Path, how: Subgroups = EMOJI, *,
    each: int, seed: int, progress: Update,
) -> None:  # fmt: skip
    """Trains the adapters of a recipe's biased training images, and draws by them.

    Args:
        folder: gets the images of each group (`images/GROUP.parquet`), and the training.
        recipe: says which real images are trained on (`bias`).
        data: the real images.
        how: the groups.
        each: images of each group.
        seed: of training and images.
        progress: called with (steps or images done, in all).
    """
    if not (folder / "real.parquet").is_file():
        experiment = prepare(recipe.model_copy(update={"variants": {"erm": {}}}), data)
        (arm,) = experiment.arms.values()
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / "real.parquet") as temporary:
            experiment.real["train"].rows.select(arm.real.tolist()).to_parquet(temporary)
    training = load_training(
        "dreambooth/emoji",
        [
            f"images={{path: {folder / 'real.parquet'}, caption: '{how.caption}'}}",
            *how.changes,
            f"steps={how.steps}",
            f"seed={seed}",
        ],
    )
    found = find_set(
        train(training, folder / "run", progress=lambda done, _: progress(done, how.steps))
    )
    text = found.described.caption
    for number, (name, (group, said)) in enumerate(how.groups.items(), 1):
        path, rows = folder / "images" / f"{name}.parquet", []
        if path.is_file():
            continue
        shares = found.weights(group)
        for member in found.of(group):
            wanted = round(each * shares[member.name])
            rows += _drawn(member, training.model, group, said, wanted + 1, seed, text)
        write_rows(path, rows[:each])
        progress(number * each, len(how.groups) * each)


def _drawn(
    member: Member, model: str, group: Words, said: Sequence[Words], n: int, seed: int, text: str
) -> list[dict]:
    """Rows of images that a member draws, with what columns say of them."""
    diffusion, rows = load_diffusion(load_model(model), adapter=member.mix), []
    for first in range(0, n, AT_ONCE):
        places = range(first, min(first + AT_ONCE, n))
        asked = [said[i % len(said)] for i in places]
        prompts = [text.format(**{"token": member.token, **columns, **group}) for columns in asked]
        numbers = [
            int(step_generator(seed, "clustered", member.name, i).initial_seed() % 2**62)
            for i in places
        ]
        images = diffusion.sample(prompts, numbers, num_inference_steps=10)
        rows += [
            {"image": Image.fromarray(image), **columns}
            for image, columns in zip(to_uint8(images), asked, strict=True)
        ]
    return rows
