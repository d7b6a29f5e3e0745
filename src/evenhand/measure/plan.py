"""What a measurement will draw and judge.

Names are looked up here and nowhere after; no model is loaded.
"""

import pathlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evenhand.core.adapters import Mix, find_mix
from evenhand.core.attributes import Target
from evenhand.core.errors import UserError, unknown
from evenhand.core.files import digest
from evenhand.core.prompts import Prompt, Row, load_prompts
from evenhand.core.resources import one_spelling
from evenhand.core.schema import check
from evenhand.images.folders import LeftOut, by_folder
from evenhand.images.tables import Picture, printable, read_table
from evenhand.measure.rows import rows_of
from evenhand.recipes.judge import JudgeConfig, find_judge
from evenhand.recipes.measure import NO_CALIBRATION, Measure
from evenhand.recipes.model import Model, load_model
from evenhand.stats.calibration import Calibration, read_calibration
from evenhand.stats.stopping import LOOK


@dataclass(frozen=True)
class Plan:
    """A measurement, ready to run.

    Attributes:
        config: what was asked for.
        judge: who judges.
        settings: everything that the result depends on, JSON values; what only the loaded models
            know is added later.
    """

    config: Measure
    judge: JudgeConfig
    settings: dict[str, Any]


@dataclass(frozen=True)
class GeneratorPlan(Plan):
    """Of a generator: the model, its adapters, and prompts and seeds in order."""

    model: Model
    adapters: Mix
    rows: list[Row]

    def rounds(self) -> list[list[Row]]:
        """The rows of each round.

        There is one round, of all rows; where prompts may stop (`until`), each round holds the next
        few images of every prompt.
        """
        if not self.config.until:
            return [self.rows]
        place: dict[str, int] = {}
        looks: dict[int, list[Row]] = {}
        for prompt, seed in self.rows:
            place[prompt.text] = place.get(prompt.text, -1) + 1
            looks.setdefault(0 if prompt.states else place[prompt.text] // LOOK, []).append(
                (prompt, seed)
            )
        return [looks[k] for k in sorted(looks)]


@dataclass(frozen=True)
class FolderPlan(Plan):
    """Of images that are there already; what of the folder is left out, and why."""

    pictures: list[Picture]
    left_out: list[LeftOut]


def plan(config: Measure) -> GeneratorPlan | FolderPlan:
    """Finds every unknown name and impossible value.

    Raises:
        UserError: what is unknown or impossible, and what is known instead.
    """
    return (
        _of_folder(config, config.images_from)
        if config.images_from
        else _of_generator(config, config.model or "")
    )


def _of_generator(config: Measure, name: str) -> GeneratorPlan:
    model, sets = load_model(name), {name: load_prompts(name) for name in config.prompts}
    judge = _judge(
        config,
        config.judge or model.judge,
        f"model {config.model!r} names no judge; name a classifier with --judge",
    )
    settings = model.sampling(config.settings)
    if model.endpoint and config.strengths:
        names = ", ".join(config.strengths)
        raise UserError(f"--adapter {names}: model {config.model!r} is a service")
    adapters = find_mix(config.strengths)
    rows, left_out, shared = rows_of(config, sets.values(), judge)
    target = _target(config, judge, (prompt for prompt, _ in rows))
    place = one_spelling(name)
    return GeneratorPlan(
        config,
        judge,
        {
            "model": place,
            "dtype": model.dtype,
            **({"saving": model.saving} if model.saving else {}),
            **adapters.settings,
            "prompts": {one_spelling(name): s.version for name, s in sets.items()},
            "texts": {one_spelling(name): s.digest for name, s in sets.items()},
            "splits": config.splits,
            "images": config.images,
            "explicit_images": config.explicit_images,
            "seed": config.seed,
            "batch": config.batch,
            **({"until": {"width": config.until, "every": LOOK}} if config.until else {}),
            **({"left_out": left_out} if left_out else {}),
            **({"shared": shared} if shared else {}),
            "settings": settings.model_dump(mode="json"),
            **_judging(config, judge, config.domain or model.domain or pathlib.Path(place).name),
            "target": target,
        },
        model,
        adapters,
        rows,
    )


def _of_folder(config: Measure, folder: str) -> FolderPlan:
    where = pathlib.Path(folder).resolve()
    if printable(where) != str(where):
        raise UserError(f"{printable(where)}: its name is not UTF-8; rename it")
    judge = _judge(
        config,
        config.judge,
        "images made elsewhere have no judge of their own: name a classifier with --judge",
    )
    if config.prompts:
        pictures, left_out = read_table(config.prompts[0], folder), []
    else:
        pictures, left_out = by_folder(folder)
    names = config.attributes or list(judge.known)
    for picture in pictures:
        _check_states(picture.prompt, names, judge)
    return FolderPlan(
        config,
        judge,
        {
            "images_from": str(where),
            "source": f"folder:{where}",
            "seed": config.seed,
            "prompts": dict.fromkeys(map(one_spelling, config.prompts), "table"),
            "texts": {one_spelling(name): digest(name) for name in config.prompts},
            "splits": [],
            **_judging(config, judge, config.domain or where.name),
            "target": _target(config, judge, (picture.prompt for picture in pictures)),
        },
        pictures,
        left_out,
    )


def _check_states(prompt: Prompt, names: list[str], judge: JudgeConfig) -> None:
    """Refuses a class that a table says and the judge does not know.

    Its images would be in no number.
    """
    for a in prompt.states.keys() & set(names):
        if prompt.states[a] not in judge.known[a].classes:
            raise unknown(
                "class",
                prompt.states[a],
                judge.known[a].classes,
                where=f"states.{a} of {prompt.text!r}",
            )


def _judge(config: Measure, name: str | None, missing: str) -> JudgeConfig:
    if not name:
        raise UserError(missing)
    judge = find_judge(name)
    for attribute in config.attributes:
        if attribute not in judge.known:
            raise unknown("attribute", attribute, judge.known, where=f"judge {name!r}")
    names = config.attributes or list(judge.known)
    for attribute in config.target:
        if attribute in judge.known and attribute not in names:
            raise UserError(
                f"target of {attribute!r}: it is not among the attributes measured "
                f"({', '.join(names)}); add it to --attributes, or leave the target out"
            )
    if config.joint and len(names) < 2:
        raise UserError(
            f"--joint counts the combinations of several attributes, and {names[0]!r} is measured "
            "alone: name another with --attributes"
        )
    return judge


def _target(config: Measure, judge: JudgeConfig, prompts: Iterable[Prompt]) -> dict[str, Any]:
    """The shares asked for, JSON values by attribute.

    Raises:
        UserError: shares that do not sum to 1, a class that the judge does not know, or a concept
            that its table lacks.
    """
    if not config.target:
        return {}
    target = check(Target, {"shares": config.target}, where="target")
    target.check(judge.known)
    target.check_concepts(prompt.concept for prompt in prompts if not prompt.states)
    shares = target.model_dump(mode="json")["shares"]
    return {a: shares[a] for a in config.attributes or judge.known if a in shares}


def _judging(config: Measure, judge: JudgeConfig, domain: str) -> dict[str, Any]:
    """The settings that say what is perceived, by whom, and how that judge errs."""
    names = config.attributes or list(judge.known)
    left_out = config.calibration == NO_CALIBRATION
    calibration = calibration_of(judge, names, config.calibration)
    return {
        "judge": {"name": one_spelling(judge.name)},
        "concept": judge.concept,
        "domain": domain,
        "attributes": {name: judge.attributes[name] for name in names},
        "calibration": calibration.model_dump(mode="json") if calibration else None,
        **({"calibration_left_out": True} if left_out else {}),
        **({"joint": True} if config.joint else {}),
    }


def calibration_of(judge: JudgeConfig, names: list[str], given: str | None) -> Calibration | None:
    """How a judge errs about some attributes, as far as that is known.

    Args:
        judge: who errs.
        names: of the attributes.
        given: the file; the one beside the judge when None; `none` for no calibration.

    Raises:
        UserError: the file that was given cannot be read, or corrects nothing.
    """
    file = None if given == NO_CALIBRATION else given or judge.beside("calibration.json")
    found = read_calibration(file).of(names) if file else None
    if given and found:
        for name in names:
            found.confusion(judge.known[name])  # what cannot be corrected is refused now
    return found
