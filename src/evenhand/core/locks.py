"""Locks on run directories: who may write where two commands meet.

They are the operating system's (flock, by the library filelock): freed when their process ends,
however it ends.
"""

import contextlib
import datetime
import json
import os
import pathlib
import socket
import sys
from collections.abc import Iterator

from filelock import FileLock, Timeout

from evenhand.core.errors import UserError


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike, doing: str) -> Iterator[None]:
    """Context in which no other process works in the folder.

    Args:
        folder: made if it is not there.
        doing: what its holder does ("training"), for the error that others get.

    Raises:
        UserError: another process holds it; says which, and since when.
    """
    path = pathlib.Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{folder}: {_holder(path)}. Wait until it ends, or name another directory with --out"
        ) from error
    try:
        _write_holder(path, doing)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def lease(path: str | os.PathLike, *, wait: bool = False) -> Iterator[bool]:
    """Context in which a file's lease is held, if it is to be had.

    Args:
        path: of the lease's file, which is made, and stays.
        wait: until another process gives it back.

    Yields:
        whether it is held; always True with `wait`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock(path: pathlib.Path) -> FileLock:
    return FileLock(path, mode=0o644, thread_local=False)


def _write_holder(path: pathlib.Path, doing: str) -> None:
    """Says in the lock's own file who holds it.

    The file is written in place: it must stay the same file.
    """
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    words = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "doing": doing,
        "since": since,
        "command": " ".join(["evenhand", *sys.argv[1:]]),
    }
    path.write_text(json.dumps(words), encoding="utf-8")


def _holder(path: pathlib.Path) -> str:
    """Who holds a lock, in words."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        x = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {x['pid']} on {x['host']} has been {x['doing']} here"
        return f"{who} since {x['since']} ({x['command']})"
    return "another process works here"
