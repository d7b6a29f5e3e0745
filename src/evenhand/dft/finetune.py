"""The training loop of direct fine-tuning: one function, from top to bottom.

Shen et al., ICLR 2024 (arXiv 2311.07604): sections 4.1 (targets and alignment loss), 4.2 (adjusted gradient), 4.3
(preservation). What differs: the gradient comes by record and replay (`evenhand.replay`) from the stock pipeline, so
that images trained on are those users get; a random part of the denoiser calls may be replayed; the reference images
of the frozen model are kept for a pool of seeds.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evenhand.adapters import attach_lora, component, lora_state, save_adapter
from evenhand.checkpoints import load_state, save_state
from evenhand.classifiers import AttributeClassifier, Predictions, load_classifier
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
class Draw:
    """What a step draws: prompts and seeds of N images, and the sampler's number of steps."""

    prompts: list[Prompt]
    seeds: list[int]
    num_inference_steps: int

    def run(self, diffusion: Diffusion, part: Tensor) -> Tensor:
        """The images `[n, 3, H, W]` of the given indices; the caller decides about gradients."""
        return diffusion.call([self.prompts[i].text for i in part], [self.seeds[i] for i in part],
                              num_inference_steps=self.num_inference_steps)

    def keys(self) -> list[tuple[str, int, int]]:
        """What each image is a function of."""
        return [(p.text, seed, self.num_inference_steps) for p, seed in zip(self.prompts, self.seeds, strict=True)]


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
    prompt_set, settings = load_prompts(recipe.prompts), recipe.model_dump(mode="json")
    folder = open_run(folder, settings)
    with training(folder, settings) as accelerator:
        diffusion = load_diffusion(load_model(recipe.model), device=str(accelerator.device))
        classifier = load_classifier(recipe.classifier, device=accelerator.device)
        recipe.target.check(classifier.attributes)
        neutral = prompt_set.prompts(["train"])
        explicit = prompt_set.explicit_prompts(recipe.target.attributes, ["train"])
        parameters = attach_lora(diffusion.pipe, recipe.lora, seed=recipe.seed)
        optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(recipe, step))
        first = _restore(folder, parameters, optimizer, schedule)
        cut_log(folder / "log.jsonl", first)
        references: dict[tuple, Tensor] = {}
        bad = 0
        for step in range(first, recipe.steps):
            rng = np.random.default_rng([recipe.seed, step])
            draw = _draw(recipe, neutral, explicit, step, rng)
            row = _gradient(recipe, diffusion, classifier, draw, references, rng)
            norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.gradient.clip)
            if torch.isfinite(norm):
                optimizer.step()
                bad = 0
            elif (bad := bad + 1) == BAD_STEPS:
                raise UserError(f"{folder}: the gradient was not finite in {bad} steps in a row, the last step {step}; "
                                "lower learning_rate, or load the model in float32")
            optimizer.zero_grad()
            schedule.step()
            row["gradient_norm"] = float(norm)
            accelerator.log(row, step=step)
            log_line(folder / "log.jsonl", {"step": step, "prompt": draw.prompts[0].text, **row})
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
                save_state(folder / "checkpoint.pt", {
                    "step": step + 1, "parameters": [p.detach() for p in parameters],
                    "optimizer": optimizer.state_dict(), "schedule": {"last_epoch": schedule.last_epoch}})
            if progress:
                progress(step + 1, row)
        save_adapter(folder / "adapter", lora_state(diffusion.pipe, recipe.lora), {
            "base_model": diffusion.source, "recipe": name, "settings": settings,
            "classifier": {"name": classifier.name, "digest": classifier.digest}})
    return folder / "adapter"


def _gradient(recipe: Dft, diffusion: Diffusion, classifier: AttributeClassifier, draw: Draw,
              references: dict[tuple, Tensor], rng: np.random.Generator) -> dict[str, float]:
    """One step's gradient, added to the `.grad` of the trainable parameters; returns the step's numbers.

    1. Record: sample the images with the current model. 2. Targets from what is perceived in them. 3. For each part of
    the batch: attach, losses to targets and to the frozen model's images, replay of some of the denoiser calls. A batch
    of one part is recorded and attached in one pass.
    """
    n = len(draw.prompts)
    parts = torch.arange(n).split(recipe.gradient.batch or n)
    runs = [functools.partial(draw.run, diffusion, part) for part in parts]
    takes = [(record if len(runs) > 1 else attach)(diffusion.denoiser, run) for run in runs]
    base = _reference(diffusion, recipe, draw, references)
    with torch.no_grad():
        now = classifier(torch.cat([take.images.detach() for take in takes]))
        before = classifier(base).probs
    wish = _wish(recipe, classifier, draw.prompts, now, before, rng)
    total = {"alignment": 0.0, "preservation": 0.0}
    for part, run, take in zip(parts, runs, takes, strict=True):
        tape = attach(diffusion.denoiser, run, take) if isinstance(take, Recording) else take
        losses = _losses(recipe, classifier, tape.images, base[part], part, wish)
        loss = recipe.alignment.weight * losses["alignment"] + recipe.preservation.weight * losses["preservation"]
        if not loss.requires_grad:
            continue  # no target and nothing to preserve: nothing to replay
        calls = rng.permutation(len(tape.calls))[: recipe.gradient.calls].tolist()
        tape.backward(loss / n, calls=calls, rescale=recipe.gradient.rescale)
        total = {k: total[k] + float(losses[k].detach()) / n for k in total}
    return {**total, "seen": float(now.seen.float().mean()), **_gaps(recipe, classifier, now)}


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


def _draw(recipe: Dft, neutral: list[Prompt], explicit: list[Prompt], step: int, rng: np.random.Generator) -> Draw:
    """`images` images of one neutral prompt, and `explicit_images` of prompts that say a class; with seeds."""
    epoch, place = divmod(step, len(neutral))
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(neutral))  # every prompt once an epoch
    prompts = [neutral[order[place]]] * recipe.images
    if explicit:
        prompts = prompts + [explicit[i] for i in rng.integers(len(explicit), size=recipe.explicit_images)]
    pool = recipe.preservation.seeds
    numbers = rng.permutation(pool)[: recipe.images] if pool else step * recipe.images + np.arange(recipe.images)
    numbers = [*numbers.tolist(), *rng.integers(pool or 2**31, size=len(prompts) - recipe.images).tolist()]
    seeds = [image_seed(recipe.seed, p.text, i) for p, i in zip(prompts, numbers, strict=True)]
    return Draw(prompts, seeds, int(rng.choice(recipe.num_inference_steps)))


@torch.no_grad()
def _reference(diffusion: Diffusion, recipe: Dft, draw: Draw, kept: dict[tuple, Tensor]) -> Tensor:
    """The frozen model's images `[N, 3, H, W]` of the same prompts, seeds and steps; a pool's are drawn once and kept."""
    keys = draw.keys()
    missing = torch.tensor([i for i, key in enumerate(keys) if key not in kept], dtype=torch.long)
    module = getattr(diffusion.pipe, component(diffusion.pipe, recipe.lora.part))
    module.disable_adapters()
    try:
        for part in missing.split(recipe.gradient.batch or len(keys)) if len(missing) else ():
            kept.update({keys[i]: image for i, image in zip(part.tolist(), draw.run(diffusion, part), strict=True)})
    finally:
        module.enable_adapters()
    images = torch.stack([kept[key] for key in keys])
    if not recipe.preservation.seeds:
        kept.clear()
    return images


def _wish(recipe: Dft, classifier: AttributeClassifier, prompts: list[Prompt], now: Predictions, before: dict[str, Tensor],
          rng: np.random.Generator) -> Wish:
    """Targets of the neutral images by transport, of the explicit ones as their prompt says; and what must be kept."""
    neutral, n = recipe.images, len(prompts)
    arrays = {a: now.probs[a][:neutral].double().cpu().numpy() for a in recipe.target.attributes}
    found = assign(arrays, now.seen[:neutral].cpu().numpy(), recipe.target, classifier.attributes,
                   draws=recipe.alignment.draws, confidence=recipe.alignment.confidence, rng=rng)
    targets, stays = {}, np.ones(n, dtype=bool)
    for a, assignment in found.items():
        said = [p.states.get(a) for p in prompts[neutral:]]
        wanted = np.array([*assignment.classes, *(classifier.attributes[a].classes.index(s) if s else 0 for s in said)])
        known = np.array([*assignment.known, *(s is not None for s in said)])
        targets[a] = Assignment(wanted, known)
        stays[:neutral] &= (known & (before[a].argmax(-1).cpu().numpy() == wanted))[:neutral]
    keep = np.where(stays, 1.0, recipe.preservation.changed)
    return Wish(targets, torch.as_tensor(keep, dtype=torch.float32, device=now.seen.device))


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


def _gaps(recipe: Dft, classifier: AttributeClassifier, now: Predictions) -> dict[str, float]:
    """The gap of each attribute of the target on the step's neutral images."""
    row, seen = {}, now.seen[: recipe.images]
    for a in recipe.target.attributes:
        called = now.probs[a][: recipe.images].argmax(-1)[seen].cpu().numpy()
        counts = np.bincount(called, minlength=len(classifier.attributes[a].classes))
        row[f"gap/{a}"] = float(gap(shares(counts[classifier.attributes[a].contrasted])))
    return row
