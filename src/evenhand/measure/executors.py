"""Work on many machines by datatrove's executors.

They start local processes, Slurm jobs, or tasks of Ray.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from evenhand.core.errors import UserError, unknown
from evenhand.core.schema import override
from evenhand.core.work import Share
from evenhand.measure.plan import plan
from evenhand.recipes.measure import Measure

EXECUTORS = {
    "local": "LocalPipelineExecutor",
    "slurm": "SlurmPipelineExecutor",
    "ray": "RayPipelineExecutor",
}


class Task:
    """A step of datatrove: one shard of some work.

    Args:
        do: the work, called with `rank` and `world`; a function that can be pickled.
    """

    def __init__(self, do: Callable[..., Any]) -> None:
        self.do = do

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[None]:
        """Does the units of this rank; hands no documents on."""
        self.do(rank=rank, world=world_size)
        yield from ()


def _measure(
    config: Measure, folder: pathlib.Path, how: dict[str, Any], *, rank: int, world: int
) -> None:
    """Measures the units of one rank."""
    from evenhand.measure import measure

    measure(config, folder, share=Share(rank, world, only=True), **how)


def execute(
    config: Measure,
    folder: str | os.PathLike,
    kind: str,
    tasks: int,
    options: list[str],
    *,
    pictures: bool = True,
    judge_may_be_trainer: bool = False,
) -> None:
    """Runs a measurement in tasks of an executor.

    Parts decide what is done, not the engine's own marks, so it may be repeated.

    Args:
        config: what to measure.
        folder: run directory, which every task must reach.
        kind: `local`, `slurm` or `ray`.
        tasks: number of shards.
        options: further arguments of the executor, `name=value`, such as Slurm's `partition=gpu`
            and `time=08:00:00`.
        pictures: put some of the images into the report's page.
        judge_may_be_trainer: measure even an adapter that was trained against the judge.

    Raises:
        UserError: unknown executor, an option that it does not know, or datatrove is not installed.
    """
    check_executor(kind)
    plan(config)  # what is unknown is said here, not in a log of some node
    if config.until:
        raise UserError(
            "--until decides by the images of all processes: start several of the same command, "
            "or torchrun, instead"
        )
    folder = pathlib.Path(folder).absolute()
    how = {"pictures": pictures, "judge_may_be_trainer": judge_may_be_trainer}
    run_tasks(functools.partial(_measure, config, folder, how), folder, kind, tasks, options)


def check_executor(kind: str) -> None:
    """Raises UserError where there is no executor of that name."""
    if kind not in EXECUTORS:
        raise unknown("executor", kind, EXECUTORS)


def run_tasks(
    do: Callable[..., Any],
    folder: pathlib.Path,
    kind: str,
    tasks: int,
    options: list[str],
) -> None:
    """Runs work in tasks of an executor.

    Args:
        do: the work, as `Task` takes it.
        folder: run directory, absolute.
        kind: of `EXECUTORS`.
        tasks: number of shards.
        options: further arguments of the executor.

    Raises:
        UserError: an option that the executor does not know, or datatrove is not installed.
    """
    try:
        import datatrove.executor as executors
    except ImportError as error:
        raise UserError("--executor needs datatrove: pip install 'evenhand[cluster]'") from error
    given = {
        "tasks": tasks,
        "logging_dir": str(folder / ".executor"),
        "skip_completed": False,
        **override({}, options),
    }
    if kind == "local":
        given.setdefault("workers", tasks)
    if kind == "slurm":
        given.setdefault("job_name", "evenhand")
    try:
        engine = getattr(executors, EXECUTORS[kind])(pipeline=[Task(do)], **given)
    except TypeError as error:
        raise UserError(f"--executor {kind}: {error}") from error
    engine.run()
