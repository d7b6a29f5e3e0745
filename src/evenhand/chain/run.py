"""The stages of a chain, one after the other; each is the public function of its verb."""

import contextlib
import os
import pathlib
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from evenhand.adapt import train
from evenhand.adapt.progress import told
from evenhand.chain.models import ChainReport
from evenhand.chain.page import write_page
from evenhand.chain.plan import Planned, plan, with_sets
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
from evenhand.measure import measure
from evenhand.recipes.chain import Chain, Drawings
from evenhand.recipes.classify import Classify
from evenhand.recipes.generate import Generate
from evenhand.recipes.measure import Measure
from evenhand.training.run_directory import peak_memory

EVERY = 5.0  # seconds between two notes of what a stage has cost so far
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

    Raises:
        UserError: whatever is wrong with the chain or a stage; a stage that was done with other
            settings, each difference named.
    """
    _refuse_several_processes()
    folder = pathlib.Path(folder)
    stages = plan(config, data_of(config, folder))
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
            shutil.rmtree(folder / again, ignore_errors=True)
        if isinstance(config.data, Drawings):
            _draw(config.data, folder)
        for planned in stages:
            if not is_done(folder, planned):
                _do(planned, config, folder, progress)
        report = build(name, stages, folder)
        write_json(folder / "chain.json", report.as_json())
        write_page(folder / "chain.html", report)
    return report


def data_of(config: Chain, folder: pathlib.Path) -> str:
    """The path of a chain's real images."""
    if isinstance(config.data, str):
        return config.data
    return str(pathlib.Path(folder).absolute() / "data.parquet")


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
    found = {name: made_by(verb, folder / name) for name, verb in planned.stage.needs.items()}
    return {name: made or "nothing" for name, made in found.items()}


def _begun(planned: Planned, needs: dict[str, str]) -> StageRecord:
    """The record of a stage that begins."""
    return StageRecord(verb=planned.stage.verb, settings=planned.settings, needs=needs)


def _do(planned: Planned, config: Chain, folder: pathlib.Path, progress: Progress) -> None:
    """Does a stage, or what is left of it, and keeps what it cost."""
    name, verb = planned.name, planned.stage.verb
    before, record = read_record(folder, name), _begun(planned, _needs(folder, planned))
    spent = before.seconds if before else 0.0
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

        _by_its_verb(planned, config, folder, tell)
    made = made_by(verb, folder / name)
    write_record(folder, name, record.model_copy(update={**cost(), "made": made}))


def _by_its_verb(planned: Planned, config: Chain, root: pathlib.Path, tell: Update) -> None:
    """The public function of the verb, with what the stages before it made."""
    name, stage, recipe = planned.name, planned.stage, planned.config
    folder = root / name
    adapters = {other: str((root / other / "adapter").absolute()) for other in stage.adapters}
    if isinstance(recipe, Measure):
        used = {"adapter": next(iter(adapters.values()))} if adapters else {}
        measure(recipe.model_copy(update=used), folder, progress=tell)
    elif isinstance(recipe, Generate):
        paths = zip(recipe.adapters, adapters.values(), strict=False)
        used = [use.model_copy(update={"name": path}) for use, path in paths] or recipe.adapters
        command = shlex.join(["evenhand", "generate", stage.recipe, *stage.set])
        with_adapters = recipe.model_copy(update={"adapters": used})
        generate(with_adapters, folder, progress=tell, command=command)
    elif isinstance(recipe, Classify):
        sets = {label: str((root / other).absolute()) for label, other in stage.sets.items()}
        classify(with_sets(recipe, sets), data_of(config, root), folder, progress=tell)
    else:
        train(recipe, folder, name=stage.recipe, progress=told(recipe, tell))


def _draw(drawings: Drawings, folder: pathlib.Path) -> None:
    """Draws the real images of a chain of the embedded world, once."""
    path, said = folder / "data.parquet", folder / "data.json"
    settings = drawings.model_dump(mode="json")
    if path.is_file() and said.is_file():
        if read_json(said, what="the settings of drawings") == settings:
            return
        raise UserError(
            f"{path}: was drawn with other settings: name another directory with --out, or delete "
            "it: the stages that read it are then refused where they were done"
        )
    write_drawings(path, drawings.drawings, drawings.splits, drawings.seed)
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
