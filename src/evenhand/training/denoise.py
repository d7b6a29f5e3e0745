"""Training of a diffusion model on images by the denoising loss."""

import pathlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.trainable import Trainable
from evenhand.recipes.denoising import DenoisingTraining
from evenhand.training.checkpoints import step_generator
from evenhand.training.examples import Examples
from evenhand.training.run_directory import Progress
from evenhand.training.steps import Save, Steps


@dataclass(frozen=True)
class Probing:
    """The first steps of a training, in which a part of what is trained stays as it is.

    Attributes:
        steps: so many.
        names: of the parameters that they train.
    """

    steps: int
    names: Collection[str]


def denoise(
    denoising: Denoising,
    trainable: Trainable,
    terms: Mapping[str, Examples],
    recipe: DenoisingTraining,
    folder: pathlib.Path,
    *,
    accelerator: Any,
    report: Progress,
    probing: Probing | None = None,
    save: Save | None = None,
) -> Steps:
    """Trains on batches of every term's examples; continues the folder's checkpoint.

    Every draw (order of the images, step of the grid, noise, empty captions) is a function of the
    recipe's seed, the training step and the image's place in its batch. So a training that was cut
    ends in the same weights, and several processes, which share the groups of images that run
    together, end in those of one.

    Args:
        denoising: the pipeline's loss.
        trainable: what is trained.
        terms: examples by what their loss is called in the log; a batch of each is drawn a step.
        recipe: steps, batch, grid and optimisation.
        folder: of the run; holds checkpoint.pt and log.jsonl.
        accelerator: of the processes that train together.
        report: as of `Steps.take`.
        probing: first steps that train a part only.
        save: as of `Steps.take`.

    Returns:
        the steps, all taken, whose `write` writes the result.

    Raises:
        UserError: as `Steps` and `Steps.take`.
    """

    def gradient(step: int) -> tuple[dict[str, float], dict[str, Any]]:
        _thaw(trainable, probing, step)
        row = {
            name: _backward(denoising, trainable, examples, recipe, step, name, accelerator)
            for name, examples in terms.items()
        }
        _share_gradients(trainable.parameters, accelerator)
        return row, {}

    source = denoising.diffusion.source
    steps = Steps(recipe, folder, trainable.named, against=source, accelerator=accelerator)
    steps.take(gradient, report=report, save=save)
    return steps


def _thaw(trainable: Trainable, probing: Probing | None, step: int) -> None:
    """Lets gradients reach what a step trains."""
    for name, parameter in trainable.named.items():
        parameter.requires_grad_(not probing or step >= probing.steps or name in probing.names)


def _backward(
    denoising: Denoising,
    trainable: Trainable,
    examples: Examples,
    recipe: DenoisingTraining,
    step: int,
    name: str,
    accelerator: Any,
) -> float:
    """Adds the gradient of a batch's mean loss; returns that loss, of all processes."""
    numbers = _batch(len(examples), examples.batch or recipe.batch, recipe.seed, step, name)
    dropout = recipe.dropout if examples.dropout is None else examples.dropout
    groups = range(0, len(numbers), recipe.at_once)
    total = torch.zeros((), device=accelerator.device)
    for place in groups[accelerator.process_index :: accelerator.num_processes]:
        group = numbers[place : place + recipe.at_once]
        generator = step_generator(recipe.seed, name, step, place)
        latents, dropped, noise = _noisy(examples, group, dropout, generator)
        latents, noise = latents.to(accelerator.device), noise.to(accelerator.device)
        at = grid_step(len(denoising), recipe.early, generator)
        target = _target(denoising, trainable, examples, group, dropped, latents, noise, at)
        losses = denoising.loss(
            _captions(examples.captions, group, dropped), latents, noise, at, target
        )
        if examples.importance is not None:
            losses = losses * examples.importance[group].to(losses.device)
        loss = losses.sum() / len(numbers)
        (examples.weight * loss).backward()
        total += loss.detach()
    return float(accelerator.reduce(total, "sum"))


@torch.no_grad()
def _target(
    denoising: Denoising,
    trainable: Trainable,
    examples: Examples,
    group: list[int],
    dropped: list[bool],
    latents: Tensor,
    noise: Tensor,
    step: int,
) -> Tensor:
    """What a group's prediction shall be: of its images, of the frozen model, or between them."""
    own, teacher = denoising.target(latents, noise, step), examples.teacher
    image, of_noise = denoising.mixture(step)
    if teacher is None or (teacher.gate is not None and of_noise > teacher.gate * image):
        return own
    # where the teacher is asked what the example says, it is asked nothing when that is dropped
    empty = [
        d and teacher.captions[i] == examples.captions[i]
        for i, d in zip(group, dropped, strict=True)
    ]
    noised = denoising.noised(latents, noise, step)
    with (teacher.as_it_was or trainable.frozen)():
        said = denoising.predict(_captions(teacher.captions, group, empty), noised, step)
    if teacher.push:
        said = said + teacher.push(group, noised, step).to(said.dtype)
    return own.lerp(said.to(own.dtype), teacher.share)


def _batch(n: int, batch: int, seed: int, step: int, name: str) -> list[int]:
    """Numbers of a step's examples: every epoch takes each once, in an order of its own."""
    found = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, i = divmod(place, n)
        if not found or i == 0:
            generator = step_generator(seed, name, "order", epoch)
            order = torch.randperm(n, generator=generator).tolist()
        found.append(order[i])
    return found


def _noisy(
    examples: Examples, group: list[int], dropout: float, generator: torch.Generator
) -> tuple[Tensor, list[bool], Tensor]:
    """Latents of a group of examples, whether their captions are left empty, and noise."""
    mirrored = torch.rand(len(group), generator=generator) < 0.5
    dropped = torch.rand(len(group), generator=generator) < dropout
    latents = examples.latents[group, mirrored.long() * (examples.latents.shape[1] - 1)]
    return latents, dropped.tolist(), torch.randn(latents.shape, generator=generator)


def _captions(captions: list[str], group: list[int], dropped: list[bool]) -> list[str]:
    """The captions of a group, some of them left empty."""
    return ["" if d else captions[i] for i, d in zip(group, dropped, strict=True)]


def grid_step(n: int, early: float | None, generator: torch.Generator) -> int:
    """Draws a step of the grid of n; one of its noisier half with the probability `early`."""
    if early is None or n < 2:
        return int(torch.randint(n, (), generator=generator))
    noisier = bool(torch.rand((), generator=generator) < early)
    low, high = (0, n // 2) if noisier else (n // 2, n)
    return int(torch.randint(low, high, (), generator=generator))


def _share_gradients(parameters: list[torch.nn.Parameter], accelerator: Any) -> None:
    """Sums the gradients of all processes."""
    if accelerator.num_processes > 1:
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(gradient, "sum")
