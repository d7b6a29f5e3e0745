"""The training loop of direct fine-tuning.

Shen et al., ICLR 2024 (arXiv 2311.07604): sections 4.1 (targets and alignment loss), 4.2 (adjusted
gradient), 4.3 (preservation). What differs: the gradient comes by record and replay
(`evenhand.diffusion.replay`) from the stock pipeline, so that images trained on are those users
get; a random part of the denoiser calls may be replayed; the reference images of the frozen model
are kept for a pool of seeds. Several processes share the images of a step.
"""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
from safetensors.torch import load_file

from evenhand.adapt.dft.batches import draw, neutral_prompts
from evenhand.adapt.dft.census import Census
from evenhand.adapt.dft.context import Context
from evenhand.adapt.dft.gradient import gradient_of_step
from evenhand.adapt.dft.plan import Plan, plan
from evenhand.core.adapters import LORA, find_adapter
from evenhand.core.resources import one_spelling
from evenhand.devices import default_device, resolve_dtype
from evenhand.diffusion.adapters import average_lora, save_adapter
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.references import merge_lora, save_references
from evenhand.recipes.dft import Dft
from evenhand.training.precision import settled
from evenhand.training.processes import logged, training
from evenhand.training.run_directory import Progress, machine
from evenhand.training.steps import Steps

CUTS = (
    "gradient.batch",
    "gradient.offload",
    "gradient.at_once",
    "checkpoint_every",
    "save_every",
)  # only cut the work up


def finetune(
    recipe: Dft, folder: str | os.PathLike, *, name: str = "", progress: Progress | None = None
) -> pathlib.Path:
    """Fine-tunes a model towards a target distribution and writes an adapter.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
        name: of the recipe, for `adapter.json`.
        progress: called after every step of the `recipe.runs` trainings.

    Returns:
        folder of the adapter, `folder/adapter`, which any diffusers loads.

    Raises:
        UserError: impossible settings, another run's folder, gradients that stay non-finite, or
            images that show nothing to judge.
    """
    folder = pathlib.Path(folder)
    recipe = settled(recipe, [folder / "run.json"])
    single = [
        recipe.model_copy(update={"seed": recipe.seed + i, "runs": 1}) for i in range(recipe.runs)
    ]
    found = plan(recipe)
    plans = [dataclasses.replace(found, recipe=one) for one in single]
    settings = {
        **_one_spelling(recipe),
        "texts": {one_spelling(key): s.digest for key, s in found.sets.items()},
    }
    with training(folder, settings, free=CUTS) as accelerator:
        folders = [folder / f"seed-{one.seed}" for one in single] if recipe.runs > 1 else [folder]
        for i, (one, where) in enumerate(zip(plans, folders, strict=True)):
            report = logged(accelerator, progress or (lambda *_: None), i * recipe.steps)
            _run(one, where, name, accelerator, report)
        if accelerator.is_main_process and recipe.runs > 1:
            _save_average(found, folders, folder / "adapter", name)
    return folder / "adapter"


def _save_average(plan: Plan, folders: list[pathlib.Path], folder: pathlib.Path, name: str) -> None:
    """Writes the average of several trainings, and reference images of it.

    These are drawn with the trainings' changes added to the model's own weights, not from the file.
    """
    recipe, states = plan.recipe, [load_file(where / "adapter" / LORA) for where in folders]
    description = find_adapter(folders[0] / "adapter").described
    save_adapter(
        folder,
        LORA,
        average_lora(states),
        {**description, "recipe": name, "settings": recipe.model_dump(mode="json")},
    )
    dtype = resolve_dtype(recipe.dtype or plan.model.dtype, default_device())
    diffusion = load_diffusion(plan.model.model_copy(update={"dtype": dtype}))
    merge_lora(diffusion.pipe, states)
    save_references(folder, diffusion, plan.neutral, recipe.seed, machine())


def _one_spelling(recipe: Dft) -> dict[str, Any]:
    """The recipe's values, the names of the user's files in one spelling."""
    prompts = recipe.prompts
    if isinstance(prompts, str):
        prompts = one_spelling(prompts)
    else:
        prompts = {one_spelling(name): weight for name, weight in prompts.items()}
    return {
        **recipe.model_dump(mode="json"),
        "model": one_spelling(recipe.model),
        "classifier": one_spelling(recipe.classifier),
        "prompts": prompts,
        "lora": recipe.lora and recipe.lora.settings(),
    }


def _run(
    plan: Plan,
    folder: pathlib.Path,
    name: str,
    accelerator: Any,
    report: Progress,
) -> None:
    """One training on every step's neutral prompts; checkpoint, log and adapter go to `folder`."""
    recipe, prompts, explicit = plan.recipe, neutral_prompts(plan), plan.explicit
    stage = Context.load(plan, folder, accelerator)
    against = f"{stage.classifier.name}@{stage.classifier.digest}"
    named = stage.trainable.named
    steps = Steps(recipe, folder, named, against=against, accelerator=accelerator)
    census = Census(steps.log)

    def gradient(step: int) -> tuple[dict[str, float], dict[str, Any]]:
        rng = np.random.default_rng([recipe.seed, step])
        batch = draw(recipe, prompts[step], explicit, step, rng)
        row, perceived = gradient_of_step(recipe, stage, batch, rng)
        census.add(perceived, f"{folder}: step {step}")
        return row, {"perceived": perceived}

    def save(where: pathlib.Path) -> None:
        stage.save(where, name, plan)

    steps.take(gradient, report=report, save=save)
    if accelerator.is_main_process:
        census.warn(
            {p.text: recipe.target_of(p) for p in plan.neutral}, stage.classifier.attributes
        )
    steps.write(save, folder / "adapter")
