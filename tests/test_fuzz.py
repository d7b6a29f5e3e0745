"""Mutated files of every kind: a right result, or a UserError of one line; nothing else.

`FUZZ=20 pytest tests/test_fuzz.py` tries twenty times as many.
"""

import io
import json
import os
import random
import warnings

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_reports import SETTINGS, record

from evenhand.core.adapters import LORA, find_adapter
from evenhand.core.errors import UserError
from evenhand.core.files import write_json
from evenhand.core.prompts import load_prompts
from evenhand.core.records import lines_of, read_run
from evenhand.images.io import Unreadable, read_image
from evenhand.images.tables import read_table
from evenhand.recipes.dft import load_recipe
from evenhand.recipes.judge import find_judge
from evenhand.recipes.judge_training import load_judge_training
from evenhand.recipes.model import load_model
from evenhand.reports.comparison import compare
from evenhand.reports.report import build
from evenhand.stats.calibration import read_calibration

MORE = int(os.environ.get("FUZZ", "1"))
fuzz = settings(
    derandomize=True,
    max_examples=150 * MORE,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = [
    None, True, False, 0, 1, -1, 2, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "woman", "1", "[/b]", "$x$", "\u2028", "\ud800", [], [None], {}, {"a": 1},
    ["woman", "man"],
]  # fmt: skip
seeds = st.integers(0, 2**32 - 1)


def places(value, path=()):
    """Every place in a tree of lists and mappings."""
    yield path
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        yield from places(part, (*path, key))


def mutated(value, rng):
    """A JSON value with one or two parts removed, renamed, doubled or replaced by odd ones."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 2])):
        path = rng.choice(list(places(value)))
        if not path:
            return rng.choice(ODD)
        *parents, last = path
        place = value
        for key in parents:
            place = place[key]
        change = rng.choice(["replace", "replace", "replace", "remove", "rename", "add"])
        if change == "replace":
            place[last] = rng.choice(ODD)
        elif change == "remove":
            del place[last]
        elif isinstance(place, dict):
            place[rng.choice(["x", "", "woman", "classes"])] = (
                place.pop(last) if change == "rename" else place[last]
            )
        else:
            place.append(place[last])
    return value


def damaged(data: bytes, rng) -> bytes:
    """Bytes with some changed, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at, n = rng.randrange(len(data) + 1), rng.choice([1, 1, 4, 32])
        how = rng.choice(["change", "cut", "double", "put in", "end"])
        if how == "change":
            data[at : at + n] = rng.randbytes(n)
        elif how == "cut":
            del data[at : at + n]
        elif how == "double":
            data[at:at] = data[at : at + n]
        elif how == "put in":
            odd = [
                b"\n",
                b'"',
                b",",
                b"\0",
                b"\xff",
                b"{",
                b"[",
                b":",
                b"- ",
                b"\xef\xbb\xbf",
                b"&a *a",
            ]
            data[at:at] = rng.choice(odd)
        else:
            del data[at:]
    return bytes(data)


def holds(work):
    """Runs what may refuse a file; an error is a UserError that says what and where."""
    try:
        return work()
    except UserError as error:
        lines = str(error).splitlines()
        assert lines and all(len(line) > 10 for line in lines), error
        assert "errors.pydantic.dev" not in str(error)
        str(error).encode(errors="backslashreplace")
    return None


def text(value) -> str:
    return json.dumps(value)


CALIBRATION = {
    "schema": 1,
    "classifier": "someone",
    "digest": "0123",
    "domain": "d",
    "data": "x",
    "date": "2026-01-01",
    "attributes": {
        "gender": {
            c: {**{d: 45 if c == d else 5 for d in ("woman", "man")}, "not seen": 2}
            for c in ("woman", "man")
        }
    },
    "probabilities": {
        "gender": {
            c: {
                "mean": {d: 0.8 if c == d else 0.1 for d in ("woman", "man")},
                "products": {
                    d: {e: 0.05 if d != e or c != d else 0.7 for e in ("woman", "man")}
                    for d in ("woman", "man")
                },
            }
            for c in ("woman", "man")
        }
    },
}
RUN = {
    "schema": 2,
    "settings": {
        **SETTINGS,
        "calibration": {k: v for k, v in CALIBRATION.items() if k != "schema"},
        "target": {"gender": {"woman": 0.5, "man": 0.5}},
        "domain": "d",
        "left_out": ["a man"],
    },
    "versions": {"evenhand": "0.1.0"},
    "threads": 1,
    "device": "cpu",
}
ROWS = [
    record(p, seed, ("woman", "man")[seed % 2], box=[0.0, 0.0, 4.0, 4.0], faces=1)
    for p in ("a nurse", "a pilot")
    for seed in range(4)
] + [record("a woman nurse", 9, states={"gender": "woman"})]


@fuzz
@given(seeds)
def test_run_json(tmp_path, seed):
    rng = random.Random(seed)
    (tmp_path / "records.jsonl").write_text(lines_of(ROWS))
    if rng.random() < 0.8:
        (tmp_path / "run.json").write_text(text(mutated(RUN, rng)))
    else:
        (tmp_path / "run.json").write_bytes(damaged(text(RUN).encode(), rng))
    holds(lambda: build(read_run(tmp_path)))


@fuzz
@given(seeds)
def test_records_and_parts(tmp_path, seed):
    rng = random.Random(seed)
    write_json(tmp_path / "run.json", RUN)
    (tmp_path / "parts").mkdir(exist_ok=True)
    rows = [json.loads(line) for line in lines_of(ROWS).splitlines()]
    if rng.random() < 0.7:
        at = rng.randrange(len(rows))
        rows[at] = mutated(rows[at], rng)
        data = "".join(text(row) + "\n" for row in rows).encode()
    else:
        data = damaged(lines_of(ROWS).encode(), rng)
    name = rng.choice(["records.jsonl", "parts/000-000000-x.jsonl"])
    (tmp_path / "records.jsonl").unlink(missing_ok=True)
    (tmp_path / name).write_bytes(data)
    found = holds(lambda: build(read_run(tmp_path)))
    if found:
        assert all(0 <= s.unseen.value <= 1 for s in found.attributes["gender"].splits.values())


@fuzz
@given(seeds)
def test_comparisons(tmp_path, seed):
    rng = random.Random(seed)
    rows = [json.loads(line) for line in lines_of(ROWS).splitlines()]
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        write_json(tmp_path / name / "run.json", RUN)
        mine = [mutated(row, rng) if rng.random() < 0.05 else row for row in rows]
        (tmp_path / name / "records.jsonl").write_text("".join(text(row) + "\n" for row in mine))
    if rng.random() < 0.3:
        (tmp_path / "b" / "run.json").write_text(text(mutated(RUN, rng)))
    holds(lambda: compare(tmp_path / "a", tmp_path / "b"))


@fuzz
@given(seeds)
def test_calibrations(tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "calibration.json"
    if rng.random() < 0.8:
        path.write_text(text(mutated(CALIBRATION, rng)))
    else:
        path.write_bytes(damaged(text(CALIBRATION).encode(), rng))
    gender = find_judge("siglip-faces").known["gender"]
    found = holds(lambda: read_calibration(path))
    if found:
        holds(lambda: found.confusion(gender))


@fuzz
@given(seeds)
def test_adapter_descriptions(tmp_path, seed):
    rng = random.Random(seed)
    shipped = find_adapter("emoji-gender")
    (tmp_path / LORA).write_bytes(b"x")
    text_of = (shipped.folder / "adapter.json").read_text()
    if rng.random() < 0.8:
        (tmp_path / "adapter.json").write_text(text(mutated(json.loads(text_of), rng)))
    else:
        (tmp_path / "adapter.json").write_bytes(damaged(text_of.encode(), rng))
    found = holds(lambda: find_adapter(tmp_path))
    if found:
        trainer = found.described.get("classifier") or {}
        assert isinstance(trainer.get("digest", ""), str | None)


YAMLS = [
    ("train/dft/emoji-gender-tone.yaml", load_recipe),
    ("train/dft/gender-race-sd15.yaml", load_recipe),
    ("train/classifiers/utkface.yaml", load_judge_training),
    ("eval/judges/siglip-faces.yaml", find_judge),
    ("eval/judges/emoji-judge.yaml", find_judge),
    ("eval/models/sdxl.yaml", load_model),
    ("prompts/emoji-occupations.yaml", load_prompts),
]


@pytest.mark.parametrize("name, load", YAMLS, ids=lambda x: x if isinstance(x, str) else "")
@settings(fuzz, max_examples=60 * MORE)
@given(seeds)
def test_yaml(tmp_path, name, load, seed):
    from evenhand.core.resources import ROOT

    rng = random.Random(seed)
    path, data = tmp_path / "x.yaml", (ROOT / name).read_text(encoding="utf-8")
    if rng.random() < 0.7:
        path.write_text(yaml.safe_dump(mutated(yaml.safe_load(data), rng)), encoding="utf-8")
    else:
        path.write_bytes(damaged(data.encode(), rng))
    found = holds(lambda: load(str(path)))
    if name.startswith("prompts") and found:
        assert all(p.text.strip() for p in found.prompts())


def images():
    """Real files of the formats that people have."""
    rng = random.Random(0)
    grey = Image.frombytes("L", (48, 40), rng.randbytes(48 * 40))
    colour = Image.frombytes("RGB", (48, 40), rng.randbytes(3 * 48 * 40))
    for kind, image, options in [
        ("png", colour, {}),
        ("png", grey, {"transparency": 7}),
        ("png", colour.convert("P"), {"transparency": 1}),
        ("png", grey.convert("I;16"), {}),
        ("jpeg", colour, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
        ("jpeg", colour.convert("CMYK"), {}),
        ("tiff", colour, {"compression": "tiff_lzw"}),
        ("tiff", grey.convert("F"), {}),
        ("webp", colour, {}),
        ("gif", colour.convert("P"), {}),
        ("bmp", colour, {}),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        yield buffer.getvalue()


IMAGES = list(images())


@settings(fuzz, max_examples=400 * MORE)
@given(seeds)
def test_images(tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "x"
    path.write_bytes(damaged(rng.choice(IMAGES), rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in the command line, which shows none of Pillow's
        try:
            found = read_image(path, side=rng.choice([None, 16]))
        except Unreadable as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert found.dtype == "uint8" and found.ndim == 3 and found.shape[2] == 3


TABLES = {
    "t.csv": "image,prompt,split,states.gender\n"
    'A.png,"a nurse, at work",test,\nB.png,a pilot,,man\n',
    "t.jsonl": '{"image": "A.png", "prompt": "a"}\n{"image": "B.png", "prompt": "b", '
    '"states": {"gender": "man"}}\n',
    "t.json": '[{"image": "A.png", "prompt": "a"}, {"image": "B.png", "prompt": "b"}]',
}


@pytest.mark.parametrize("name", TABLES)
@fuzz
@given(seeds)
def test_tables(tmp_path, name, seed):
    rng = random.Random(seed)
    (tmp_path / name).write_bytes(damaged(TABLES[name].encode(), rng))
    found = holds(lambda: read_table(tmp_path / name, tmp_path)) or []
    assert len({p.path for p in found}) == len(found)
    for picture in found:
        picture.prompt.text.encode()  # what records hold


@fuzz
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda x: x.encode(errors="ignore")))
def test_prompts_as_lines(tmp_path, data):
    path = tmp_path / "p.txt"
    path.write_bytes(data)
    found = holds(lambda: load_prompts(str(path)))
    if found:
        texts = [p.text for p in found.prompts()]
        assert texts and all(t.strip() and "\n" not in t and t[0] != "\ufeff" for t in texts)
