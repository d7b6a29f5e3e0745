"""Which layers change for the reference set: the measured score of linear probing before all.

A layer's score is |dW|/|W| (Frobenius norms) after a short training on the reference images, less
the same after one of equal length on as many images that the model itself draws of their captions:
what any training would change is subtracted.
"""

import pathlib
import statistics
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from evenhand.adapt.fairtl.score_table import plot, table
from evenhand.core.errors import UserError
from evenhand.core.files import digest_of, write_json, write_text
from evenhand.core.schema import read_json
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.trainable import Trainable
from evenhand.recipes.fairtl import FairTl, LinearProbing
from evenhand.recipes.lora import Lora
from evenhand.training.denoise import Probing, denoise
from evenhand.training.examples import Examples, drawn
from evenhand.training.processes import same_everywhere
from evenhand.training.run_directory import Progress

MOST = 200  # images of each of the two sets
STABLE = 0.7  # least mean rank correlation of two seeds' scores


def probing(
    recipe: FairTl,
    reference: Examples,
    denoising: Denoising,
    trainable: Trainable,
    folder: pathlib.Path,
    cache: pathlib.Path,
    accelerator: Any,
    tell: Progress,
) -> Probing:
    """The first steps of a training, which train the layers with the highest scores alone.

    The scores are measured once for a base model, what is trained of it, and the steps and seeds of
    the measurement; a table and a plot are written beside them. What is trained is left as it was.

    Args:
        recipe: the settings.
        reference: the reference images.
        denoising: the model.
        trainable: what is trained in it.
        folder: of the run, beside which the scores are kept.
        cache: of this process, for the short trainings.
        accelerator: of the processes that train together.
        tell: called with (0, `{"drawn": n}`) and (0, `{"probed": n, "of": m}`), images and steps.

    Raises:
        UserError: a file of scores that is of another model, of other layers or of another
            measurement; or only one layer is trained.
    """
    assert recipe.probing is not None
    layers = _layers(trainable)
    if len(layers) < 2:
        raise UserError(
            "probing: one layer is trained, so none of several can come first; set probing=null"
        )
    key, given = _key(recipe, recipe.probing, denoising), recipe.probing.scores
    path = pathlib.Path(given) if given else folder.parent / "scores" / f"{key}.json"
    if not same_everywhere(accelerator, path).is_file():
        scores = _measured(
            recipe, reference, denoising, trainable, cache / "scores", accelerator, tell
        )
        if accelerator.is_main_process:
            _write(path, key, scores, recipe)
        accelerator.wait_for_everyone()
        same_everywhere(accelerator, path)
    found = read_json(path, what="scores of layers", advice="delete it to have it made anew")
    if found.get("of") != key or found.get("scores", {}).keys() != layers.keys():
        raise UserError(
            f"probing.scores: {path} holds scores of another model, of other layers, or of other "
            "steps and seeds of probing; name another file"
        )
    if not found["stable"] and accelerator.is_main_process:
        warnings.warn(
            f"probing: the layers' order is unstable between seeds (rank correlation "
            f"{found['rank_correlation']:.2f}): {path.with_suffix('.md')}",
            stacklevel=2,
        )
    chosen = _first(found["scores"], recipe.probing.layers)
    names = [name for layer in chosen for name in layers[layer]]
    return Probing(max(1, round(recipe.probing.share * recipe.steps)), names)


def _key(recipe: FairTl, wanted: LinearProbing, denoising: Denoising) -> str:
    """Digest of what scores are of: a model, what is trained of it, and the measurement."""
    trained, measuring = recipe.trained, wanted.model_dump(include={"steps", "seeds"})
    what = trained.settings() if isinstance(trained, Lora) else trained.model_dump(mode="json")
    return digest_of([denoising.diffusion.source, what, recipe.target.attributes, measuring])


def steps_of(wanted: LinearProbing) -> int:
    """Steps of all the short trainings: two for each seed."""
    return 2 * wanted.seeds * wanted.steps


def _measured(
    recipe: FairTl,
    reference: Examples,
    denoising: Denoising,
    trainable: Trainable,
    folder: pathlib.Path,
    accelerator: Any,
    tell: Progress,
) -> dict[str, list[float]]:
    """Scores of every layer, one for each seed."""
    assert recipe.probing is not None
    some = torch.linspace(0, len(reference) - 1, min(MOST, len(reference))).long().tolist()
    captions = [reference.captions[i] for i in some]
    with trainable.frozen():
        own = drawn(captions, recipe, denoising, folder / "own.safetensors", "scores", tell)
    sets = {
        "reference": Examples(reference.latents[some], captions),
        "own": Examples(own, captions),
    }
    before = [p.detach().clone() for p in trainable.parameters]
    found: dict[str, list[float]] = {}
    done, total = 0, steps_of(recipe.probing)
    for seed in range(recipe.seed, recipe.seed + recipe.probing.seeds):
        steps = {"steps": recipe.probing.steps, "checkpoint_every": recipe.probing.steps}
        short = recipe.model_copy(update={**steps, "seed": seed})
        moved = {}
        for name, examples in sets.items():
            where = folder / f"{name}-{seed}"
            denoise(
                denoising,
                trainable,
                {"loss": examples},
                short,
                where,
                accelerator=accelerator,
                report=lambda step, _, done=done: tell(0, {"probed": done + step, "of": total}),
            )
            done += recipe.probing.steps
            moved[name] = _moved(trainable, denoising, before)
            with torch.no_grad():
                for parameter, value in zip(trainable.parameters, before, strict=True):
                    parameter.copy_(value)
        for layer in moved["own"]:
            found.setdefault(layer, []).append(moved["reference"][layer] - moved["own"][layer])
    return found


def _first(order: Iterable[str], share: float) -> list[str]:
    """A share of the layers, of which those with the highest scores stand first; one at least."""
    layers = list(order)
    return layers[: max(1, round(share * len(layers)))]


def _layers(trainable: Trainable) -> dict[str, list[str]]:
    """Names of the trained parameters, by the layer that they are of."""
    found: dict[str, list[str]] = {}
    for name in trainable.named:
        layer = name.partition(".lora_")[0].removesuffix(".weight").removesuffix(".bias")
        found.setdefault(layer, []).append(name)
    return found


def _moved(trainable: Trainable, denoising: Denoising, before: list[Tensor]) -> dict[str, float]:
    """|dW|/|W| of each layer; of LoRA dW is the change of its product, BA - B0 A0."""
    start = dict(zip(trainable.named, before, strict=True))
    found = {}
    for layer, names in _layers(trainable).items():
        a = next((name for name in names if ".lora_A" in name), None)
        b = next((name for name in names if ".lora_B" in name), None)
        if a and b:
            weight = _module(denoising.diffusion.pipe, layer).base_layer.weight
            now, then = (
                values[b].detach().flatten(1) @ values[a].detach().flatten(1)
                for values in (trainable.named, start)
            )
            found[layer] = float((now - then).norm() / weight.float().norm())
            continue
        pairs = [(trainable.named[name].detach(), start[name]) for name in names]
        change = sum(float((x - y).square().sum()) for x, y in pairs)
        size = sum(float(y.square().sum()) for _, y in pairs)
        found[layer] = (change / max(size, 1e-12)) ** 0.5
    return found


def _module(pipe: Any, layer: str) -> Any:
    component, _, place = layer.partition(".")
    return getattr(pipe, component).get_submodule(place)


def _write(path: pathlib.Path, key: str, scores: dict[str, list[float]], recipe: FairTl) -> None:
    """Writes scores, what follows from them, a table and a plot."""
    assert recipe.probing is not None
    from scipy.stats import spearmanr

    columns = list(zip(*scores.values(), strict=True))
    pairs = [(i, j) for i in range(len(columns)) for j in range(i)]
    ranked: Any = spearmanr
    alike = any(len(set(column)) == 1 for column in columns)  # an order of no layers
    agreement = (
        0.0
        if alike
        else statistics.mean(float(ranked(columns[i], columns[j])[0]) for i, j in pairs)
    )
    order = sorted(scores, key=lambda layer: -statistics.mean(scores[layer]))
    found = {
        "of": key,
        "model": recipe.model,
        "trained": recipe.trained.model_dump(mode="json"),
        "measuring": recipe.probing.model_dump(mode="json", exclude={"scores"}),
        "rank_correlation": round(agreement, 3),
        "stable": agreement > STABLE,
        "first": _first(order, recipe.probing.layers),
        "scores": {layer: [round(x, 8) for x in scores[layer]] for layer in order},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".md"), table(found))
    plot(path.with_suffix(".svg"), found)
    write_json(path, found)
