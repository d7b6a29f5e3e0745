"""Writing files so that none is ever half there: to a temporary name beside it, then renamed.

And their digests.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pathlib
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from typing import Any

_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.(tmp|old\.tmp)"
)


@contextlib.contextmanager
def whole(path: str | os.PathLike, *, durable: bool = True) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder.

    On success it replaces `path`, on any error it is removed.

    Args:
        path: may become a file or a folder. A folder that stands there is replaced as a whole.
        durable: wait until the disk has it before it takes the name, so that a power failure, too,
            leaves the old one or the new one. Takes milliseconds a file.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with _named(path):
            yield temporary
        for written in [*temporary.rglob("*"), temporary] if durable else ():
            _sync(written)
        if path.is_dir() and temporary.is_dir():
            _exchange(temporary, path)
        else:
            os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    finally:
        _remove(temporary)


FULL = ("No space left on device", "os error 28", "File too large", "os error 27")


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Context in which the error of a full disk names the file, whichever library wrote it.

    Those that write by themselves raise errors of their own kind.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            error.filename = os.fspath(path)
        raise
    except Exception as error:
        full = any(words in str(error) for words in FULL) or (
            "PytorchStreamWriter failed" in str(error)
        )
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error
        raise


def clear_stale(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Removes temporaries in a folder and below it that dead processes of this machine left behind.

    One that holds the only copy of a folder, whose replacement was cut in the middle, takes its
    name again. Those of other machines stay: whether their writers live is not known here.

    Returns:
        what was removed or took its name again.
    """
    found = []
    for top, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            parts = _TEMPORARY.fullmatch(name)
            if not parts or parts["host"] != _host() or _alive(int(parts["pid"])):
                continue
            path, target = pathlib.Path(top, name), pathlib.Path(top, parts["name"])
            if name.endswith(".old.tmp") and not target.exists():
                os.replace(path, target)
            else:
                _remove(path)
            found.append(path)
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]
    return found


def _host() -> str:
    """This machine and, where there are any, its space of process numbers (containers)."""
    space = ""
    with contextlib.suppress(OSError):
        space = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    return re.sub(r"[^\w-]", "-", platform.node())[:40] + space


def _temporary(path: pathlib.Path, ending: str = "tmp") -> pathlib.Path:
    """A name beside the path that no other process on any machine uses."""
    name = path.name.encode()[:120].decode(errors="ignore")  # file systems take 255 bytes
    return path.with_name(f".{name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.{ending}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _sync(path: pathlib.Path) -> None:
    """Waits until the disk has a file, or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(new: pathlib.Path, old: pathlib.Path) -> None:
    """Puts one folder in the place of another.

    In one step where the system can (Linux, most file systems); elsewhere the old one steps aside
    under a name from which `clear_stale` brings it back, should the second step never come.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of rename(2)
    if rename and rename(here, os.fsencode(new), here, os.fsencode(old), swap) == 0:
        return
    aside = _temporary(old, "old.tmp")
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except BaseException:
        os.replace(aside, old)
        raise
    _remove(aside)


def _remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def digest(path: str | os.PathLike) -> str:
    """First twelve hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def digest_of(value: Any) -> str:
    """As `digest`, of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def digest_of_folder(folder: str | os.PathLike) -> str:
    """As `digest`, of a model's folder: names, sizes and contents of its files, notes left out.

    Gigabytes of weights would take as long to hash as to load: of a file of more than 64 MiB,
    64 KiB of every 4 MiB count, the beginning and the end with them. Training moves all of a
    tensor, so any tensor of that size that was changed is noticed; a patch of single bytes is not.
    """
    folder, found = pathlib.Path(folder), hashlib.sha256()
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() not in _NOTES]
    for path in sorted(files, key=lambda p: p.relative_to(folder).as_posix()):
        inside, size = path.relative_to(folder), path.stat().st_size
        if any(part.startswith(".") for part in inside.parts):
            continue
        found.update(f"{inside.as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= 64 * _MIB:
                found.update(file.read())
                continue
            for start in [*range(0, size - _MIB, 4 * _MIB), size - _MIB // 16]:
                file.seek(start)
                found.update(file.read(_MIB // 16))
    return found.hexdigest()[:12]


_MIB = 2**20
_NOTES = {".md", ".png", ".jpg", ".jpeg", ".webp", ".gif"}


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file whole."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON (indent 1, keys in the given order) whole. NaN is refused: missing is null."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
