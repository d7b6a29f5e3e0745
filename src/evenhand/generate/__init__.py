"""Image sets on demand: so many images of each cell, each judged, and proof of what they are."""

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evenhand.core.errors import UserError
from evenhand.core.work import Share, share_of
from evenhand.generate.fill import Filled, Tell, fill, quiet
from evenhand.generate.plan import SetPlan, plan
from evenhand.generate.report import SetReport
from evenhand.generate.sizes import WishedSize, claim_sizes, sizes_with
from evenhand.recipes.generate import Generate

if TYPE_CHECKING:
    from evenhand.diffusion.generators import Generator

__all__ = ["generate", "plan", "preview"]


def generate(
    config: Generate,
    folder: str | os.PathLike,
    *,
    share: Share | None = None,
    progress: Tell = quiet,
    judge_may_be_trainer: bool = False,
    pictures: bool = True,
    command: str = "",
) -> SetReport:
    """Makes an image set in a folder and returns what it holds.

    Processes that make the same set in one folder share the work; killed at any moment, the same
    call goes on and makes the same set. A set of a larger size continues the one that is there.

    Args:
        config: the recipe.
        folder: run directory, which becomes the dataset.
        share: of this process in the work; what its launcher says when None.
        progress: called with images drawn, images to draw so far, and a note.
        judge_may_be_trainer: judge even what an adapter draws that was trained against the judge.
        pictures: put some of the images into the page.
        command: that makes the set again, for its card.

    Raises:
        UserError: bad settings, another set's folder, or a judge that trained an adapter.
    """
    from evenhand.generate.finish import finish
    from evenhand.measure.generator import ANSWERS

    share = share or share_of()
    planned, sizes, do, settings = _started(config, folder, judge_may_be_trainer)
    folder = pathlib.Path(folder)
    command = command or "evenhand generate RECIPE"
    while True:
        filled = fill(planned, sizes, folder, do, share=share, tell=progress)
        found = finish(planned, sizes, filled, folder, settings, command=command, pictures=pictures)
        if found:
            shutil.rmtree(folder / ANSWERS, ignore_errors=True)
            return found


def preview(
    config: Generate,
    folder: str | os.PathLike,
    images: int,
    *,
    progress: Tell = quiet,
    judge_may_be_trainer: bool = False,
) -> pathlib.Path:
    """Draws a few images of each cell into a page, taken or not; returns the page.

    Args:
        config: the recipe.
        folder: of the preview, not of the set.
        images: of each place.
        progress: as of `generate`.
        judge_may_be_trainer: as of `generate`.
    """
    from evenhand.generate.page import write_page
    from evenhand.generate.summary import summary

    values = config.model_dump()
    few = {"per_cell": images, "images": None, "shares": {}, "joint": {}, "budget": None}
    kept = {"filter": {**values["filter"], "rejected": "keep"}, "splits": {"train": 1.0}}
    config = Generate.model_validate({**values, **few, **kept})
    planned, sizes, do, settings = _started(config, folder, judge_may_be_trainer)
    folder = pathlib.Path(folder)
    filled: Filled = fill(planned, sizes, folder, do, tell=progress, rounds=1)
    found = summary(planned, sizes, filled, settings)
    page = folder / "preview.html"
    write_page(page, folder, found, filled.ledger.entries, True, preview=True)
    return page


def _started(
    config: Generate, folder: str | os.PathLike, judge_may_be_trainer: bool
) -> tuple[SetPlan, list[WishedSize], Callable[..., str], dict[str, Any]]:
    """The plan, its sizes, what does a unit, and the settings of the run, all checked."""
    from evenhand.devices import default_device
    from evenhand.generate.drawing import UnitDrawer, generators
    from evenhand.generate.found import Finder, plan_of_folder
    from evenhand.generate.writing import written
    from evenhand.judges.perceive import judge_is_trainer, with_digest
    from evenhand.judges.registry import load_judge
    from evenhand.measure.generator import ANSWERS
    from evenhand.training.run_directory import check_run, claim_run

    if config.from_images:
        planned, pictures = plan_of_folder(config)
        device = default_device()
        judge = load_judge(planned.judge, device=device)
        settings = with_digest(planned.settings, judge)
    else:
        contexts = written(config, pathlib.Path(folder))
        planned, pictures = plan(config, contexts.texts if contexts else None), []
        generator = generators(planned, pathlib.Path(folder) / ANSWERS)
        first = generator(planned.streams[0].adapter)
        _refuse_cut(first, planned)
        device = first.device
        judge = load_judge(planned.judge, device=device)
        trained = judge_is_trainer(judge, planned.adapters, allowed=judge_may_be_trainer)
        told = {"refused_contexts": dict(contexts.refused)} if contexts else {}
        source = {"source": first.source, **told}
        settings = {**with_digest(planned.settings, judge), **trained, **source}
    folder = check_run(folder, settings)
    sizes = sizes_with(folder, WishedSize(planned.quotas, planned.budget))

    def claim() -> None:
        claim_run(folder, settings)
        claim_sizes(folder, sizes)

    if config.from_images:
        find = Finder(planned, judge, device, settings, pictures, claim)
        return planned, sizes, find, settings
    drawer = UnitDrawer(planned, judge, device, settings, folder, generator, claim)
    return planned, sizes, drawer, settings


def _refuse_cut(generator: "Generator", planned: SetPlan) -> None:
    """Raises UserError where the model does not read a prompt to its end: it may say the class."""
    from evenhand.diffusion.pipeline import Diffusion
    from evenhand.diffusion.tokens import cut_short

    texts = [prompt.text for stream in planned.streams for prompt in stream.prompts]
    if isinstance(generator, Diffusion) and (cut := cut_short(generator, texts)):
        raise UserError(
            f"contexts: the model does not read all of {len(cut)} prompts, such as {cut[0]!r}; "
            "shorten the contexts, or the prompt"
        )
