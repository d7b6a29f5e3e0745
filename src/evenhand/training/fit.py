"""The one loop that trains image classifiers.

Losses, samplers, augmentation, validation and what of the network is trained come as arguments;
what a training does stands in `fit`, from top to bottom. Every draw is a function of the seed and
of the place in the training, so that a training that was cut ends in the same weights.
"""

import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from evenhand.core.errors import UserError
from evenhand.devices import autocast
from evenhand.images.tensors import to_float
from evenhand.training.checkpoints import load_state, must_fit, save_state, seeded, step_generator
from evenhand.training.optimizer import CAUSE, Optimizer
from evenhand.training.phases import Phase, kept_names, only, set_modes

Batch = dict[str, Any]  # "images" [N, 3, H, W] in [0, 1], and whatever else the data's rows hold
Loss = Callable[[Any, Batch], Tensor | None]
Gradients = Callable[[int, dict[str, Tensor]], None]


@dataclass(frozen=True)
class Passes:
    """How images pass through the network.

    Attributes:
        batch: images a step; a last one that would be alone joins the batch before it.
        seed: of all draws.
        sampler: gives the rows of an epoch, drawn from the generator: any of torch's samplers, such
            as `lambda g: WeightedRandomSampler(weights, n, generator=g)`; every row once, in random
            order, when None.
        augment: changes a batch, drawing from the generator.
        dtype: `float32`, or the precision of autocast.
        device: of the network.
        workers: processes that read images ahead; 0 reads them in this one.
    """

    batch: int
    seed: int = 0
    sampler: Callable[[torch.Generator], Iterable[int]] | None = None
    augment: Callable[[Batch, torch.Generator], Batch] | None = None
    dtype: str = "float32"
    device: torch.device | str = "cpu"
    workers: int = 0


@dataclass
class Progress:
    """How far a training is, and the best that it found; this is what a checkpoint holds.

    Attributes:
        phase, epoch: the next ones to be trained, from 0.
        waited: epochs of this phase since the score rose.
        score: best validation score so far; None without validation, or before the first.
        best: the weights that had it (the last ones without validation), on the CPU.
        history: a row an epoch: phase, epoch, mean loss, score.
    """

    phase: int = 0
    epoch: int = 0
    waited: int = 0
    score: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)


def fit(
    model: nn.Module,
    data: Dataset,
    loss: Loss,
    *,
    phases: Sequence[Phase],
    passes: Passes,
    folder: pathlib.Path,
    validate: Callable[[nn.Module], float] | None = None,
    gradients: Gradients | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Progress:
    """Trains a network; afterwards it holds the weights of the best epoch, the first of equals.

    Args:
        model: called with images.
        data: rows are dictionaries of tensors; "images" is `[H, W, 3]` uint8.
        loss: of what the model returns and the batch; None where the batch teaches nothing.
        phases: one after the other.
        passes: how images pass through.
        folder: holds the checkpoint, written after every epoch, from which a training goes on.
        validate: the score of the model in evaluation mode, higher is better.
        gradients: called with (step, gradient of each trained parameter) before each is clipped.
        progress: called with (steps done, steps in all, words).

    Raises:
        UserError: several processes, numbers that are not finite, a checkpoint of another training.
    """
    refuse_several_processes()
    kept = kept_names(placed(model, passes.device), phases)
    done, optimizer_state = _resume(model, kept, folder / "checkpoint.pt")
    epoch_steps = len(batches(data, passes, 0, 0))
    before = [epoch_steps * sum(p.epochs for p in phases[:i]) for i in range(len(phases) + 1)]
    while done.phase < len(phases):
        phase, number = phases[done.phase], done.phase
        with only(model, phase) as named:
            optimizer = Optimizer(phase.optimisation, named, steps=phase.epochs * epoch_steps)
            optimizer.load(optimizer_state, f"{folder / 'checkpoint.pt'}")
            while done.phase == number:
                where, losses = f"{folder}: phase {number + 1}, epoch {done.epoch + 1}", []
                set_modes(model, phase)
                for i, (batch, generator) in enumerate(read(data, passes, number, done.epoch)):
                    step = before[number] + done.epoch * epoch_steps + i + 1
                    value = forward(model, loss, batch, passes, generator)
                    if value is None:
                        continue
                    losses.append(_finite(value, where))
                    value.backward()
                    if gradients:
                        gradients(step, {n: p.grad for n, p in named if p.grad is not None})
                    optimizer.step(where)
                    if progress:
                        progress(step, before[-1], _words(done, losses[-1]))
                _end_epoch(model, kept, optimizer, phase, validate, done, losses, where)
                optimizer_state = optimizer.state() if done.phase == number else None
                _save(folder / "checkpoint.pt", model, kept, done, optimizer_state)
    model.load_state_dict(done.best, strict=False)
    return done


def placed(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The network on a device, in the layout in which convolutions are fastest."""
    return model.to(device).to(memory_format=torch.channels_last)


def refuse_several_processes() -> None:
    """Raises UserError when a launcher started several processes: each would train by itself."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "image classifiers are trained by one process; start the command without torchrun or "
            "accelerate launch"
        )


def batches(data: Any, passes: Passes, phase: int, epoch: int) -> list[list[int]]:
    """The rows of each batch of an epoch."""
    generator = step_generator(passes.seed, "order", phase, epoch)
    sampler = passes.sampler or (lambda g: torch.randperm(len(data), generator=g).tolist())
    rows = list(sampler(generator))
    found = [rows[i : i + passes.batch] for i in range(0, len(rows), passes.batch)]
    if len(found) > 1 and len(found[-1]) == 1:  # of one image batch norms have no statistics
        found[-2:] = [found[-2] + found[-1]]
    return found


def read(
    data: Any, passes: Passes, phase: int, epoch: int
) -> Iterator[tuple[Batch, torch.Generator]]:
    """The batches of an epoch, on the device and augmented, each with its generator."""
    loader = DataLoader(
        data,
        batch_sampler=batches(data, passes, phase, epoch),
        num_workers=passes.workers,
        generator=step_generator(passes.seed, "workers", phase, epoch),
    )
    for i, raw in enumerate(loader):
        generator = step_generator(passes.seed, "batch", phase, epoch, i)
        batch = {key: value.to(passes.device) for key, value in raw.items()}
        batch["images"] = to_float(batch["images"])
        yield passes.augment(batch, generator) if passes.augment else batch, generator


def forward(
    model: nn.Module, loss: Loss, batch: Batch, passes: Passes, generator: torch.Generator
) -> Tensor | None:
    """The loss of a batch; dropout draws from the batch's generator."""
    number = int(torch.randint(2**62, (), generator=generator))
    with seeded(number), autocast(passes.dtype, passes.device):
        outputs = model(batch["images"])
    return loss(outputs, batch)


def _finite(value: Tensor, where: str) -> float:
    number = value.item()
    if not math.isfinite(number):
        raise UserError(f"{where}: the loss is not finite ({number}); {CAUSE}")
    return number


def _end_epoch(
    model: nn.Module,
    kept: list[str],
    optimizer: Optimizer,
    phase: Phase,
    validate: Callable[[nn.Module], float] | None,
    done: Progress,
    losses: list[float],
    where: str,
) -> None:
    """Validates, keeps the best weights and moves on to the next epoch or phase."""
    with optimizer.averaged(), torch.no_grad():
        model.eval()
        score = float(validate(model)) if validate else None
        if score is not None and not math.isfinite(score):
            raise UserError(f"{where}: the validation score is not finite; {CAUSE}")
        if score is None or done.score is None or score > done.score:
            state = model.state_dict()
            done.best = {name: state[name].detach().cpu().clone() for name in kept}
            done.score, done.waited = score, 0
        else:
            done.waited += 1
    mean = sum(losses) / len(losses) if losses else None
    done.history.append({"phase": done.phase, "epoch": done.epoch, "loss": mean, "score": score})
    done.epoch += 1
    if done.epoch == phase.epochs or (phase.patience and done.waited >= phase.patience):
        optimizer.check_finite(where)
        if not all(bool(x.isfinite().all()) for x in done.best.values()):
            raise UserError(f"{where}: the network's values are not finite; {CAUSE}")
        done.phase, done.epoch, done.waited = done.phase + 1, 0, 0


def _save(
    path: pathlib.Path, model: nn.Module, kept: list[str], done: Progress, optimizer: Any
) -> None:
    state = model.state_dict()
    save_state(
        path,
        {
            "progress": vars(done),
            "model": {name: state[name] for name in kept},
            "optimizer": optimizer,
        },
    )


def _resume(model: nn.Module, kept: list[str], path: pathlib.Path) -> tuple[Progress, Any]:
    """Puts a checkpoint in place; a new training where there is none.

    Raises:
        UserError: it is damaged or of another training.
    """
    state = load_state(path)
    if state is None:
        return Progress(), None
    with must_fit(path):
        if state["model"].keys() != set(kept):
            raise ValueError("it holds other weights")
        model.load_state_dict(state["model"], strict=False)
        return Progress(**state["progress"]), state["optimizer"]


def _words(done: Progress, loss: float) -> str:
    return f"loss {loss:.3f}" + (f", best {done.score:.3f}" if done.score is not None else "")
