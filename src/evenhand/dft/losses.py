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
    """What a step asks of its N images: target classes, and which must stay as the frozen model draws them.

    Attributes:
        targets: by attribute.
        stays: `[N]` bool: nothing about the image has to change.
        sure: `[N]` least probability of the classes perceived in the frozen model's image.
    """

    targets: dict[str, Assignment]
    stays: Tensor
    sure: Tensor

    def where_changed(self, factor: float, rows: Tensor) -> Tensor:
        """`[n]`: 1 where nothing has to change, the factor elsewhere."""
        return torch.where(self.stays[rows.to(self.stays.device)], 1.0, factor)


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
    sure = torch.stack([before[a].amax(-1) for a in attributes]).amin(0)
    return Wish(targets, torch.as_tensor(stays, device=seen.device), sure)


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


def weigh_inside(images: Tensor, boxes: Tensor, factors: Tensor) -> Tensor:
    """The same images, with the gradient inside a box of each multiplied.

    Args:
        images: `[n, 3, H, W]`.
        boxes: `[n, 4]` pixels: left, top, right, bottom.
        factors: `[n]`.
    """
    x = torch.arange(images.shape[3], device=images.device) + 0.5
    y = torch.arange(images.shape[2], device=images.device) + 0.5
    left, top, right, bottom = (edge[:, None] for edge in boxes.unbind(-1))
    inside = ((y >= top) & (y < bottom))[:, None, :, None] & ((x >= left) & (x < right))[:, None, None, :]
    weight = torch.where(inside, factors[:, None, None, None], 1.0)
    return images * weight + (images * (1 - weight)).detach()


def realism_loss(faces: Tensor, own: Tensor, kept: Tensor, bank: Tensor | None) -> Tensor:
    """Sum of one minus the cosine to the frozen model's face where it is kept, else to the nearest real face of the bank.

    Args:
        faces: embeddings `[n, D]` of the faces now.
        own: of the frozen model's images, the same shape.
        kept: `[n]` bool.
        bank: `[M, D]` unit vectors; faces that are not kept count nothing when None.
    """
    faces, own = F.normalize(faces, dim=-1), F.normalize(own, dim=-1)
    distance = torch.where(kept, 1 - (faces * own).sum(-1), 0.0)
    if bank is not None:
        nearest = bank[(faces.detach() @ bank.T).argmax(-1)]
        distance = torch.where(kept, distance, 1 - (faces * nearest).sum(-1))
    return distance.sum()
