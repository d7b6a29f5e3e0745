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
from evenhand.diffusion.replay import Recording, Tape, attach, record
from evenhand.judges.base import Judge
from evenhand.recipes.dft import Dft
from evenhand.stats.shares import gap, shares


def gradient_of_step(
    recipe: Dft, stage: Context, batch: Batch, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, Any]]:
    """One step's gradient, put into the `.grad` of the trainable parameters.

    Returns the step's numbers and what was perceived.

    1. Record: sample the images with the current model. 2. Targets from what is perceived in them.
       3. For each part of
    the batch: attach, losses to targets and to the frozen model's images, gradient at the
    denoiser's outputs. 4. Replay some of the denoiser calls. A batch of one part is recorded and
    attached in one pass.
    """
    n, denoiser = len(batch.prompts), stage.diffusion.denoiser
    mine = stage.share(n)
    parts = mine.split(recipe.gradient.batch or n)
    runs = [lambda part=part: batch.sample(stage.diffusion, part) for part in parts]
    takes = [
        (record if len(runs) > 1 else attach)(denoiser, run, offload=recipe.gradient.offload)
        for run in runs
    ]
    base = stage.references(batch, mine)
    now = stage.perceive(mine, torch.cat([take.images.detach() for take in takes]), n)
    wish = wish_of(
        recipe, stage.classifier.attributes, batch, now, stage.perceive(mine, base, n), rng
    )
    losses, taped = torch.zeros(3), []
    for part, run, take, images in zip(
        parts, runs, takes, base.split(recipe.gradient.batch or n), strict=True
    ):
        tape = (
            attach(denoiser, run, take, offload=recipe.gradient.offload)
            if isinstance(take, Recording)
            else take
        )
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

    Averages over the images.

    The division comes last: gradients in half precision are small enough as they are.
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
