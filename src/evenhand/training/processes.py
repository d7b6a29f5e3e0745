"""The processes that train together: accelerate, here and nowhere else."""

import contextlib
import json
import os
import pathlib
import signal
from collections.abc import Collection, Iterator
from typing import Any

from evenhand.core.errors import UserError
from evenhand.core.files import whole
from evenhand.core.locks import exclusive
from evenhand.core.settings import flat
from evenhand.training.run_directory import Progress, open_run


@contextlib.contextmanager
def training(
    folder: pathlib.Path, settings: dict[str, Any], free: Collection[str] = ()
) -> Iterator[Any]:
    """Opens a run directory with an accelerate Accelerator.

    It keeps a tensorboard log where that is installed (`pip install 'evenhand[tensorboard]'`).

    Raises:
        UserError: as `open_run`; another command trains in the folder; another of the processes
            that train together has ended; or a machine has fewer GPUs than processes.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import is_tensorboard_available

    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if 0 < gpus < processes:
        raise UserError(
            f"{processes} processes on this machine cannot share {gpus} GPU(s) in a training: "
            f"start {gpus}, or set CUDA_VISIBLE_DEVICES= to train on the processor"
        )
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        log_with="tensorboard" if is_tensorboard_available() else None,
        project_dir=str(folder),
    )
    plain = {
        k: v if isinstance(v, int | float | str | bool) else json.dumps(v)
        for k, v in flat(settings).items()
    }
    try:
        with contextlib.ExitStack() as stack:
            if accelerator.num_processes > 1:
                stack.enter_context(_ended_together(folder))
            if accelerator.is_main_process:
                stack.enter_context(exclusive(folder, "training"))
                open_run(folder, settings, free)
            accelerator.wait_for_everyone()
            accelerator.init_trackers("tensorboard", config=plain)
            yield accelerator
            accelerator.wait_for_everyone()
    finally:
        accelerator.end_training()


def logged(accelerator: Any, tell: Progress, before: int = 0) -> Progress:
    """What a loop reports its steps to: the run's tensorboard log, and the caller.

    Args:
        accelerator: as `training` gives it.
        tell: the caller's.
        before: steps of the run's trainings before this one.
    """

    def report(done: int, row: dict[str, float]) -> None:
        accelerator.log(row, step=before + done - 1)
        tell(before + done, row)

    return report


def same_everywhere(accelerator: Any, path: pathlib.Path) -> pathlib.Path:
    """Gives every process the main process's file, or none where that has none.

    Hosts need not share the folder: each may have a checkpoint of its own, of another step.
    """
    if accelerator.num_processes == 1:
        return path
    from accelerate.utils import broadcast_object_list

    def content() -> bytes | None:
        return path.read_bytes() if path.exists() else None

    box = [content() if accelerator.is_main_process else None]
    broadcast_object_list(box)
    if not accelerator.is_main_process and content() != box[0]:
        if box[0] is None:
            path.unlink()
        else:
            with whole(path) as temporary:
                temporary.write_bytes(box[0])
    return path


@contextlib.contextmanager
def _ended_together(folder: pathlib.Path) -> Iterator[None]:
    """Turns what a process feels when another one ended into one line."""
    goes_on = "the same command goes on from the last checkpoint"

    def ended(*_: object) -> None:
        raise UserError(
            f"{folder}: this training was told to end, by its launcher or because another "
            f"process ended; {goes_on}"
        )

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield
    except RuntimeError as error:
        if any(
            word in str(error)
            for word in ("Connection closed", "Connection reset", "NCCL", "Gloo", "gloo")
        ):
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"{folder}: lost the connection to another process of this training ({reason}); "
                "if that one ended, "
                f"{goes_on}"
            ) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
