"""The losses of direct fine-tuning: towards target classes, and near the frozen model's images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evenhand.adapt.dft.batches import Batch
from evenhand.adapt.dft.targets import Assignment, assign
from evenhand.core.attributes import Attribute
from evenhand.judges.base import Predictions
from evenhand.recipes.dft import Dft


@dataclass(frozen=True)
class Perceived:
    """What is perceived in all N images of a step.

    Attributes:
        probs: `{attribute: [N, K]}`, rows sum to 1.
        seen: `[N]` bool.
    """

    probs: dict[str, Tensor]
    seen: Tensor

    def arrays(self) -> dict[str, NDArray]:
        """The probabilities as float64 arrays."""
        return {a: p.cpu().double().numpy() for a, p in self.probs.items()}


@dataclass(frozen=True)
class Wish:
    """What a step asks of its N images.

    Target classes, and which must stay as the frozen model draws them.

    Attributes:
        targets: by attribute.
        stays: `[N]` bool: nothing about the image has to change.
        sure: `[N]` least probability of the classes perceived in the frozen model's image, over its
            attributes with a target.
    """

    targets: dict[str, Assignment]
    stays: Tensor
    sure: Tensor

    def where_changed(self, factor: float, rows: Tensor) -> Tensor:
        """`[n]`: 1 where nothing has to change, the factor elsewhere."""
        return torch.where(self.stays[rows.to(self.stays.device)], 1.0, factor)


def wish_of(
    recipe: Dft,
    known: dict[str, Attribute],
    batch: Batch,
    now: Perceived,
    before: Perceived,
    rng: np.random.Generator,
) -> Wish:
    """Targets of the neutral images by transport, of the explicit ones as their prompt says.

    And what may stay.

    An image may stay where the frozen model's image was seen, every attribute of its group has a
    target, and was perceived as that before.

    Args:
        recipe: the settings.
        known: the classifier's attributes by name.
        batch: the N images.
        now: what is perceived in them.
        before: what is perceived in the frozen model's images.
        rng: source of the target's draws.
    """
    n = len(batch.prompts)
    targets = {a: Assignment(np.zeros(n, dtype=int), np.zeros(n, dtype=bool)) for a in known}
    stays, sure = before.seen.cpu().numpy().copy(), np.ones(n)
    probs, seen = now.arrays(), now.seen.cpu().numpy()
    earlier = before.arrays()

    def want(a: str, rows: NDArray[np.int64], assignment: Assignment) -> None:
        targets[a].classes[rows], targets[a].known[rows] = assignment.classes, assignment.known
        stays[rows] &= assignment.known & (earlier[a][rows].argmax(-1) == assignment.classes)
        sure[rows] = np.minimum(sure[rows], earlier[a][rows].max(-1))

    for group in batch.groups:
        found = assign(
            {a: probs[a][group.rows] for a in group.target.attributes},
            seen[group.rows],
            group.target,
            known,
            draws=recipe.alignment.draws,
            confidence=recipe.alignment.confidence,
            rng=rng,
        )
        for a, assignment in found.items():
            want(a, group.rows, assignment)
    for i, prompt in enumerate(batch.prompts):
        for a in known.keys() & prompt.states.keys():
            said = np.array([known[a].classes.index(prompt.states[a])])
            want(a, np.array([i]), Assignment(said, np.ones(1, dtype=bool)))
    device = now.seen.device
    return Wish(
        {a: t for a, t in targets.items() if t.known.any()},
        torch.as_tensor(stays, device=device),
        torch.as_tensor(sure, device=device),
    )


def alignment_loss(predictions: Predictions, wish: Wish, rows: Tensor) -> Tensor:
    """Sum of the cross-entropies to the target classes, over rows that have one and are seen."""
    loss = next(iter(predictions.logits.values())).new_zeros(())
    for a, targets in wish.targets.items():
        known = torch.as_tensor(targets.known)[rows].to(predictions.seen.device) & predictions.seen
        classes = torch.as_tensor(targets.classes)[rows].to(predictions.seen.device)
        if known.any():
            loss = loss + F.cross_entropy(
                predictions.logits[a][known], classes[known], reduction="sum"
            )
    return loss


def preservation_loss(
    images: Tensor,
    base: Tensor,
    features: list[tuple[float, Callable[[Tensor], Tensor]]],
    keep: Tensor,
) -> Tensor:
    """Sum of the weighted distances from the frozen model's images.

    Args:
        images: `[n, 3, H, W]` in [0, 1].
        base: of the frozen model, the same shape.
        features: (weight, function to `[n, D]` or to images); one minus the cosine, or the mean
            absolute pixel difference.
        keep: `[n]` factor of each image.
    """
    loss = images.new_zeros(())
    for weight, feature in features:
        with torch.no_grad():
            wanted = feature(base)
        found = feature(images)
        distance = (
            (found - wanted).abs().mean((1, 2, 3))
            if found.ndim == 4
            else 1 - F.cosine_similarity(found, wanted)
        )
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
    inside = ((y >= top) & (y < bottom))[:, None, :, None] & ((x >= left) & (x < right))[
        :, None, None, :
    ]
    weight = torch.where(inside, factors[:, None, None, None], 1.0)
    return images * weight + (images * (1 - weight)).detach()


def realism_loss(faces: Tensor, own: Tensor, kept: Tensor, bank: Tensor | None) -> Tensor:
    """Sum of one minus the cosine to the frozen model's face, or to the nearest real one.

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
