"""Making a set in tasks of datatrove's executors."""

import functools
import os
import pathlib
from typing import Any

from evenhand.core.work import Share
from evenhand.generate.plan import plan
from evenhand.measure.executors import check_executor, run_tasks
from evenhand.recipes.generate import Generate


def execute(
    config: Generate,
    folder: str | os.PathLike,
    kind: str,
    tasks: int,
    options: list[str],
    *,
    command: str,
    pictures: bool = True,
    judge_may_be_trainer: bool = False,
) -> None:
    """Runs the work in tasks of an executor; tasks help each other, so none waits for a dead one.

    Args:
        config: the recipe.
        folder: run directory, which every task must reach.
        kind: `local`, `slurm` or `ray`.
        tasks: number of shards.
        options: further arguments of the executor, `name=value`.
        command: that makes the set again, for its card.
        pictures: put some of the images into the page.
        judge_may_be_trainer: judge even what an adapter draws that was trained against the judge.

    Raises:
        UserError: as `evenhand.measure.executors.run_tasks`.
    """
    check_executor(kind)
    if not (config.from_images or config.contexts.writer):
        plan(config)  # what is unknown is said here, not in a log of some node
    folder = pathlib.Path(folder).absolute()
    how = {
        "command": command,
        "pictures": pictures,
        "judge_may_be_trainer": judge_may_be_trainer,
    }
    run_tasks(functools.partial(_generate, config, folder, how), folder, kind, tasks, options)


def _generate(
    config: Generate, folder: pathlib.Path, how: dict[str, Any], *, rank: int, world: int
) -> None:
    """Does the units of one rank."""
    from evenhand.generate import generate

    generate(config, folder, share=Share(rank, world), **how)
