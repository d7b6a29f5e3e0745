"""The stages of a chain, one after the other; each is the public function of its verb."""

import contextlib
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from evenhand.adapt import train
from evenhand.adapt.progress import in_words
from evenhand.chain.models import ChainReport
from evenhand.chain.page import write_page
from evenhand.chain.plan import DRAWN, Planned, data_of, plan, with_sets
from evenhand.chain.records import (
    StageRecord,
    made_by,
    path_of,
    read_record,
    refuse_other,
    write_record,
)
from evenhand.chain.report import build
from evenhand.classify.run import classify
from evenhand.core.errors import UserError
from evenhand.core.files import clear_stale, write_json
from evenhand.core.locks import exclusive
from evenhand.core.schema import read_json
from evenhand.emoji.drawings import write_drawings
from evenhand.generate import generate
from evenhand.generate.reference import reference
from evenhand.measure import measure
from evenhand.recipes.chain import Chain, Drawings, Stage
from evenhand.recipes.classify import Classify
from evenhand.recipes.generate import Generate
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import load_model
from evenhand.training.run_directory import peak_memory

EVERY = 5.0  # seconds between two notes of what a stage has cost so far
T = TypeVar("T", Measure, Generate)
Update = Callable[..., None]  # (done, total, note)
Progress = Callable[[str], AbstractContextManager[Update]]


@contextlib.contextmanager
def quiet(words: str) -> Iterator[Update]:
    """Tells nobody how far a stage is."""
    yield lambda *_: None


def chain(
    config: Chain,
    folder: str | os.PathLike,
    *,
    name: str = "",
    start: str | None = None,
    progress: Progress = quiet,
    command: str = "",
) -> ChainReport:
    """Does the stages of a chain that are not done yet, and writes the page of all of them.

    Killed at any moment, the same call goes on. Each stage lies in a folder of its name, a run
    directory of its verb: one that was done there by the verb itself is taken as it is.

    Args:
        config: the chain.
        folder: of the stages, of `chain.json` and `chain.html`.
        name: of the chain, for the page.
        start: stage that is made anew, with those that build on it; what they made is removed.
        progress: called with a stage in words; a context that gives the function to tell how far it
            is.
        command: that runs the chain again, for the cards of its sets.

    Raises:
        UserError: whatever is wrong with the chain or a stage; a stage that was done with other
            settings, each difference named.
    """
    _refuse_several_processes()
    folder = pathlib.Path(folder)
    stages = plan(config, folder)
    redone = config.after(start) if start else []
    _refuse_foreign(folder)
    for planned in stages:
        before = read_record(folder, planned.name)
        if before and before.made and planned.name not in redone:
            refuse_other(folder, planned.name, before, _begun(planned, before.needs))
    with exclusive(folder, "running a chain"):
        clear_stale(folder)
        for again in redone:
            path_of(folder, again).unlink(missing_ok=True)
            _remove(folder / again)
        if isinstance(config.data, Drawings):
            _draw(config.data, folder)
        for planned in stages:
            if not is_done(folder, planned):
                _do(planned, config, folder, progress, command or "evenhand chain CHAIN")
        report = build(name, stages, folder)
        write_json(folder / "chain.json", report.as_json())
        write_page(folder / "chain.html", report)
    return report


def _remove(folder: pathlib.Path) -> None:
    """Removes a stage's folder, or leaves none of it under its name where that is cut."""
    away = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(away, ignore_errors=True)
    if folder.exists():
        folder.rename(away)
        shutil.rmtree(away)


def is_done(folder: pathlib.Path, planned: Planned) -> bool:
    """Whether a stage is done, with these settings, and on what is there now.

    Raises:
        UserError: it was done with others.
    """
    before = read_record(folder, planned.name)
    made = made_by(planned.stage.verb, folder / planned.name)
    if before is None or before.made is None or before.made != made:
        return False
    refuse_other(folder, planned.name, before, _begun(planned, _needs(folder, planned)))
    return True


def _needs(folder: pathlib.Path, planned: Planned) -> dict[str, str]:
    """Digests of what the stages made that a stage builds on."""
    found = {name: made_by(verb, folder / name) for name, verb in planned.needs.items()}
    return {name: made or "nothing" for name, made in found.items()}


def _begun(planned: Planned, needs: dict[str, str]) -> StageRecord:
    """The record of a stage that begins."""
    return StageRecord(verb=planned.stage.verb, settings=planned.settings, needs=needs)


def _do(
    planned: Planned, config: Chain, folder: pathlib.Path, progress: Progress, command: str
) -> None:
    """Does a stage, or what is left of it, and keeps what it cost."""
    name, verb = planned.name, planned.stage.verb
    before, record = read_record(folder, name), _begun(planned, _needs(folder, planned))
    spent = before.seconds if before and (folder / name).exists() else 0.0
    started = noted = time.monotonic()

    def cost() -> dict[str, Any]:
        seconds = round(spent + time.monotonic() - started, 1)
        return {"seconds": seconds, "memory": peak_memory()}

    with progress(f"{name}: {verb} {planned.stage.recipe}") as update:

        def tell(done: int, total: int, note: str | None = None) -> None:
            nonlocal noted
            if time.monotonic() - noted > EVERY:
                noted = time.monotonic()
                write_record(folder, name, record.model_copy(update=cost()))
            update(done, total, note)

        _by_its_verb(planned, config, folder, tell, command)
    made = made_by(verb, folder / name)
    write_record(folder, name, record.model_copy(update={**cost(), "made": made}))


def _by_its_verb(
    planned: Planned, config: Chain, root: pathlib.Path, tell: Update, command: str
) -> None:
    """The public function of the verb, with what the stages before it made."""
    name, stage, recipe = planned.name, planned.stage, planned.config
    folder = root / name
    if isinstance(recipe, Measure):
        measure(adapted(recipe, stage, root), folder, progress=tell)
    elif isinstance(recipe, Generate):
        draw = generate if stage.verb == "generate" else reference
        again = f"{command} --from {name}"
        draw(adapted(recipe, stage, root), folder, progress=tell, command=again)
    elif isinstance(recipe, Classify):
        sets = {label: str((root / other).absolute()) for label, other in stage.sets.items()}
        classify(with_sets(recipe, sets), data_of(config, root), folder, progress=tell)
    else:
        train(recipe, folder, name=stage.recipe, progress=in_words(recipe, tell))


def adapted(recipe: T, stage: Stage, root: pathlib.Path) -> T:
    """The recipe with what its training stages made: adapters, or a model of all its weights.

    Raises:
        UserError: a model and another adapter shall be loaded together.
    """
    made = [(root / other).absolute() for other in stage.adapters]
    models = [str(path / "model") for path in made if (path / "model").is_dir()]
    if models and len(made) > 1:
        raise UserError(f"{models[0]}: is a whole model, to which no other adapter is added")
    if models:  # a folder has no YAML that says judge and sampler: as of the model it comes from
        base = load_model(recipe.model or "")
        settings = base.sampling(recipe.settings).model_dump(mode="json", exclude_defaults=True)
        used = {"model": models[0], "settings": settings, "judge": recipe.judge or base.judge}
        measured = isinstance(recipe, Measure)
        alone = {"adapter": None, "domain": recipe.domain or base.domain} if measured else {}
        return recipe.model_copy(update={**used, **(alone or {"adapters": []})})
    paths = [str(path / "adapter") for path in made]
    if isinstance(recipe, Generate) and paths:
        pairs = zip(recipe.adapters, paths, strict=True)
        uses = [use.model_copy(update={"name": path}) for use, path in pairs]
        return recipe.model_copy(update={"adapters": uses})
    return recipe.model_copy(update={"adapter": paths[0]}) if paths else recipe


def _draw(drawings: Drawings, folder: pathlib.Path) -> None:
    """Draws the real images of a chain of the embedded world, once."""
    path, said = folder / DRAWN, folder / "data.json"
    settings = drawings.model_dump(mode="json")
    if path.is_file() and said.is_file():
        if read_json(said, what="the settings of drawings") == settings:
            return
        raise UserError(
            f"{path}: was drawn with other settings: name another directory with --out, or delete "
            "it: the stages that read it are then refused where they were done"
        )
    splits = {str(name): n for name, n in drawings.splits.items()}
    write_drawings(path, drawings.drawings, splits, drawings.seed)
    write_json(said, settings)


def _refuse_foreign(folder: pathlib.Path) -> None:
    """Raises UserError where a folder holds something else than a chain."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a directory with --out")
    if (folder / "run.json").exists():
        raise UserError(f"{folder}: holds a run of another verb; name another with --out")


def _refuse_several_processes() -> None:
    """Raises UserError where a launcher started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "a chain is run by one process. A stage may be done in several by its own verb, with "
            "--out CHAIN/STAGE: the chain takes it as it is"
        )
