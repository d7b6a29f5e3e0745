"""What a diffusion model is trained on: images as latents, with captions."""

import pathlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, whole
from evenhand.core.prompts import Prompt
from evenhand.core.records import image_seed
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.latents import encode
from evenhand.diffusion.sampling import draw
from evenhand.images.labelled import readable
from evenhand.images.tensors import in_batches
from evenhand.recipes.denoising import DenoisingTraining
from evenhand.training.pictures import Pictures
from evenhand.training.run_directory import Progress

AT_ONCE = 8  # images that are drawn or encoded together; fewer where a recipe trains fewer at once


@dataclass(frozen=True)
class Teacher:
    """The model as it was before, whose predictions are regressed onto.

    Attributes:
        captions: M texts at which it is asked: the examples' own, or others that say more.
        share: of its prediction in the target; the rest of it is what the images say.
        gate: greatest noise, its factor in x_t over the image's, at which it is asked; at greater
            noise the images alone are the target. None asks it always.
        as_it_was: context in which the model predicts as the teacher; as before the training when
            None.
        push: what is added to the predictions of a group of examples, from their numbers, x_t and
            the step of the grid; nothing when None.
    """

    captions: list[str]
    share: float = 1.0
    gate: float | None = None
    as_it_was: Callable[[], AbstractContextManager] | None = None
    push: Callable[[list[int], Tensor, int], Tensor] | None = None


@dataclass(frozen=True)
class Examples:
    """M images and what they are called.

    Attributes:
        latents: `[M, V, *shape]`, float32, of each image as it is (V = 1), and mirrored (V = 2).
        captions: M texts.
        weight: of their loss.
        teacher: whose predictions are the target, or a part of it; the images' own when None.
        batch: images a step; the recipe's when None.
        dropout: share of captions left empty; the recipe's when None.
        importance: factors `[M]` on the loss of each image; 1 when None.
    """

    latents: Tensor
    captions: list[str]
    weight: float = 1.0
    teacher: Teacher | None = None
    batch: int | None = None
    dropout: float | None = None
    importance: Tensor | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.captions)


def examples_of(
    pictures: Pictures, denoising: Denoising, file: pathlib.Path, at_once: int
) -> Examples:
    """The images that can be read, encoded once and kept in a file.

    Each is resized until it covers the size that the model draws, and cut to its middle. Images
    that cannot be read are left out with a warning that counts them.

    Raises:
        UserError: no image can be read.
    """
    found, kept = encoded(pictures, denoising, file, at_once)
    return Examples(found, [pictures.captions[i] for i in kept])


def encoded(
    pictures: Pictures, denoising: Denoising, file: pathlib.Path, at_once: int
) -> tuple[Tensor, list[int]]:
    """Latents `[M, V, *shape]` of the images that can be read, and their numbers.

    Raises:
        UserError: no image can be read.
    """
    path, flip = pictures.wanted.path, pictures.wanted.flip
    pixels = readable(pictures.rows, path, side=2 * max(denoising.size))

    def batches() -> Iterator[tuple[list[int], Tensor]]:
        for indices, images in in_batches(pixels, min(AT_ONCE, at_once)):
            yield indices, _cut(images, *denoising.size)

    found, kept = _encoded(file, [pictures.files, flip], denoising, batches(), flip)
    if not len(kept):
        raise UserError(f"{path}: holds no image that can be read")
    return found, kept


def of_the_model(
    recipe: DenoisingTraining, denoising: Denoising, folder: pathlib.Path, tell: Progress
) -> dict[str, Examples]:
    """The term of prior preservation, if a recipe has one: images that the model itself draws.

    Args:
        recipe: whose `prior` says what is drawn.
        denoising: the model.
        folder: of the run, in which the images are kept.
        tell: as of `drawn`.
    """
    if (prior := recipe.prior) is None:
        return {}
    prompts = [prior.prompts[i % len(prior.prompts)] for i in range(prior.images)]
    found = drawn(prompts, recipe, denoising, folder / "prior.safetensors", "prior", tell)
    return {"prior": Examples(found, prompts, prior.weight)}


def drawn(
    prompts: list[str],
    recipe: DenoisingTraining,
    denoising: Denoising,
    file: pathlib.Path,
    purpose: str,
    tell: Progress,
) -> Tensor:
    """Latents `[M, 1, *shape]` of images that the model draws of M prompts, kept in a file.

    Args:
        prompts: M texts.
        recipe: whose seed decides the noise.
        denoising: the model.
        file: in which they are kept.
        purpose: by which images of the same prompts and seed differ.
        tell: called with (0, `{"drawn": n}`) before the first image and after each batch.
    """
    seed, at_once = recipe.seed, min(AT_ONCE, recipe.at_once)
    rows = [
        (Prompt(text, text, purpose, "train"), image_seed(purpose, seed, text, i))
        for i, text in enumerate(prompts)
    ]

    def batches() -> Iterator[tuple[list[int], Tensor]]:
        done = 0
        tell(0, {"drawn": done})
        for batch, images in draw(denoising.diffusion, rows, at_once=at_once):
            yield list(range(done, done + len(batch))), images
            done += len(batch)
            tell(0, {"drawn": done})

    what = [prompts, seed, denoising.diffusion.settings.model_dump(mode="json")]
    return _encoded(file, what, denoising, batches(), flip=False)[0]


def _cut(images: Tensor, height: int, width: int) -> Tensor:
    """Images resized until they cover the size, and the middle of them."""
    scale = max(height / images.shape[-2], width / images.shape[-1])
    if scale != 1:
        size = [
            max(round(x * scale), least)
            for x, least in zip(images.shape[-2:], (height, width), strict=True)
        ]
        images = interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def _encoded(
    path: pathlib.Path,
    what: Any,
    denoising: Denoising,
    batches: Iterator[tuple[list[int], Tensor]],
    flip: bool,
) -> tuple[Tensor, list[int]]:
    """Latents of images and their numbers: of the file if it is of just these, else encoded."""
    key = digest_of([what, denoising.diffusion.source, list(denoising.shape), denoising.size])
    if path.is_file():
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("of") == key:
                return file.get_tensor("latents"), file.get_tensor("numbers").tolist()
    numbers, latents = [], []
    for indices, images in batches:
        both = [images, images.flip(-1)] if flip else [images]
        made = [encode(denoising.diffusion.pipe, x, denoising.shape).cpu() for x in both]
        latents.append(torch.stack(made, 1))
        numbers += indices
    order = torch.tensor(numbers).argsort() if numbers else torch.zeros(0, dtype=torch.long)
    found = torch.cat(latents)[order].contiguous() if latents else torch.zeros(0)
    kept = torch.tensor(numbers, dtype=torch.long)[order]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        save_file({"latents": found, "numbers": kept}, temporary, metadata={"of": key})
    return found, kept.tolist()
