"""Bad inputs of `evenhand measure --images-from`: folders, pictures, tables."""

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


def noted(words: str):
    return lambda folder, out: any(words in note for note in report(folder)["notes"])


def table(text: str, name: str = "t.csv", **more) -> dict:
    return {**PICS, name: text, **more}


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
TABLES = [
    Case("not there", T, "t.csv: cannot be read", PICS),
    Case("empty", T, "lists no image", table("")),
    Case("no UTF-8", T, "cannot be read as a table", table(b"image,prompt\nA.png,caf\xe9\n")),
    Case("a byte order mark", T, None, table("\ufeffimage,prompt\nA.png,a\n"), judged(1), 21),
    Case("a column missing", T, "has no 'prompt'", table("image,text\nA.png,a\n")),
    Case("a column twice", T, "stands twice", table("image,prompt,prompt\nA.png,a,b\n")),
    Case(
        "a column misspelt",
        T,
        "did you mean states",
        table("image,prompt,state.gender\nA.png,a,b\n"),
        fault=7,
    ),
    Case(
        "a column in capitals",
        T,
        "did you mean split",
        table("image,prompt,Split\nA.png,a,b\n"),
        fault=7,
    ),
    Case(
        "a comma too many",
        T,
        "3 values for 2 columns",
        table("image,prompt\nA.png,a, b\n"),
        fault=11,
    ),
    Case("a value missing", T, "1 values for 2 columns", table("image,prompt\nA.png\n"), fault=11),
    Case(
        "a quote left open",
        T,
        "cannot be read",
        table('image,prompt\nA.png,"a\nB.png,b\n'),
        fault=4,
    ),
    Case(
        "one picture in two spellings",
        T,
        "listed twice",
        table("image,prompt\nA.png,a\n./A.png,a\n"),
        fault=4,
    ),
    Case(
        "one picture by its absolute path",
        T,
        "listed twice",
        {
            **PICS,
            "t.csv": lambda p: p.write_text(f"image,prompt\nA.png,a\n{p.parent}/pics/A.png,a\n"),
        },
        fault=4,
    ),
    Case("outside", T, "lies outside", table("image,prompt\n../A.png,a\n"), fault=46),
    Case(
        "a picture that is gone",
        T,
        None,
        table("image,prompt\nA.png,a\nX.png,a\n"),
        skipped(1, 2, "no such"),
    ),
    Case(
        "a folder as a picture",
        T,
        None,
        table("image,prompt\nA.png,a\n.,a\n"),
        skipped(1, 2, "no file"),
    ),
    Case(
        "a device as a picture",
        T,
        None,
        table("image,prompt\nA.png,a\n/dev/zero,a\n"),
        skipped(1, 2, "no file"),
    ),
    Case(
        "an unknown class",
        T,
        "unknown class 'female'",
        table("image,prompt,states.gender\nA.png,a,female\n"),
        fault=5,
    ),
    Case(
        "every row says a class",
        T,
        None,
        table("image,prompt,states.gender\nA.png,a,woman\n"),
        noted("Every prompt"),
        5,
    ),
    Case(
        "rare line breaks",
        T,
        None,
        table("image,prompt\nA.png,a\u2028b\x85c\nB.png,d\n"),
        judged(2),
        22,
    ),
    Case(
        "names that mean something to Rich",
        T,
        None,
        table("image,prompt,family,split\nA.png,a,[/bold],[red]x\nB.png,b,f,g\n"),
        lambda f, out: "[/bold], [red]x" in out,
        12,
    ),
    Case(
        "names that mean something to TeX",
        T,
        None,
        table("image,prompt\nA.png,$\\foo$ {x\nB.png,_b\n"),
        judged(2),
        12,
    ),
    Case(
        "names that mean something to HTML",
        T,
        None,
        table("image,prompt\nA.png,<script>x</script>\n"),
        lambda f, out: "<script>x" not in (f / "r/report.html").read_text(),
        12,
    ),
    Case(
        "a split called all",
        T,
        None,
        table("image,prompt,split\nA.png,a,all\nB.png,b,test\n"),
        judged(2),
        29,
    ),
    Case(
        "numbers in JSON lines",
        f"{F} --prompts t.jsonl",
        "is no row",
        table("5\n", "t.jsonl"),
        fault=23,
    ),
    Case(
        "half a JSON line",
        f"{F} --prompts t.jsonl",
        "line 1",
        table('{"image": "A.png"', "t.jsonl"),
        fault=23,
    ),
    Case(
        "states in words",
        f"{F} --prompts t.jsonl",
        "states names no",
        table('{"image": "A.png", "prompt": "a", "states": "x"}', "t.jsonl"),
        fault=23,
    ),
    Case(
        "lone surrogates",
        f"{F} --prompts t.jsonl",
        "no file can keep",
        table('{"image": "A.png", "prompt": "\\ud800"}', "t.jsonl"),
    ),
    Case(
        "a JSON list",
        f"{F} --prompts t.json",
        None,
        table('[{"image": "A.png", "prompt": "a"}]', "t.json"),
        judged(1),
        23,
    ),
    Case(
        "capitals",
        f"{F} --prompts T.JSONL",
        None,
        table('{"image": "A.png", "prompt": "a"}', "T.JSONL"),
        judged(1),
        23,
    ),
    Case(
        "a spreadsheet",
        f"{F} --prompts t.xlsx",
        "cannot be read as a table",
        table(b"PK\x03\x04\xff\xfe", "t.xlsx"),
    ),
    Case(
        "a prompt set instead",
        f"{F} --prompts emoji-occupations",
        "cannot be read as a table",
        PICS,
    ),
]
CASES = [*FOLDERS, *PICTURES, *TABLES]
