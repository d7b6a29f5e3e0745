"""How images pass, and what is made of their losses: the arguments of `fit`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.classify.arms import Stage
from evenhand.classify.network import Classifier, Outputs
from evenhand.classify.objectives import function_of
from evenhand.devices import default_device
from evenhand.images.augmentation import cropped
from evenhand.recipes.classify import Classify
from evenhand.training.fit import Batch, Loss, Passes


def views_of(recipe: Classify, stage: Stage) -> int:
    """How often each image of a batch stands in it: several times for a contrastive loss."""
    return recipe.contrast.views if stage.contrast else 1


def passes_of(recipe: Classify, weights: Tensor | None = None, *, views: int = 1) -> Passes:
    """How the recipe's images pass: in random order, or drawn in proportion to the weights.

    Args:
        recipe: says how images are changed.
        weights: `[N]` of the rows.
        views: times that each image of a batch stands in it, each changed by itself.
    """
    device, how = default_device(), recipe.augment

    def drawn(generator: torch.Generator) -> list[int]:
        assert weights is not None
        return torch.multinomial(
            weights, len(weights), replacement=True, generator=generator
        ).tolist()

    def augment(batch: Batch, generator: torch.Generator) -> Batch:
        several = {key: torch.cat([value] * views) for key, value in batch.items()}
        images = cropped(
            several["images"], shift=how.shift, area=how.area, flip=how.flip, generator=generator
        )
        return {**several, "images": images}

    return Passes(
        batch=recipe.batch,
        seed=recipe.seed,
        sampler=None if weights is None else drawn,
        augment=augment,
        dtype=recipe.dtype,
        device=device,
    )


def loss_of(model: Classifier, stage: Stage, recipe: Classify) -> Loss:
    """The stage's objective of the cross-entropies of a batch's images."""
    objective = function_of(stage.objective)

    def entropies(logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(
            logits.float(), batch["labels"], reduction="none", label_smoothing=recipe.smoothing
        )

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        losses = entropies(outputs.logits, batch)
        if outputs.biased is not None:
            losses = torch.stack([losses, entropies(outputs.biased, batch)], 1)
        value, state = objective(losses, batch["groups"], model.state)
        model.state.copy_(state.detach())
        if stage.contrast:
            value = value + recipe.contrast.weight * contrast(
                outputs.features, batch["labels"], recipe.contrast.temperature
            )
        return value

    return loss


def contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss of a batch (Khosla et al., NeurIPS 2020, equation 2).

    Each image is drawn to the others of its class, its own other view among them, and pushed from
    the rest. The features themselves are compared instead of a projection.

    Args:
        features: `[N, D]`.
        labels: `[N]`; an image whose class is alone in the batch adds nothing.
        temperature: divides the cosines.
    """
    cosines = F.normalize(features, dim=1) @ F.normalize(features, dim=1).T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=features.device)
    logs = cosines - cosines.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    alike = (labels[:, None] == labels) & ~itself
    counts = alike.sum(1)
    means = (logs * alike).sum(1) / counts.clamp(min=1)
    return -means[counts > 0].sum() / max(len(labels), 1)
