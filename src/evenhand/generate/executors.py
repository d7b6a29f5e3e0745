"""Making a set in tasks of datatrove's executors."""

import functools
import os
import pathlib

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
) -> None:
    """Runs the work in tasks of an executor; tasks help each other, so none waits for a dead one.

    Args:
        config: the recipe.
        folder: run directory, which every task must reach.
        kind: `local`, `slurm` or `ray`.
        tasks: number of shards.
        options: further arguments of the executor, `name=value`.
        command: that makes the set again, for its card.

    Raises:
        UserError: as `evenhand.measure.executors.run_tasks`.
    """
    check_executor(kind)
    if not (config.from_images or config.contexts.writer):
        plan(config)  # what is unknown is said here, not in a log of some node
    folder = pathlib.Path(folder).absolute()
    run_tasks(functools.partial(_generate, config, folder, command), folder, kind, tasks, options)


def _generate(
    config: Generate, folder: pathlib.Path, command: str, *, rank: int, world: int
) -> None:
    """Does the units of one rank."""
    from evenhand.generate import generate

    generate(config, folder, share=Share(rank, world), command=command)
