"""Which images a folder holds."""

import os
import pathlib
from collections.abc import Iterator

from evenhand.core.errors import UserError
from evenhand.images.io import is_image
from evenhand.images.tables import Picture, printable, prompt_of, seed_of

SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpeg", ".jpg"}
SUFFIXES |= {".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
RAW = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"}
DRAWN = {".ai", ".eps", ".pdf", ".svg", ".svgz"}
LeftOut = dict[str, str]  # {"skipped": path, "why": reason}


def survey(folder: str | os.PathLike) -> tuple[list[pathlib.Path], list[LeftOut]]:
    """The image files below a folder, sorted, and what is left out, with the reason.

    An image is what has the ending of one, or its content. Those that cannot be read (links to
    nowhere, kinds that Pillow does not know) are among them: who reads them counts them. Hidden
    files and folders, and files that are no images, are passed over.

    Raises:
        UserError: no such folder, or no image in it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images")
    found, left_out = [], []
    paths = sorted(_visible(folder))
    files = {os.path.realpath(p): p for p in paths if not p.is_symlink()}
    for path in paths:
        why = _why_not(path)
        first = files.setdefault(os.path.realpath(path), path)
        if why is None and first != path:
            why = f"a link to {first.relative_to(folder)}, which counts by itself"
        if why is None:
            found.append(path)
        elif why:
            left_out.append({"skipped": printable(path.absolute()), "why": printable(why)})
    if not found:
        more = f"; {left_out[0]['skipped']}: {left_out[0]['why']}" if left_out else ""
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))}){more}")
    return found, left_out


def _visible(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """What lies below a folder and is not hidden: files, and links to folders."""
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        yield from (pathlib.Path(top, x) for x in [*files, *links] if not x.startswith("."))


def _why_not(path: pathlib.Path) -> str | None:
    """Why a path is left out: "" where it is no image at all, None where it is one."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return "a link to a folder is not followed; copy the folder, or measure it by its own name"
    if suffix in RAW:
        return "a camera's raw file; save it as JPEG or PNG"
    if suffix in DRAWN:
        return "drawn by lines, without pixels; save it as PNG"
    if suffix in SUFFIXES:
        return None
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    return None if is_image(path) else ""


def files_in(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The image files below a folder, as `survey` finds them."""
    return survey(folder)[0]


def by_folder(folder: str | os.PathLike) -> tuple[list[Picture], list[LeftOut]]:
    """Every image, with the name of the folder that it lies in as its prompt; what is left out."""
    files, left_out = survey(folder)
    return [
        Picture(
            prompt_of({"prompt": printable(path.absolute().parent.name)}),
            path.absolute(),
            seed_of(path, folder),
        )
        for path in files
    ], left_out
