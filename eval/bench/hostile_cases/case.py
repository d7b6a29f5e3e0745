"""What a bad input is, and how its files are made."""

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from evenhand.core.resources import PACKAGE, ROOT

Maker = Callable[[pathlib.Path], Any]
Files = Mapping[str, "str | bytes | list | dict | Maker"]
CACHE = pathlib.Path()  # what is made once, for all cases; the bench sets it
MODEL, JUDGE = PACKAGE / "emoji" / "model", PACKAGE / "emoji" / "classifiers" / "judge"


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is bad, in a few words.
        command: what is typed after `evenhand`, in a folder that holds `files`.
        says: regular expression that the one line of error holds; None where the result is right.
        files: by name: text, bytes, a list or mapping (JSON), or what makes them.
        right: of a right result: whether the folder and what was printed are right.
        fault: number of the fault that it is an example of, where it is one.
        lines: of error, where several mistakes are named together.
        changed: files that the command may change, such as a run's own report.
        then: changes the folder after a first run of the command, which must succeed; what counts
            is the second run, of `again` or the same command.
        process: it runs in a process of its own, with these environment variables.
        limit: of the size of files, bytes, in a process of its own: stands for a full disk.
    """

    name: str
    command: str
    says: str | None = None
    files: Files = field(default_factory=dict)
    right: Callable[[pathlib.Path, str], bool] | None = None
    fault: int | None = None
    lines: int = 1
    changed: tuple[str, ...] = ()
    then: Maker | None = None
    again: str | None = None
    process: Mapping[str, str] | None = None
    limit: int | None = None


def make(files: Files, folder: pathlib.Path) -> None:
    """Makes a case's files in a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8", newline="")


def edited(path: pathlib.Path, **changes: Any) -> None:
    """Changes a JSON file; `a__b=1` is the key b of the mapping a, None removes one."""
    values = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = values
        for parent in parents:
            place = place[parent]
        place.pop(last, None) if value is None else place.update({last: value})
    path.write_text(json.dumps(values))


def pixels(i: int) -> Image.Image:
    """A drawing of the embedded world: number i of 16."""
    return Image.open(CACHE / "people" / f"{i % 16:02}.png")


def pictures(n: int, **save: Any) -> Maker:
    """A folder of n drawings, A.png, B.png, ..."""

    def maker(path: pathlib.Path) -> None:
        path.mkdir()
        for i in range(n):
            pixels(i).save(path / f"{chr(65 + i)}.png", **save)

    return maker


def picture(**save: Any) -> Maker:
    """A drawing, in the format that the name says."""
    return lambda path: pixels(0).save(path, **save)


def copied(source: str, change: Maker | None = None) -> Maker:
    """A folder that was made once (`run`, `other`, `labelled`, ...), and changed."""

    def maker(path: pathlib.Path) -> None:
        shutil.copytree(CACHE / source, path)
        if change:
            change(path)

    return maker


def _copy_of(folder: pathlib.Path, change: Maker | None) -> Maker:
    def maker(path: pathlib.Path) -> None:
        shutil.copytree(folder, path)
        if change:
            change(path)

    return maker


def model(change: Maker | None = None) -> Maker:
    """The embedded model's folder, changed."""
    return _copy_of(MODEL, change)


def judge(change: Maker, *, calibrated: bool = True) -> Maker:
    """The embedded judge's network, changed."""

    def changed(folder: pathlib.Path) -> None:
        if not calibrated:
            (folder / "calibration.json").unlink()
        change(folder)

    return _copy_of(JUDGE, changed)


def adapter(name: str = "emoji-gender", change: Maker | None = None) -> Maker:
    """An adapter that ships, changed."""
    return _copy_of(ROOT / "adapters" / name, change)


def tensors(file: str, change: Callable[[dict], dict]) -> Maker:
    """Changes the tensors of a file in a folder."""
    from safetensors.torch import load_file, save_file

    def maker(folder: pathlib.Path) -> None:
        state = {k: v.clone() for k, v in load_file(folder / file).items()}
        save_file(change(state), folder / file, metadata={"format": "pt"})

    return maker


def json_of(file: str, **changes: Any) -> Maker:
    """Changes keys of a JSON file in a folder."""
    return lambda folder: edited(folder / file, **changes)


def text_of(file: str, change: Callable[[bytes], bytes]) -> Maker:
    """Changes the bytes of a file in a folder."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def row(change: Callable[[dict], Any]) -> Maker:
    """Changes the first record of a run."""

    def maker(folder: pathlib.Path) -> None:
        lines = (folder / "records.jsonl").read_text().splitlines()
        first = json.loads(lines[0])
        lines[0] = json.dumps(change(first) or first)
        (folder / "records.jsonl").write_text("\n".join(lines) + "\n")

    return maker
