"""What the trainings of a recipe will take, from a few real steps of each kind."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from evenhand.classify import plain
from evenhand.classify.arms import ERM, Arm, Stage, steps_of_first, steps_of_stage
from evenhand.classify.experiment import Experiment
from evenhand.classify.judge_network import new_network
from evenhand.classify.losses import loss_of, passes_of, views_of
from evenhand.classify.objectives import first_state
from evenhand.classify.train import classifier_of, phase_of
from evenhand.core.files import digest_of
from evenhand.training.fit import forward, placed, read
from evenhand.training.optimizer import Optimizer
from evenhand.training.phases import only, set_modes
from evenhand.training.run_directory import peak_memory

TRIES = 3  # steps that are timed; the fastest counts: the first reads images and warms up


def cost(experiment: Experiment) -> tuple[float, int]:
    """Seconds of the steps of all trainings, and peak memory in bytes.

    Steps that are alike are timed once. Validation, AIM-Fair's choice of a mask and what refits a
    last layer are not counted.
    """
    plain.register()
    known: dict[str, float] = {}
    seconds = 0.0
    for arm in experiment.arms.values():
        for stage, steps in _trainings(arm):
            kind = _kind(arm, stage)
            if kind not in known:
                known[kind] = _seconds_a_step(experiment, arm, stage)
            seconds += steps * known[kind]
    return len(experiment.seeds) * seconds, peak_memory()


def _trainings(arm: Arm) -> Iterator[tuple[Stage, int]]:
    """What an arm trains, and in how many steps."""
    for stage in arm.stages:
        if first := steps_of_first(arm, stage):
            yield replace(stage, part="real", objective=ERM, trained="all", contrast=False), first
        yield stage, steps_of_stage(arm, stage)


def _kind(arm: Arm, stage: Stage) -> str:
    """Names all that a step's time depends on."""
    own = {"path", "config", "freeze", "size", "augment", "batch", "dtype"}
    return digest_of(
        [
            arm.recipe.model_dump(mode="json", include=own),
            arm.part(stage).optimisation.model_dump(mode="json"),
            stage.objective.name,
            stage.trained,
            views_of(arm.recipe, stage),
            min(len(stage.rows), arm.recipe.batch),
        ]
    )


def _seconds_a_step(experiment: Experiment, arm: Arm, stage: Stage) -> float:
    """Seconds of a step of a stage, on its first images."""
    recipe, data = arm.recipe, experiment.examples(arm, stage.rows)
    passes = passes_of(recipe, views=views_of(recipe, stage))
    model = classifier_of(*new_network(recipe), recipe, stage)
    placed(model, passes.device)
    model.state = first_state(stage.objective, data.groups).to(passes.device)
    loss, phase, times = loss_of(model, stage, recipe), phase_of(model, arm, stage, []), []
    some = data.some(torch.arange(min(len(data), recipe.batch)))
    with only(model, phase) as named:
        optimizer = Optimizer(phase.optimisation, named, steps=TRIES)
        set_modes(model, phase)
        for epoch in range(TRIES):
            started = time.perf_counter()
            for batch, generator in read(some, passes, 0, epoch):
                value = forward(model, loss, batch, passes, generator)
                assert value is not None
                value.item()  # waits for the device, as in `fit`
                value.backward()
                optimizer.step("a trial")  # its norm is a number: waits as well
            times.append(time.perf_counter() - started)
    return min(times)
