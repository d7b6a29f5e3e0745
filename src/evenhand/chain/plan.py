"""What a chain will do. Names are looked up here; no model is loaded, nothing is written."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evenhand.core.errors import UserError, unknown
from evenhand.core.prompts import load_prompts
from evenhand.core.resources import find_yaml, one_spelling
from evenhand.core.schema import Strict, check, merged, override, read_yaml
from evenhand.emoji.world import load_world
from evenhand.generate.plan import COLUMNS
from evenhand.generate.plan import plan as plan_set
from evenhand.measure.plan import plan as plan_measurement
from evenhand.recipes.chain import DATA, DRAWING, Chain, Drawings, Stage, Verb
from evenhand.recipes.classify import WITHOUT_SYNTHETIC, Classify, load_classify
from evenhand.recipes.generate import Generate, load_generate
from evenhand.recipes.measure import Measure
from evenhand.recipes.methods import load_training
from evenhand.recipes.model import load_model

DRAWN = "data.parquet"  # real images of the embedded world, in the chain's folder
PENDING = "adapter of stage"  # in a recipe, until the stage has made it


@dataclass(frozen=True)
class Planned:
    """A stage, its names found.

    Attributes:
        name: of the stage.
        stage: as the chain has it.
        config: the recipe with its changes; adapters and sets of other stages are not in it yet.
        settings: everything that its result depends on besides the stages it builds on, JSON
            values.
        needs: the stages that it builds on, with their verbs.
        wished: images of a set; 0 where that is not known yet.
    """

    name: str
    stage: Stage
    config: Any  # of the verb's own schema
    settings: dict[str, Any]
    needs: dict[str, Verb] = dataclasses.field(default_factory=dict)
    wished: int = 0


def plan(chain: Chain, folder: pathlib.Path) -> list[Planned]:
    """Finds every unknown name and impossible value of all stages, before the first one begins.

    Args:
        chain: what is asked for.
        folder: of its stages, which need not be there yet.

    Raises:
        UserError: what is unknown or impossible, and in which stage.
    """
    found: dict[str, Planned] = {}
    _check_data(chain)
    paths = {DATA: data_of(chain, folder)}
    for name, stage in chain.stages.items():
        pairs = [_replaced(pair, paths) for pair in stage.set]
        try:
            one = _planned(name, stage.model_copy(update={"set": pairs}), found)
        except UserError as error:
            raise UserError(f"stages.{name}: {error}") from error
        said = _replaced(
            json.dumps(one.settings), {json.dumps(p)[1:-1]: k for k, p in paths.items()}
        )
        settings = {**json.loads(said), **({"data": _said(chain)} if DATA in said else {})}
        needs = chain.needs(name)
        found[name] = dataclasses.replace(one, stage=stage, settings=settings, needs=needs)
        paths[f"{{{name}}}"] = str((folder / name).absolute())
    return list(found.values())


def data_of(chain: Chain, folder: pathlib.Path) -> str:
    """The path of a chain's real images."""
    return chain.data if isinstance(chain.data, str) else str((folder / DRAWN).absolute())


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def _planned(name: str, stage: Stage, before: Mapping[str, Planned]) -> Planned:
    if stage.verb == "train":
        config = load_training(stage.recipe, stage.set)
        load_model(config.model)
        return Planned(name, stage, config, {**_values(config), "texts": _texts(config)})
    if stage.verb == "measure":
        return _measurement(name, stage, before)
    if stage.verb in DRAWING:
        return _set(name, stage, before)
    return _classifiers(name, stage, before)


def _measurement(name: str, stage: Stage, before: Mapping[str, Planned]) -> Planned:
    given = stage.measure
    values = read_yaml(find_yaml("eval/protocols", given)) if isinstance(given, str) else given
    values = override(values or {}, stage.set)
    if stage.adapters:
        if values.get("adapter"):
            raise UserError("the adapter is named by the recipe and by the stage; leave one out")
        values["adapter"] = f"{PENDING} {stage.adapter}"
    config = check(Measure, values, where="measure")
    alone = {"adapter": None, "adapter_scale": 1.0}
    planned = plan_measurement(config.model_copy(update=alone) if stage.adapters else config)
    _refuse_other_models(config.model, stage, before)
    settings = {**planned.settings, "adapter_scale": config.adapter_scale}
    return Planned(name, stage, config, settings)


def _set(name: str, stage: Stage, before: Mapping[str, Planned]) -> Planned:
    uses = [{**how, "name": f"{PENDING} {other}"} for other, how in stage.adapters.items()]
    if uses and any(pair.startswith("adapters") for pair in stage.set):
        raise UserError("adapters are named by set and by the stage; leave one out")
    pairs = [f"adapters={json.dumps(uses)}"] if uses else []
    config = load_generate(stage.recipe, [*stage.set, *pairs])
    wished = 0
    if not config.from_images and not config.contexts.writer and config.cells_by != "adapters":
        alone = config.model_copy(update={"adapters": []}) if stage.adapters else config
        wished = sum(plan_set(alone).quotas.values())
    _refuse_other_models(config.model, stage, before)
    model = one_spelling(config.model) if config.model else None
    settings = {**_values(config), "model": model}
    return Planned(name, stage, config, settings, wished=wished)


def _classifiers(name: str, stage: Stage, before: Mapping[str, Planned]) -> Planned:
    config = load_classify(stage.recipe, stage.set)
    variants = with_sets(config, dict.fromkeys(stage.sets, "")).each()
    needing = [v for v, one in variants.items() if one.arm not in WITHOUT_SYNTHETIC]
    if stage.sets and not needing:
        raise UserError(f"{stage.recipe}: no variant takes synthetic images; leave sets out")
    for other in stage.sets.values():
        _check_labels(config, before[other].config, other)
        most = max([one.synthetic.images or 0 for one in variants.values() if one.synthetic] or [0])
        if most > before[other].wished > 0:
            raise UserError(
                f"synthetic.images: the arms take {most} images, and the set of {other!r} shall "
                f"have {before[other].wished}; ask for more there, or take fewer"
            )
    return Planned(name, stage, config, {**_values(config), "data": DATA})


def _check_data(chain: Chain) -> None:
    """Raises UserError where real images are drawn that nobody can draw, or are not there."""
    if isinstance(chain.data, Drawings):
        for occupation in chain.data.drawings:
            if occupation not in load_world().occupations:
                raise unknown("occupation", occupation, load_world().occupations, where="data")
        return
    data = chain.data or ""
    mine = data.startswith((".", "/")) or pathlib.Path(data).suffix  # else it may be a Hub name
    if data and mine and not pathlib.Path(data).exists():
        raise UserError(f"data: {data}: no such file or folder")


def _said(chain: Chain) -> Any:
    """The real images as the settings of classifiers name them."""
    if isinstance(chain.data, Drawings):
        return chain.data.model_dump(mode="json")
    return one_spelling(chain.data or "")


def with_sets(recipe: Classify, paths: Mapping[str, str]) -> Classify:
    """The recipe with every variant that needs synthetic images once for each set.

    Args:
        recipe: with its variants, or one that stands alone.
        paths: of the sets, by the name that their variants get where there are several.
    """
    if not paths:
        return recipe
    found: dict[str, dict[str, Any]] = {}
    changes = recipe.variants or {next(iter(recipe.each())): {}}
    for variant, one in recipe.each().items():
        if one.arm in WITHOUT_SYNTHETIC:
            found[variant] = {**changes[variant], "synthetic": None}
            continue
        for label, path in paths.items():
            name = f"{variant}, {label}" if len(paths) > 1 else variant
            found[name] = merged(changes[variant], {"synthetic": {"path": path}})
    return recipe.model_copy(update={"variants": found})


def _check_labels(recipe: Classify, made: Generate, stage: str) -> None:
    """Refuses a set that cannot have the columns that the classifiers read of it.

    Raises:
        UserError: names the column, and those that the set will have.
    """
    known, own = recipe.synthetic, [*made.cells, *COLUMNS]
    for place in ("target", "protected"):
        labels = (getattr(known, place) if known else None) or getattr(recipe, place)
        if labels.column not in own:
            raise unknown("column", labels.column, own, where=f"{place}, in the set of {stage}")


def _refuse_other_models(model: str | None, stage: Stage, before: Mapping[str, Planned]) -> None:
    """Raises UserError where an adapter was trained for another model than draws here."""
    for other in stage.adapters:
        trained = getattr(before[other].config, "model", None)
        if model is None or one_spelling(trained or "") != one_spelling(model):
            raise UserError(
                f"stage {other!r} trains an adapter of the model {trained!r}, and this stage draws "
                f"with {model!r}; name the same model"
            )


def _values(config: Strict) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _texts(config: Strict) -> dict[str, str]:
    """The digests of the prompt sets that a training names."""
    named = getattr(config, "prompts", None) or []
    names = [named] if isinstance(named, str) else list(named)
    return {one_spelling(name): load_prompts(name).digest for name in names}
