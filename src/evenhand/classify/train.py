"""Training a classifier that is judged by its groups: arms, objectives and masks in one loop.

What a training does stands in `trained`, from top to bottom.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evenhand.classify import plain
from evenhand.classify.arms import ERM, Arm, Stage, steps_of_first, steps_of_stage
from evenhand.classify.examples import Examples
from evenhand.classify.experiment import Experiment
from evenhand.classify.judge_network import new_network
from evenhand.classify.losses import loss_of, passes_of, views_of
from evenhand.classify.masks import mask_of
from evenhand.classify.network import Classifier, passed
from evenhand.classify.objectives import first_state, rows_of, weights_of
from evenhand.classify.refit import refit
from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, write_json
from evenhand.core.schema import read_json
from evenhand.devices import default_device
from evenhand.recipes.classify import Classify
from evenhand.recipes.classify_parts import Objective
from evenhand.reports.classify_models import MaskRow
from evenhand.stats.groups import group_accuracies
from evenhand.training.checkpoints import step_generator
from evenhand.training.fit import fit
from evenhand.training.gradients import mean_gradients
from evenhand.training.phases import Phase

Tell = Callable[[int, str], None]


def trained(
    experiment: Experiment, arm: Arm, seed: int, stages: pathlib.Path, tell: Tell
) -> tuple[Classifier, Any, list[MaskRow]]:
    """One training: the arm's stages, each from the weights of the one before.

    A stage is kept in a folder named by all that it depends on. Arms that begin alike, such as
    AIM-Fair with several masks, share it.

    Args:
        experiment: tables and images.
        arm: of a variant.
        seed: of all draws.
        stages: folder of all stages.
        tell: called with (steps done, words).

    Returns:
        the classifier, its processor, and AIM-Fair's mask.
    """
    recipe = arm.recipe.model_copy(update={"seed": seed})
    plain.register()
    network, processor = new_network(recipe)
    model, mask, key, before = classifier_of(network, processor, recipe), list[MaskRow](), "", 0
    for stage in arm.stages:
        key = digest_of([key, *_identity(experiment, arm, stage, seed)])
        data = experiment.examples(arm, stage.rows)
        chosen = rows_of(stage.objective, data.groups, step_generator(seed, "rows", stage.part))
        data, place = data.some(chosen), stages / key
        model = classifier_of(network, processor, recipe, stage)
        if stage.trained == "mask":
            mask = _mask(model, experiment, arm, stage, place, seed)
        wrong = None
        if stage.objective.name == "jtt":
            told = functools.partial(_told, tell, before, f"{stage.part}, first training")
            wrong = _wrong(data, recipe, stage.objective, place, told)
            before += steps_of_first(arm, stage)
        model.state = first_state(stage.objective, data.groups)
        fit(
            model,
            data,
            loss_of(model, stage, recipe),
            phases=[phase_of(model, arm, stage, mask)],
            passes=passes_of(
                recipe,
                weights_of(stage.objective, data.groups, wrong),
                views=views_of(recipe, stage),
            ),
            folder=place,
            validate=_score(experiment, arm),
            progress=functools.partial(_told, tell, before, stage.part),
        )
        before += steps_of_stage(arm, stage)
    if recipe.refit:
        refit(model, experiment.split(arm, "validation"), recipe)
    return model, processor, mask


def _told(tell: Tell, before: int, part: str, done: int, _: int, words: str) -> None:
    """Tells how far a stage is, with the steps of those before."""
    tell(before + done, f"{part}, {words}")


def classifier_of(
    network: Any, processor: Any, recipe: Classify, stage: Stage | None = None
) -> Classifier:
    """The classifier around a network; in a stage of LfF with a second, biased one."""
    where = f"network {recipe.path or (recipe.config or {}).get('model_type')!r}"
    lff = stage and stage.objective.name == "lff"
    twin = _network(recipe, "biased") if lff else None
    return Classifier(network, processor, len(recipe.labels), where, twin)


def _network(recipe: Classify, *keys: str) -> Any:
    """A network of the recipe with other initial weights than its own."""
    number = int(step_generator(recipe.seed, *keys).initial_seed() % 2**62)
    return new_network(recipe.model_copy(update={"seed": number}))[0]


def _identity(experiment: Experiment, arm: Arm, stage: Stage, seed: int) -> list[Any]:
    """All that a stage's weights depend on, but for the stages before."""
    recipe, part = arm.recipe, arm.part(stage)
    own = {"path", "config", "freeze", "size", "augment", "smoothing", "batch", "dtype", "select"}
    own |= {"mask"} if stage.trained == "mask" else set()
    own |= {"contrast"} if stage.contrast else set()
    return [
        seed,
        recipe.model_dump(mode="json", include=own),
        stage.part,
        part.model_dump(mode="json"),
        stage.objective.model_dump(mode="json"),
        stage.trained,
        experiment.identity(arm, stage),
        [experiment.identity(arm, Stage(stage.part, r, ERM)) for r in stage.mask_from or ()],
    ]


def phase_of(model: Classifier, arm: Arm, stage: Stage, mask: list[MaskRow]) -> Phase:
    """What a stage trains, for how long; without a mask, where it takes one, all of the network."""
    part, trained = arm.part(stage), _names(model, stage, mask)
    batch_norm = _batch_norm(stage, arm.recipe)
    return Phase(part.optimisation, part.epochs, trained=trained, batch_norm=batch_norm)


def _names(model: Classifier, stage: Stage, mask: list[MaskRow]) -> list[str] | None:
    """Names of the parameters that a stage trains; None for all."""
    if stage.trained == "last_layer":
        return model.names_of_last()
    if stage.trained == "mask" and mask:
        return [f"body.network.{row.tensor}" for row in mask if row.trained]
    return None


def _batch_norm(stage: Stage, recipe: Classify) -> Any:
    if stage.trained == "mask":
        return recipe.mask.batch_norm
    return "freeze" if recipe.freeze or stage.trained == "last_layer" else "update"


def _mask(
    model: Classifier,
    experiment: Experiment,
    arm: Arm,
    stage: Stage,
    place: pathlib.Path,
    seed: int,
) -> list[MaskRow]:
    """The stage's mask, chosen once and kept in its folder."""
    path, recipe = place / "mask.json", arm.recipe.model_copy(update={"seed": seed})
    if path.is_file():
        rows = read_json(path, what="a mask", advice="delete it to choose anew")["tensors"]
        return [MaskRow.model_validate(row) for row in rows]
    assert stage.mask_from
    loss, passes = loss_of(model, Stage(stage.part, stage.rows, ERM), recipe), passes_of(recipe)
    measured = []
    for number, rows in enumerate(stage.mask_from):
        data = experiment.examples(arm, rows)
        model.state = first_state(ERM, data.groups)
        measured.append(mean_gradients(model, data, loss, passes=passes, key=number))
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    generator = step_generator(seed, "mask", recipe.mask.draw)
    found = mask_of(recipe.mask, (measured[0], measured[1], measured[2]), weights, generator)
    rows = [r.model_copy(update={"tensor": r.tensor.removeprefix("body.network.")}) for r in found]
    write_json(path, {"tensors": [row.model_dump() for row in rows]})
    return rows


def _wrong(
    data: Examples,
    recipe: Classify,
    objective: Objective,
    place: pathlib.Path,
    progress: Callable[[int, int, str], None],
) -> Tensor:
    """The images that JTT's first, short training gets wrong, `[N]`.

    Raises:
        UserError: there are none.
    """
    network, processor = new_network(recipe)
    model, stage = classifier_of(network, processor, recipe), Stage("real", data.rows.numpy(), ERM)
    passes, how = passes_of(recipe), recipe.schedule.real.optimisation
    loss = loss_of(model, stage, recipe)
    phases = [Phase(how, objective.epochs, batch_norm=_batch_norm(stage, recipe))]
    model.state = first_state(ERM, data.groups)
    fit(model, data, loss, phases=phases, passes=passes, folder=place / "first", progress=progress)
    wrong = logits_of(model, data, recipe).argmax(1) != data.labels
    if not wrong.any():
        raise UserError(
            f"objective jtt: its first training gets all {len(data)} training images right after "
            f"{objective.epochs} epochs, so none counts more; lower objective.epochs"
        )
    return wrong


def logits_of(model: Classifier, data: Examples, recipe: Classify) -> Tensor:
    """Logits `[N, K]`, on the CPU."""
    found = passed(model, data, batch=recipe.batch, dtype=recipe.dtype, device=default_device())
    return torch.cat([logits for logits, _ in found])


def _score(experiment: Experiment, arm: Arm) -> Callable[[Any], float] | None:
    """By which an epoch is chosen; None where the last one is taken."""
    if arm.recipe.select == "last":
        return None
    data = experiment.split(arm, "validation")
    return lambda model: score(
        logits_of(model, data, arm.recipe).argmax(1), data, arm.recipe.select
    )


def score(called: Tensor, data: Examples, select: str) -> float:
    """Accuracy of the calls `[N]`: of the `worst_group`, `balanced`, `overall`, `worst_class`."""
    correct = (called == data.labels).numpy()
    if select == "overall":
        return float(correct.mean())
    kinds = data.labels if select == "worst_class" else data.groups
    found = group_accuracies(correct, kinds.numpy(), int(kinds.max()) + 1)
    return float(np.mean(found) if select == "balanced" else np.min(found))
