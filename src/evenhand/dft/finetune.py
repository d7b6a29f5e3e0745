"""The training loop of direct fine-tuning: one function, from top to bottom.

Shen et al., ICLR 2024 (arXiv 2311.07604): sections 4.1 (targets and alignment loss), 4.2 (adjusted gradient), 4.3
(preservation). What differs: the gradient comes by record and replay (`evenhand.replay`) from the stock pipeline, so
that images trained on are those users get; a random part of the denoiser calls may be replayed; the reference images
of the frozen model are kept for a pool of seeds.
"""

import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.adapters import attach_lora, component, lora_state, save_adapter
from evenhand.checkpoints import load_state, save_state, step_generator
from evenhand.classifiers import AttributeClassifier, load_classifier
from evenhand.config import Dft, load_model, load_prompts
from evenhand.dft.targets import Assignment, assign
from evenhand.diffusion import Diffusion, load_diffusion
from evenhand.errors import UserError
from evenhand.prompts import Prompt
from evenhand.records import image_seed
from evenhand.replay import Recording, attach, record
from evenhand.runs import cut_log, log_line, open_run, training
from evenhand.statistics import gap, shares

BAD_STEPS = 5  # non-finite losses in a row after which training stops


@dataclass(frozen=True)
class Wish:
    """What a step asks of its N images: target classes, and how near the base model's image each must stay."""

    targets: dict[str, Assignment]
    keep: Tensor  # [N], 0 to 1


def finetune(recipe: Dft, folder: str | os.PathLike, *, name: str = "",
             progress: Callable[[int, dict[str, float]], None] | None = None) -> pathlib.Path:
    """Fine-tunes a model towards a target distribution and writes an adapter.

    Args:
        recipe: the settings.
        folder: run directory; a run of the same recipe in it is continued from its last checkpoint.
        name: of the recipe, for `adapter.json`.
        progress: called after every step with (steps done, numbers of the step).

    Returns:
        folder of the adapter, `folder/adapter`, which any diffusers loads.

    Raises:
        UserError: impossible settings, another run's folder, or losses that stay non-finite.
    """
    prompts = load_prompts(recipe.prompts).prompts(["train"])
    settings = recipe.model_dump(mode="json")
    folder = open_run(folder, settings)
    with training(folder, settings) as accelerator:
        diffusion = load_diffusion(load_model(recipe.model), device=str(accelerator.device))
        classifier = load_classifier(recipe.classifier, device=accelerator.device)
        recipe.target.check(classifier.attributes)
        explicit = load_prompts(recipe.prompts).explicit_prompts(recipe.target.attributes, ["train"])
        parameters = attach_lora(diffusion.pipe, recipe.lora, seed=recipe.seed)
        optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(recipe, step))
        first = _restore(folder, parameters, optimizer, schedule)
        cut_log(folder / "log.jsonl", first)
        references: dict[tuple, Tensor] = {}
        bad = 0
        for step in range(first, recipe.steps):
            rng = np.random.default_rng([recipe.seed, step])
            batch, seeds = _draw_batch(recipe, prompts, explicit, step, rng)
            texts = [prompt.text for prompt in batch]
            sampler = {"num_inference_steps": int(rng.choice(recipe.num_inference_steps))}
            parts = torch.arange(len(batch)).split(recipe.gradient.batch or len(batch))

            def run(part: Tensor, texts: list[str] = texts, seeds: list[int] = seeds, sampler: dict = sampler) -> Tensor:
                return diffusion.call([texts[i] for i in part], [seeds[i] for i in part], **sampler)

            recordings = [record(diffusion.denoiser, lambda part=part: run(part)) for part in parts]
            base = _reference(diffusion, recipe, texts, seeds, sampler, references)
            with torch.no_grad():
                now = classifier(torch.cat([r.images for r in recordings]))
                before = classifier(base).probs
            wish = _wish(recipe, classifier, batch, now.probs, now.seen, before, rng)
            total = {"alignment": 0.0, "preservation": 0.0}
            for part, recording in zip(parts, recordings, strict=True):
                tape = attach(diffusion.denoiser, lambda part=part: run(part), recording)
                losses = _losses(recipe, classifier, tape.images, base[part], part, wish)
                loss = recipe.alignment.weight * losses["alignment"] + recipe.preservation.weight * losses["preservation"]
                if not loss.requires_grad:
                    continue  # no target and nothing to preserve: nothing to replay
                calls = rng.permutation(len(tape.calls))[: recipe.gradient.calls].tolist()
                tape.backward(loss / len(batch), calls=calls, rescale=recipe.gradient.rescale)
                total = {k: total[k] + float(losses[k].detach()) / len(batch) for k in total}
            norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.gradient.clip)
            if torch.isfinite(norm):
                optimizer.step()
                bad = 0
            elif (bad := bad + 1) == BAD_STEPS:
                raise UserError(f"{folder}: the gradient was not finite in {bad} steps in a row, the last step {step}; "
                                "lower learning_rate, or load the model in float32")
            optimizer.zero_grad()
            schedule.step()
            row = {**total, "gradient_norm": float(norm), **_perceived(recipe, classifier, batch, now.probs, now.seen)}
            accelerator.log(row, step=step)
            log_line(folder / "log.jsonl", {"step": step, "prompt": batch[0].text, **row})
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
                save_state(folder / "checkpoint.pt", {
                    "step": step + 1, "parameters": [p.detach() for p in parameters],
                    "optimizer": optimizer.state_dict(), "schedule": {"last_epoch": schedule.last_epoch}})
            if progress:
                progress(step + 1, row)
        save_adapter(folder / "adapter", lora_state(diffusion.pipe, recipe.lora), {
            "base_model": diffusion.source, "recipe": name, "settings": settings, "images_trained_on": recipe.steps * recipe.images,
            "classifier": {"name": classifier.name, "digest": classifier.digest}})
    return folder / "adapter"


def _rate(recipe: Dft, step: int) -> float:
    """Factor on the learning rate: linear warm-up, then constant or a half cosine to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    done = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
    return 0.5 * (1 + float(np.cos(np.pi * min(done, 1.0))))


def _restore(folder: pathlib.Path, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer,
             schedule: torch.optim.lr_scheduler.LambdaLR) -> int:
    """Puts the last checkpoint in place; returns the number of steps done."""
    state = load_state(folder / "checkpoint.pt")
    if state is None:
        return 0
    with torch.no_grad():
        for parameter, value in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    schedule.last_epoch = state["schedule"]["last_epoch"]
    return state["step"]


def _draw_batch(recipe: Dft, prompts: list[Prompt], explicit: list[Prompt], step: int,
                rng: np.random.Generator) -> tuple[list[Prompt], list[int]]:
    """`images` images of one neutral prompt, and `explicit_images` of prompts that say a class; with seeds."""
    epoch, place = divmod(step, len(prompts))
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(prompts))  # every prompt once an epoch
    batch = [prompts[order[place]]] * recipe.images
    if explicit:
        batch = batch + [explicit[i] for i in rng.integers(len(explicit), size=recipe.explicit_images)]
    pool = recipe.preservation.seeds
    numbers = rng.permutation(pool)[: recipe.images] if pool else step * recipe.images + np.arange(recipe.images)
    numbers = [*map(int, numbers), *map(int, rng.integers(pool or 2**31, size=len(batch) - recipe.images))]
    return batch, [image_seed(recipe.seed, p.text, i) for p, i in zip(batch, numbers, strict=True)]


def _reference(diffusion: Diffusion, recipe: Dft, texts: list[str], seeds: list[int], sampler: dict[str, Any],
               kept: dict[tuple, Tensor]) -> Tensor:
    """The frozen model's images `[N, 3, H, W]` of the same prompts, seeds and steps; drawn once for each of them."""
    keys = [(text, seed, sampler["num_inference_steps"]) for text, seed in zip(texts, seeds, strict=True)]
    missing = [i for i, key in enumerate(keys) if key not in kept]
    module = getattr(diffusion.pipe, component(diffusion.pipe, recipe.lora.part))
    module.disable_adapters()
    try:
        for part in torch.tensor(missing, dtype=torch.long).split(recipe.gradient.batch or len(keys)):
            images = diffusion.sample([texts[i] for i in part], [seeds[i] for i in part], **sampler)
            kept.update({keys[i]: image for i, image in zip(part.tolist(), images, strict=True)})
    finally:
        module.enable_adapters()
    images = torch.stack([kept[key] for key in keys])
    if not recipe.preservation.seeds:
        kept.clear()
    return images


def _wish(recipe: Dft, classifier: AttributeClassifier, batch: list[Prompt], probs: dict[str, Tensor], seen: Tensor,
          before: dict[str, Tensor], rng: np.random.Generator) -> Wish:
    """Targets of the neutral images by transport, of the explicit ones as their prompt says; and what must be kept."""
    neutral, n = recipe.images, len(batch)
    arrays = {a: probs[a].double().cpu().numpy() for a in recipe.target.attributes}
    found = assign({a: p[:neutral] for a, p in arrays.items()}, seen[:neutral].cpu().numpy(), recipe.target,
                   classifier.attributes, draws=recipe.alignment.draws, confidence=recipe.alignment.confidence, rng=rng)
    targets, stays = {}, np.ones(n, dtype=bool)
    for a, assignment in found.items():
        classes = classifier.attributes[a].classes
        said = [p.states.get(a) for p in batch[neutral:]]
        wanted = np.concatenate([assignment.classes, [classes.index(s) if s else 0 for s in said]]).astype(int)
        known = np.concatenate([assignment.known, [s is not None for s in said]]).astype(bool)
        targets[a] = Assignment(wanted, known)
        stays[:neutral] &= (known & (before[a].argmax(-1).cpu().numpy() == wanted))[:neutral]
    keep = np.where(stays, 1.0, recipe.preservation.changed)
    return Wish(targets, torch.as_tensor(keep, dtype=torch.float32, device=seen.device))


def _losses(recipe: Dft, classifier: AttributeClassifier, images: Tensor, base: Tensor, part: Tensor,
            wish: Wish) -> dict[str, Tensor]:
    """Sums over the images of a part: cross-entropy to the targets, distance from the base model's images."""
    predictions = classifier(images)
    zero = images.new_zeros(())
    alignment = zero
    for a, targets in wish.targets.items():
        known = torch.as_tensor(targets.known)[part].to(images.device) & predictions.seen
        classes = torch.as_tensor(targets.classes)[part].to(images.device)
        if known.any():
            alignment = alignment + F.cross_entropy(predictions.logits[a][known], classes[known], reduction="sum")
    if recipe.preservation.weight == 0:
        return {"alignment": alignment, "preservation": zero}
    if recipe.preservation.features == "pixels":
        distance = (images - base).abs().mean((1, 2, 3))
    else:
        with torch.no_grad():
            wanted = classifier.features(base)
        distance = 1 - F.cosine_similarity(classifier.features(images), wanted)
    return {"alignment": alignment, "preservation": (wish.keep[part.to(images.device)] * distance).sum()}


def _perceived(recipe: Dft, classifier: AttributeClassifier, batch: list[Prompt], probs: dict[str, Tensor],
               seen: Tensor) -> dict[str, float]:
    """The gap of each attribute on the step's neutral images, and the share seen."""
    row = {"seen": float(seen.float().mean())}
    for a in recipe.target.attributes:
        attribute = classifier.attributes[a]
        called = probs[a][: recipe.images].argmax(-1)[seen[: recipe.images]].cpu().numpy()
        counts = np.bincount(called, minlength=len(attribute.classes))
        row[f"gap/{a}"] = float(gap(shares(counts[attribute.contrasted])))
    return row
