"""The report pages in a folder of runs, and the only way to them. No torch."""

import os
import pathlib

NAMES = ("chain.html", "report.html", "dataset.html", "preview.html", "sweep.html")
MOST = 500  # pages that are listed: the newest
WITHOUT = ("images", "parts")  # folders of a run that hold no page
DEEPEST = 5  # folders below that of the runs


def pages(runs: str | None) -> list[str]:
    """The pages below a folder, relative to it, the newest first; none where there is no folder."""
    if runs is None or not (root := pathlib.Path(runs)).is_dir():
        return []
    found = []
    for place, folders, files in os.walk(root):
        deep = len(pathlib.Path(place).relative_to(root).parts) >= DEEPEST
        folders[:] = [] if deep else [x for x in folders if x[0] != "." and x not in WITHOUT]
        found += [pathlib.Path(place) / name for name in NAMES if name in files]
    found.sort(key=lambda path: (-path.stat().st_mtime, str(path)))
    return [path.relative_to(root).as_posix() for path in found[:MOST]]


def page(runs: str | None, name: str) -> pathlib.Path | None:
    """The file of a page that `pages` lists; None of anything else."""
    if runs is None or pathlib.PurePosixPath(name).name not in NAMES:
        return None
    root = pathlib.Path(runs).resolve()
    path = (root / name).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None
