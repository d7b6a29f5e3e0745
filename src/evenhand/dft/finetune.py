"""The training loop of direct fine-tuning.

Shen et al., ICLR 2024 (arXiv 2311.07604): sections 4.1 (targets and alignment loss), 4.2 (adjusted gradient), 4.3
(preservation). What differs: the gradient comes by record and replay (`evenhand.replay`) from the stock pipeline, so
that images trained on are those users get; a random part of the denoiser calls may be replayed; the reference images
of the frozen model are kept for a pool of seeds. Several processes share the images of a step.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from evenhand.adapters import LORA, average_lora, describe_adapter, save_adapter
from evenhand.checkpoints import save_state
from evenhand.classifiers import AttributeClassifier
from evenhand.dft.batches import Batch, draw, explicit_prompts, neutral_prompts, prompt_sets
from evenhand.dft.census import Census, count
from evenhand.dft.coefficients import published, squared_norms, uniform
from evenhand.dft.losses import Perceived, Wish, alignment_loss, preservation_loss, realism_loss, weigh_inside, wish_of
from evenhand.dft.stage import Stage
from evenhand.optimizer import Optimizer
from evenhand.prompts import Prompt
from evenhand.recipes import Dft
from evenhand.replay import Recording, Tape, attach, record
from evenhand.runs import cut_log, log_line, training
from evenhand.statistics import gap, shares

CUTS = ("gradient.batch", "gradient.offload", "gradient.at_once", "checkpoint_every", "save_every")  # only cut the work up
Progress = Callable[[int, dict[str, float]], None]  # (steps done, numbers of the step)


def finetune(recipe: Dft, folder: str | os.PathLike, *, name: str = "", progress: Progress | None = None) -> pathlib.Path:
    """Fine-tunes a model towards a target distribution and writes an adapter.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
        name: of the recipe, for `adapter.json`.
        progress: called after every step of the `recipe.runs` trainings.

    Returns:
        folder of the adapter, `folder/adapter`, which any diffusers loads.

    Raises:
        UserError: impossible settings, another run's folder, gradients that stay non-finite, or images that show nothing to judge.
    """
    folder = pathlib.Path(folder)
    single = [recipe.model_copy(update={"seed": recipe.seed + i, "runs": 1}) for i in range(recipe.runs)]
    prompts = [neutral_prompts(one) for one in single]
    settings = {**recipe.model_dump(mode="json"), "texts": {key: s.digest for key, s in prompt_sets(recipe).items()}}
    with training(folder, settings, free=CUTS) as accelerator:
        def report(done: int, row: dict[str, float]) -> None:
            accelerator.log(row, step=done - 1)
            if progress:
                progress(done, row)

        folders = [folder / f"seed-{one.seed}" for one in single] if recipe.runs > 1 else [folder]
        for i, (one, texts, where) in enumerate(zip(single, prompts, folders, strict=True)):
            _run(one, texts, where, name, accelerator, lambda done, row, i=i: report(i * recipe.steps + done, row))
        if accelerator.is_main_process and recipe.runs > 1:
            average = average_lora([load_file(where / "adapter" / LORA) for where in folders])
            description = describe_adapter(str(folders[0] / "adapter"))
            save_adapter(folder / "adapter", LORA, average,
                         {**description, "recipe": name, "settings": recipe.model_dump(mode="json")})
    return folder / "adapter"


def _run(recipe: Dft, prompts: list[list[Prompt]], folder: pathlib.Path, name: str, accelerator: Any, report: Progress) -> None:
    """One training on the neutral prompts of every step, with its checkpoint, log and adapter in `folder`."""
    explicit = explicit_prompts(recipe)
    stage = Stage.load(recipe, folder, explicit, accelerator)
    optimizer = Optimizer(recipe, stage.trainable.parameters)
    classifier = f"{stage.classifier.name}@{stage.classifier.digest}"
    first = optimizer.restore(folder / "checkpoint.pt", classifier)
    if accelerator.is_main_process:
        folder.mkdir(exist_ok=True)
        cut_log(folder / "log.jsonl", first)
    accelerator.wait_for_everyone()  # all read the log
    census = Census(folder / "log.jsonl")
    for step in range(first, recipe.steps):
        rng = np.random.default_rng([recipe.seed, step])
        row, perceived = _gradient(recipe, stage, draw(recipe, prompts[step], explicit, step, rng), rng)
        row["gradient_norm"] = optimizer.step(f"{folder}: step {step}")
        census.add(perceived, f"{folder}: step {step}")
        if accelerator.is_main_process:
            log_line(folder / "log.jsonl", {"step": step, **row, "perceived": perceived})
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
                save_state(folder / "checkpoint.pt", {"step": step + 1, "classifier": classifier, **optimizer.state()})
            if recipe.save_every and (step + 1) % recipe.save_every == 0:
                stage.save(folder / "adapters" / f"step-{step + 1}", optimizer, name, recipe)
            report(step + 1, row)
    if accelerator.is_main_process:
        census.warn([recipe.target, *recipe.targets.values()], stage.classifier.attributes)
        stage.save(folder / "adapter", optimizer, name, recipe)


def _gradient(recipe: Dft, stage: Stage, batch: Batch, rng: np.random.Generator
              ) -> tuple[dict[str, float], dict[str, Any]]:
    """One step's gradient, put into the `.grad` of the trainable parameters; returns the step's numbers and what was perceived.

    1. Record: sample the images with the current model. 2. Targets from what is perceived in them. 3. For each part of
    the batch: attach, losses to targets and to the frozen model's images, gradient at the denoiser's outputs. 4. Replay
    some of the denoiser calls. A batch of one part is recorded and attached in one pass.
    """
    n, denoiser = len(batch.prompts), stage.diffusion.denoiser
    mine = stage.share(n)
    parts = mine.split(recipe.gradient.batch or n)
    runs = [lambda part=part: batch.sample(stage.diffusion, part) for part in parts]
    takes = [(record if len(runs) > 1 else attach)(denoiser, run, offload=recipe.gradient.offload) for run in runs]
    base = stage.references(batch, mine)
    now = stage.perceive(mine, torch.cat([take.images.detach() for take in takes]), n)
    wish = wish_of(recipe, stage.classifier.attributes, batch, now, stage.perceive(mine, base, n), rng)
    losses, taped = torch.zeros(3), []
    for part, run, take, images in zip(parts, runs, takes, base.split(recipe.gradient.batch or n), strict=True):
        tape = attach(denoiser, run, take, offload=recipe.gradient.offload) if isinstance(take, Recording) else take
        loss, values = _loss(recipe, stage, tape, images, part, wish)
        losses += values / n
        if loss.requires_grad:  # else no target and nothing to preserve: nothing to replay
            taped.append((tape, tape.gradients(loss)))
    _replay(recipe, stage, taped, images=n, count=len(takes[0]), rng=rng)
    losses = stage.total(losses.to(now.seen.device))
    row = {"alignment": float(losses[0]), "preservation": float(losses[1]),
           **({"realism": float(losses[2])} if stage.faces else {}), "seen": float(now.seen.float().mean()),
           **_gaps(stage.classifier, batch, now)}
    return row, count(batch, now, stage.classifier.attributes)


def _loss(recipe: Dft, stage: Stage, tape: Tape, base: Tensor, part: Tensor, wish: Wish) -> tuple[Tensor, Tensor]:
    """The weighted loss of a part, and the losses it consists of, `[3]`; sums over images."""
    images, found = tape.images, stage.classifier(tape.images)
    near = images
    if found.boxes is not None and recipe.preservation.changed_face < 1:
        inside = wish.where_changed(recipe.preservation.changed_face, part)
        near = weigh_inside(images, found.boxes, torch.where(found.seen, inside, 1.0))
    losses = [alignment_loss(found, wish, part),
              preservation_loss(near, base, stage.features, wish.where_changed(recipe.preservation.changed, part)),
              images.new_zeros(())]
    if stage.faces:
        kept = wish.stays[part] & (wish.sure[part] >= recipe.realism.confidence)
        losses[2] = realism_loss(*stage.faces.pair(images, found, base, stage.classifier), kept[found.seen], stage.faces.bank)
    weights = (recipe.alignment.weight, recipe.preservation.weight, recipe.realism.weight)
    return torch.stack([w * x for w, x in zip(weights, losses, strict=True)]).sum(), torch.stack(losses).detach().cpu()


def _replay(recipe: Dft, stage: Stage, taped: list[tuple[Tape, list]], *, images: int, count: int,
            rng: np.random.Generator) -> None:
    """Replays the same random calls of every part, with the same factors in every process; averages over the images.

    The division comes last: gradients in half precision are small enough as they are.
    """
    calls = rng.permutation(count)[: recipe.gradient.calls].tolist()
    factors = None
    if recipe.gradient.rescale == "uniform":
        norms = torch.stack([squared_norms(g) for _, g in taped]).sum(0) if taped else torch.zeros(count, dtype=torch.float64)
        factors = uniform(stage.total(norms.to(stage.accelerator.device)).cpu())
    elif recipe.gradient.rescale == "published" and taped:
        factors = published(stage.diffusion.pipe.scheduler, taped[0][0])
    for tape, gradients in taped:
        tape.replay(gradients, calls=calls, factors=factors, at_once=recipe.gradient.at_once)
    for p in stage.trainable.parameters:
        p.grad = stage.total(torch.zeros_like(p) if p.grad is None else p.grad) / images


def _gaps(classifier: AttributeClassifier, batch: Batch, now: Perceived) -> dict[str, float]:
    """The gap of each attribute on the step's neutral images: mean over their groups."""
    found: dict[str, list[float]] = {}
    probs, seen = now.arrays(), now.seen.cpu().numpy()
    for group in batch.groups:
        rows = group.rows[seen[group.rows]]
        for a in group.target.attributes:
            counts = np.bincount(probs[a][rows].argmax(-1), minlength=len(classifier.attributes[a].classes))
            part = counts[classifier.attributes[a].contrasted]
            if part.sum():
                found.setdefault(f"gap/{a}", []).append(float(gap(shares(part))))
    return {name: float(np.mean(values)) for name, values in found.items()}
