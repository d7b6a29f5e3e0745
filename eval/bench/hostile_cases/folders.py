"""Bad inputs of `evenhand measure --images-from`: folders and pictures."""

import io
import json
import os
import pathlib
import struct
import zlib

from hostile_cases.case import Case, Maker, picture, pictures, pixels

F = "measure --images-from pics --judge emoji-judge --attributes gender --out r"
T = f"{F} --prompts t.csv"
PICS = {"pics": pictures(3)}


def report(folder: pathlib.Path) -> dict:
    return json.loads((folder / "r" / "report.json").read_text())


def skipped(n: int, of: int, words: str = ""):
    """So many pictures are judged, so many are named in skipped.jsonl, with the words."""

    def right(folder: pathlib.Path, out: str) -> bool:
        lines = (folder / "r" / "skipped.jsonl").read_text().splitlines()
        return report(folder)["images"] == of - n and len(lines) == n and words in lines[0]

    return right


def judged(n: int):
    return lambda folder, out: report(folder)["images"] == n


def with_file(name: str, content, n: int = 2) -> dict:
    return {"pics": pictures(n), f"pics/{name}": content}


def png() -> bytes:
    buffer = io.BytesIO()
    pixels(0).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(path: pathlib.Path) -> None:
    """A PNG whose header says 100,000 x 100,000 pixels."""
    chunks = b""
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(data)) + kind + data
        chunks += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def exif(path: pathlib.Path) -> None:
    pixels(0).save(
        path, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x09\xff\xff\xff\xff"
    )


def floats(path: pathlib.Path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.full((64, 64), 300.0, dtype=np.float32)).save(path)


def link(to: str) -> Maker:
    return lambda path: path.symlink_to(to)


def latin(path: pathlib.Path) -> None:
    (path.parent / os.fsdecode(b"caf\xe9.png")).write_bytes(png())


def changed_since(folder: pathlib.Path) -> None:
    """One picture deleted, one overwritten, one added."""
    (folder / "pics" / "A.png").unlink()
    pixels(9).save(folder / "pics" / "B.png")
    pixels(8).save(folder / "pics" / "Y.png")
    pixels(7).save(folder / "pics" / "Z.png")


FOLDERS = [
    Case("not there", F, "pics: no such folder of images"),
    Case("a file", F, "pics: no such folder", {"pics": "x"}),
    Case("empty", F, "holds no image", {"pics": lambda p: p.mkdir()}),
    Case("texts alone", F, "holds no image", {"pics/a.txt": "x"}),
    Case("no judge", "measure --images-from pics", "name a classifier with --judge", PICS),
    Case("drawing options", f"{F} --images 4", "no number of images", PICS, fault=7),
    Case("an adapter", f"{F} --adapter emoji-gender", "take no adapter", PICS),
    Case("two tables", f"{T} --prompts u.csv", "one table of prompts", PICS),
    Case("an unknown attribute", F.replace("gender", "age"), "unknown attribute 'age'", PICS),
    Case("out in the pictures", F.replace("--out r", "--out pics"), "but no run.json", PICS),
    Case(
        "the working directory has a name",
        "measure --images-from . --judge emoji-judge --attributes gender",
        None,
        {"A.png": picture()},
        lambda folder, out: (folder / "runs" / "measure" / folder.name / "report.json").exists(),
        26,
    ),
    Case("pictures changed since", F, None, PICS, judged(4), 6, then=changed_since),
    Case(
        "the same folder in another spelling",
        F,
        None,
        PICS,
        judged(3),
        25,
        then=lambda folder: (folder / "x").mkdir(),
        again=F.replace("pics", "./x/../pics"),
    ),
]
PICTURES = [
    Case("no ending", F, None, with_file("C", picture(format="PNG")), judged(3), 9),
    Case(
        "an ending of its own",
        F,
        None,
        with_file("C.jpg_large", picture(format="JPEG")),
        judged(3),
        9,
    ),
    Case("an ending in capitals", F, None, with_file("C.PNG", picture()), judged(3)),
    Case(
        "a HEIC that is none", F, None, with_file("C.heic", b"x" * 99), skipped(1, 3, "no image"), 9
    ),
    Case("a raw file", F, None, with_file("C.cr2", b"x" * 99), skipped(1, 3, "raw"), 9),
    Case("a drawing of lines", F, None, with_file("C.svg", "<svg/>"), skipped(1, 3, "lines"), 9),
    Case("JPEG 2000", F, None, with_file("C.jp2", picture()), judged(3), 9),
    Case(
        "a link to nothing", F, None, with_file("C.png", link("gone")), skipped(1, 3, "no such"), 9
    ),
    Case(
        "a link to nothing without an ending",
        F,
        None,
        with_file("C", link("gone")),
        skipped(1, 3, "no"),
        9,
    ),
    Case(
        "a link to a folder",
        F,
        None,
        {**with_file("C", link("../more")), "more": pictures(1)},
        skipped(1, 3, "link"),
        9,
    ),
    Case("a link to itself", F, None, with_file("C.png", link("C.png")), skipped(1, 3)),
    Case("a link to another", F, None, with_file("C.png", link("A.png")), skipped(1, 3, "A.png")),
    Case("a pipe", F, None, with_file("C.png", os.mkfifo), skipped(1, 3, "no file")),
    Case(
        "a folder called .png", F, None, {"pics": pictures(2), "pics/x.png": pictures(1)}, judged(3)
    ),
    Case("no bytes", F, None, with_file("C.png", b""), skipped(1, 3, "no image")),
    Case(
        "cut",
        F,
        None,
        with_file("C.png", lambda p: p.write_bytes(png()[:200])),
        skipped(1, 3, "damaged"),
    ),
    Case("a text", F, None, with_file("C.png", "no image"), skipped(1, 3, "no image")),
    Case("a bomb", F, None, with_file("C.png", bomb), skipped(1, 3, "too large"), 15),
    Case(
        "broken EXIF",
        F,
        None,
        with_file("C.jpg", exif),
        lambda f, out: report(f)["images"] >= 2,
        13,
    ),
    Case(
        "a broken AVIF",
        F,
        None,
        with_file("C.avif", b"\0\0\0 ftypavif" + b"\0" * 99),
        skipped(1, 3),
        13,
    ),
    Case("a name that is no UTF-8", F, None, with_file("x", latin), skipped(1, 3, "UTF-8"), 13),
    Case("floats beyond white", F, None, with_file("C.tif", floats), skipped(1, 3, "floating"), 10),
    Case(
        "one pixel",
        F,
        None,
        with_file("C.png", lambda p: pixels(0).resize((1, 1)).save(p)),
        judged(3),
    ),
    Case(
        "one row",
        F,
        None,
        with_file("C.png", lambda p: pixels(0).resize((900, 1)).save(p)),
        judged(3),
    ),
    Case(
        "none that can be read",
        F,
        "2 of 2 images could not be read",
        {"pics/a.png": "x", "pics/b.png": "y"},
    ),
]

CASES = [*FOLDERS, *PICTURES]
