"""The losses of direct fine-tuning: towards target classes, and near the frozen model's images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.attributes import Attribute
from evenhand.classifiers import Predictions
from evenhand.config import Dft
from evenhand.dft.batches import Batch
from evenhand.dft.targets import Assignment, assign


@dataclass(frozen=True)
class Wish:
    """What a step asks of its N images: target classes, and how near the frozen model's image each must stay.

    Attributes:
        targets: by attribute.
        keep: `[N]`, 0 to 1.
    """

    targets: dict[str, Assignment]
    keep: Tensor


def wish_of(recipe: Dft, known: dict[str, Attribute], batch: Batch, probs: dict[str, Tensor], seen: Tensor,
            before: dict[str, Tensor], rng: np.random.Generator) -> Wish:
    """Targets of the neutral images by transport, of the explicit ones as their prompt says; and what must be kept.

    Args:
        recipe: the settings.
        known: the classifier's attributes by name.
        batch: the N images.
        probs: `{attribute: [N, K]}` perceived in them.
        seen: `[N]` bool.
        before: `{attribute: [N, K]}` perceived in the frozen model's images.
        rng: source of the target's draws.
    """
    n = len(batch.prompts)
    attributes = sorted({a for group in batch.groups for a in group.target.attributes})
    targets = {a: Assignment(np.zeros(n, dtype=int), np.zeros(n, dtype=bool)) for a in attributes}
    arrays, eyes = {a: probs[a].double().cpu().numpy() for a in attributes}, seen.cpu().numpy()
    for group in batch.groups:
        found = assign({a: x[group.rows] for a, x in arrays.items()}, eyes[group.rows], group.target, known,
                       draws=recipe.alignment.draws, confidence=recipe.alignment.confidence, rng=rng)
        for a, assignment in found.items():
            targets[a].classes[group.rows], targets[a].known[group.rows] = assignment.classes, assignment.known
    for i, prompt in enumerate(batch.prompts):
        for a in targets.keys() & prompt.states.keys():
            targets[a].classes[i], targets[a].known[i] = known[a].classes.index(prompt.states[a]), True
    stays = np.ones(n, dtype=bool)
    neutral = np.concatenate([group.rows for group in batch.groups])
    for a, t in targets.items():
        stays[neutral] &= (t.known & (before[a].argmax(-1).cpu().numpy() == t.classes))[neutral]
    keep = np.where(stays, 1.0, recipe.preservation.changed)
    return Wish(targets, torch.as_tensor(keep, dtype=torch.float32, device=seen.device))


def alignment_loss(predictions: Predictions, wish: Wish, rows: Tensor) -> Tensor:
    """Sum of the cross-entropies to the target classes, over the rows that have one and are seen now."""
    loss = next(iter(predictions.logits.values())).new_zeros(())
    for a, targets in wish.targets.items():
        known = torch.as_tensor(targets.known)[rows].to(predictions.seen.device) & predictions.seen
        classes = torch.as_tensor(targets.classes)[rows].to(predictions.seen.device)
        if known.any():
            loss = loss + F.cross_entropy(predictions.logits[a][known], classes[known], reduction="sum")
    return loss


def preservation_loss(images: Tensor, base: Tensor, features: list[tuple[float, Callable[[Tensor], Tensor]]],
                      keep: Tensor) -> Tensor:
    """Sum of the weighted distances from the frozen model's images.

    Args:
        images: `[n, 3, H, W]` in [0, 1].
        base: of the frozen model, the same shape.
        features: (weight, function to `[n, D]` or to images); one minus the cosine, or the mean absolute pixel difference.
        keep: `[n]` factor of each image.
    """
    loss = images.new_zeros(())
    for weight, feature in features:
        with torch.no_grad():
            wanted = feature(base)
        found = feature(images)
        distance = (found - wanted).abs().mean((1, 2, 3)) if found.ndim == 4 else 1 - F.cosine_similarity(found, wanted)
        loss = loss + weight * (keep * distance).sum()
    return loss
