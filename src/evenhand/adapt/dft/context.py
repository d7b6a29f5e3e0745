"""What direct fine-tuning works with.

The model and what is trained of it, its judge, the features to keep, the processes.
"""

import pathlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evenhand.adapt.dft.faces import FaceSpace
from evenhand.adapt.dft.losses import Perceived
from evenhand.adapt.dft.plan import Plan
from evenhand.adapt.dft.references import References
from evenhand.core.errors import UserError
from evenhand.devices import resolve_dtype
from evenhand.diffusion.adapters import save_adapter
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.diffusion.references import save_references
from evenhand.diffusion.tokens import cut_short
from evenhand.diffusion.trainable import Trainable, attach
from evenhand.features.networks import load_features
from evenhand.judges.base import Judge, answers
from evenhand.judges.registry import load_judge
from evenhand.recipes.lora import SoftTokens
from evenhand.training.description import description
from evenhand.training.optimizer import CAUSE
from evenhand.training.run_directory import machine


def _warn_of_cut(diffusion: Diffusion, plan: Plan) -> None:
    """Warns of training prompts whose end the model never sees."""
    if cut := cut_short(diffusion, (p.text for p in [*plan.neutral, *plan.explicit])):
        warnings.warn(
            f"{len(cut)} prompts are longer than the model's text encoder reads, such as "
            f"{cut[0]!r}: it never sees their ends; shorten them",
            stacklevel=2,
        )


@dataclass(frozen=True)
class Context:
    """What every step works with."""

    diffusion: Diffusion
    trainable: Trainable
    classifier: Judge
    features: list[tuple[float, Callable[[Tensor], Tensor]]]
    references: References
    faces: FaceSpace | None
    accelerator: Any

    @classmethod
    def load(cls, plan: Plan, folder: pathlib.Path, accelerator: Any) -> "Context":
        """Loads all of it.

        Raises:
            UserError: what cannot be loaded, or does not fit together.
        """
        recipe, model = plan.recipe, plan.model
        dtype = resolve_dtype(recipe.dtype or model.dtype, accelerator.device)
        diffusion = load_diffusion(
            model.model_copy(update={"dtype": dtype}), device=str(accelerator.device)
        )
        classifier = load_judge(plan.judge, device=accelerator.device)
        images, processes = recipe.prompts_per_step * recipe.images, accelerator.num_processes
        if processes > images:
            raise UserError(
                f"{processes} processes cannot share {images} images a step: start fewer, or "
                "raise images"
            )
        trainable = attach(diffusion, recipe.trained, seed=recipe.seed)
        _warn_of_cut(diffusion, plan)
        kept = folder / "references" if recipe.preservation.seeds else None
        features = []
        if recipe.preservation.weight:
            features = load_features(
                recipe.preservation.features, classifier.features, device=accelerator.device
            )
        references = References(kept, diffusion, trainable, at_once=recipe.gradient.batch)
        faces = (
            FaceSpace(recipe.realism, classifier, device=accelerator.device)
            if recipe.realism.weight
            else None
        )
        return cls(diffusion, trainable, classifier, features, references, faces, accelerator)

    def save(self, folder: pathlib.Path, name: str, plan: Plan) -> None:
        """Writes the adapter as it is now, and reference images.

        Raises:
            UserError: the model draws no finite image: weights grew until it computes nothing.
        """
        recipe = plan.recipe
        self._refuse_diverged(plan, folder)
        trained = recipe.trained
        token = {"token": trained.token} if isinstance(trained, SoftTokens) else {}
        save_adapter(
            folder,
            self.trainable.file,
            self.trainable.state(),
            {
                **description(self.diffusion.source, name, recipe),
                **token,
                "classifier": {"name": self.classifier.name, "digest": self.classifier.digest},
            },
        )
        save_references(folder, self.diffusion, plan.neutral, recipe.seed, machine())

    def _refuse_diverged(self, plan: Plan, where: pathlib.Path) -> None:
        """Draws an image in the fewest steps that the recipe samples in; it must be finite."""
        recipe, text = plan.recipe, plan.neutral[0].text
        image = self.diffusion.sample(
            [text], [recipe.seed], num_inference_steps=min(recipe.num_inference_steps)
        )
        if not image.isfinite().all():
            raise UserError(
                f"{where}: the model draws no finite image with what was trained, so nothing is "
                f"written; {CAUSE}"
            )

    def share(self, n: int) -> Tensor:
        """The rows of a batch of n that are this process's."""
        return torch.arange(self.accelerator.process_index, n, self.accelerator.num_processes)

    def total(self, value: Tensor) -> Tensor:
        """A tensor summed over the processes."""
        return self.accelerator.reduce(value, "sum")

    def gather(self, rows: Tensor, values: Tensor, n: int) -> Tensor:
        """The values `[n, ...]` of all rows, from every process's own."""
        whole = values.new_zeros(n, *values.shape[1:])
        whole[rows] = values
        return self.total(whole)

    def perceive(self, rows: Tensor, images: Tensor, n: int) -> Perceived:
        """What is perceived in the whole batch of n; this process holds some rows' images."""
        if not images.isfinite().all():
            raise UserError(
                "the model draws no finite image with what is trained (or is damaged itself), so "
                f"nothing is written; {CAUSE}"
            )
        found = answers(self.classifier, images)
        probs = {
            a: self.gather(rows, p, n)
            for a, p in found.probs.items()
            if a in self.classifier.attributes
        }
        return Perceived(probs, self.gather(rows, found.seen.float(), n) > 0.5)
