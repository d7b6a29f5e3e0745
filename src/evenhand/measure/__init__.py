"""Measuring: whom do these images show? Images of a generator, or images made elsewhere."""

import os
from collections.abc import Callable

from evenhand.core.errors import UserError
from evenhand.core.work import Share, share_of
from evenhand.measure.plan import FolderPlan, plan
from evenhand.recipes.measure import Measure
from evenhand.reports.models import Report

__all__ = ["measure", "plan"]


def measure(
    config: Measure,
    folder: str | os.PathLike,
    *,
    share: Share | None = None,
    progress: Callable[[int, int], None] | None = None,
    judge_may_be_trainer: bool = False,
    pictures: bool = True,
) -> Report | None:
    """Measures into a run directory and returns the report.

    Processes that measure the same into one folder share the work, whether a launcher (torchrun,
    accelerate, Slurm) started them, two people typed the command twice, or one goes on where others
    were killed.

    Args:
        config: what to measure.
        folder: run directory; a run of the same settings in it is continued.
        share: of this process in the work; what its launcher says when None.
        progress: called with (images done, images in all).
        judge_may_be_trainer: judge even an adapter that was trained against the judge.
        pictures: put some of the images into the report's page.

    Returns:
        the report; None in processes that do not write it: those of a launcher but the first, and
        shards of an unfinished run.

    Raises:
        UserError: bad settings, another run's folder, or a judge that trained the adapter.
    """
    share = share or share_of()
    if share.only and config.until:
        raise UserError(
            "--until decides by the images of all processes: start several of the same command, "
            "or torchrun, instead of --shard"
        )
    planned = plan(config)
    if isinstance(planned, FolderPlan):
        from evenhand.measure.folder import measure_folder

        return measure_folder(planned, folder, share=share, progress=progress, pictures=pictures)
    from evenhand.measure.generator import measure_generator

    return measure_generator(
        planned,
        folder,
        share=share,
        progress=progress,
        judge_may_be_trainer=judge_may_be_trainer,
        pictures=pictures,
    )
