"""One step of direct fine-tuning: images, targets, losses; its gradient by record and replay."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from evenhand.adapt.dft.batches import Batch
from evenhand.adapt.dft.census import count
from evenhand.adapt.dft.coefficients import published, squared_norms, uniform
from evenhand.adapt.dft.context import Context
from evenhand.adapt.dft.losses import (
    Perceived,
    Wish,
    alignment_loss,
    preservation_loss,
    realism_loss,
    weigh_inside,
    wish_of,
)
from evenhand.diffusion.replay import Tape, attach, record
from evenhand.judges.base import Judge
from evenhand.recipes.dft import Dft
from evenhand.stats.shares import gap, shares


def gradient_of_step(
    recipe: Dft, stage: Context, batch: Batch, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, Any]]:
    """Computes the gradient of one step and puts it into the `.grad` of the trainable parameters.

    The step has four stages:

    1. Record: the current model samples the images of the batch.
    2. Targets: what is perceived in them decides which images shall change, and into what.
    3. Losses: each part of the batch is compared with its targets and with the frozen model's
       images. This gives the gradient at every output of the denoiser.
    4. Replay: some calls of the denoiser run again with gradients, and take theirs to the weights.

    A part is as many images as fit into memory with their gradients (`gradient.batch`). Where one
    part holds all images, the first recording is used again in stage 3; several parts are recorded
    first, because the targets depend on all of them, and sampled once more each.

    Returns:
        The step's losses and gaps, for the log; and what was perceived, for the census.
    """
    n, denoiser, offload = len(batch.prompts), stage.diffusion.denoiser, recipe.gradient.offload
    mine = stage.share(n)  # of several processes each has a share of the images
    size = recipe.gradient.batch or n
    parts = mine.split(size)
    samplers = [lambda part=part: batch.sample(stage.diffusion, part) for part in parts]

    take = attach if len(parts) == 1 else record
    takes = [take(denoiser, sampler, offload=offload) for sampler in samplers]

    base = stage.references(batch, mine)
    now = stage.perceive(mine, torch.cat([take.images.detach() for take in takes]), n)
    before = stage.perceive(mine, base, n)
    wish = wish_of(recipe, stage.classifier.attributes, batch, now, before, rng)

    losses, taped = torch.zeros(3), []
    for part, sampler, take, images in zip(parts, samplers, takes, base.split(size), strict=True):
        tape = take if isinstance(take, Tape) else attach(denoiser, sampler, take, offload=offload)
        loss, values = _loss(recipe, stage, tape, images, part, wish)
        losses += values / n
        if loss.requires_grad:  # else no target and nothing to preserve: nothing to replay
            taped.append((tape, tape.gradients(loss)))

    _replay(recipe, stage, taped, images=n, count=len(takes[0]), rng=rng)
    losses = stage.total(losses.to(now.seen.device))
    row = {
        "alignment": float(losses[0]),
        "preservation": float(losses[1]),
        **({"realism": float(losses[2])} if stage.faces else {}),
        "seen": float(now.seen.float().mean()),
        **_gaps(stage.classifier, batch, now),
    }
    return row, count(batch, now, stage.classifier.attributes)


def _loss(
    recipe: Dft, stage: Context, tape: Tape, base: Tensor, part: Tensor, wish: Wish
) -> tuple[Tensor, Tensor]:
    """The weighted loss of a part, and the losses it consists of, `[3]`; sums over images."""
    images, found = tape.images, stage.classifier(tape.images)
    near = images
    if found.boxes is not None and recipe.preservation.changed_face < 1:
        inside = wish.where_changed(recipe.preservation.changed_face, part)
        near = weigh_inside(images, found.boxes, torch.where(found.seen, inside, 1.0))
    losses = [
        alignment_loss(found, wish, part),
        preservation_loss(
            near, base, stage.features, wish.where_changed(recipe.preservation.changed, part)
        ),
        images.new_zeros(()),
    ]
    if stage.faces:
        kept = wish.stays[part] & (wish.sure[part] >= recipe.realism.confidence)
        losses[2] = realism_loss(
            *stage.faces.pair(images, found, base, stage.classifier),
            kept[found.seen],
            stage.faces.bank,
        )
    weights = (recipe.alignment.weight, recipe.preservation.weight, recipe.realism.weight)
    return torch.stack([w * x for w, x in zip(weights, losses, strict=True)]).sum(), torch.stack(
        losses
    ).detach().cpu()


def _replay(
    recipe: Dft,
    stage: Context,
    taped: list[tuple[Tape, list]],
    *,
    images: int,
    count: int,
    rng: np.random.Generator,
) -> None:
    """Replays the same random calls of every part, with the same factors in every process.

    The gradient is the mean over the step's images. The sum is divided at the end, because small
    gradients would vanish in half precision.
    """
    calls = rng.permutation(count)[: recipe.gradient.calls].tolist()
    factors = None
    if recipe.gradient.rescale == "uniform":
        norms = (
            torch.stack([squared_norms(g) for _, g in taped]).sum(0)
            if taped
            else torch.zeros(count, dtype=torch.float64)
        )
        factors = uniform(stage.total(norms.to(stage.accelerator.device)).cpu())
    elif recipe.gradient.rescale == "published" and taped:
        factors = published(stage.diffusion.pipe.scheduler, taped[0][0])
    for tape, gradients in taped:
        tape.replay(gradients, calls=calls, factors=factors, at_once=recipe.gradient.at_once)
    for p in stage.trainable.parameters:
        p.grad = stage.total(torch.zeros_like(p) if p.grad is None else p.grad) / images


def _gaps(classifier: Judge, batch: Batch, now: Perceived) -> dict[str, float]:
    """The gap of each attribute on the step's neutral images: mean over their groups."""
    found: dict[str, list[float]] = {}
    probs, seen = now.arrays(), now.seen.cpu().numpy()
    for group in batch.groups:
        rows = group.rows[seen[group.rows]]
        for a in group.target.attributes:
            counts = np.bincount(
                probs[a][rows].argmax(-1), minlength=len(classifier.attributes[a].classes)
            )
            part = counts[classifier.attributes[a].contrasted]
            if part.sum():
                found.setdefault(f"gap/{a}", []).append(float(gap(shares(part))))
    return {name: float(np.mean(values)) for name, values in found.items()}
