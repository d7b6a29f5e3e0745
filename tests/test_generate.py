"""Image sets of the embedded model: full, the same however cut, opened by their readers."""

import gc
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from evenhand.cli import main
from evenhand.core.errors import UserError
from evenhand.core.files import digest
from evenhand.core.records import Record, read, read_run
from evenhand.emoji.world import draw, load_world, sample_scene
from evenhand.generate import generate, plan, preview
from evenhand.generate.drawing import embedding, looked_at
from evenhand.generate.report import read_set
from evenhand.images.tensors import to_uint8
from evenhand.publish.hub import contents
from evenhand.recipes.generate import Filter, Generate, load_generate

VALUES = {
    "model": "emoji",
    "cells": {"gender": ["woman", "man"]},
    "per_cell": 6,
    "prompt": "an emoji of {a} {gender} {title}",
    "contexts": {"vocabulary": {"title": ["cook", "farmer", "pilot"]}},
    "wording": {"gender": {"woman": "woman", "man": "man"}},
    "filter": {"confidence": 0.6},
    "settings": {"num_inference_steps": 2},
    "splits": {"train": 0.67, "test": 0.33},
    "out": ["parquet", "imagefolder", "webdataset"],
    "batch": 6,
}


def recipe(**changes) -> Generate:
    return Generate.model_validate({**VALUES, **changes})


class Cut(Exception):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    return folder, generate(recipe(), folder, command="evenhand generate mine")


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "set")
    return tmp_path / "set"


def files(folder: pathlib.Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): digest(p)
        for kind in ("parquet", "imagefolder", "webdataset", "images")
        for p in (folder / kind).rglob("*")
        if p.is_file()
    }


def test_every_cell_is_full_and_every_image_is_as_asked(made):
    folder, report = made
    assert [(p.cell["gender"], p.images) for p in report.places] == [("woman", 6), ("man", 6)]
    records = read(folder / "records.jsonl")
    assert len(records) == report.images == 12 and not report.short
    for r in records:
        assert r.perceived["gender"] == r.states["gender"]
        assert r.probs["gender"][r.states["gender"]] >= 0.6
        assert digest(folder / r.image) and r.source.startswith("package:emoji/model@")
    rejected = [json.loads(x) for x in (folder / "rejected.jsonl").read_text().splitlines()]
    assert len(rejected) == report.drawn - 12 == sum(report.rejected.values())
    assert all(x["why"] in report.rejected for x in rejected)
    assert report == read_set(folder)


def test_the_same_command_again_changes_nothing(copy):
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    generate(recipe(), copy)
    after = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    assert {p: t for p, t in after.items() if ".leases" not in p.parts} == {
        p: t for p, t in before.items() if ".leases" not in p.parts
    }


def test_the_formats_are_opened_by_their_readers(made):
    import webdataset

    folder, report = made
    genders = sorted(r.perceived["gender"] for r in read(folder / "records.jsonl"))
    patterns = {split: f"{folder}/imagefolder/{split}/**" for split in report.splits}
    cache = str(folder.parent / "cache")
    for found in (
        datasets.load_dataset(str(folder), cache_dir=cache),
        datasets.load_dataset("imagefolder", data_files=patterns, cache_dir=cache),
    ):
        assert {split: len(rows) for split, rows in found.items()} == report.splits
        rows = [row for rows in found.values() for row in rows]
        assert sorted(row["gender"] for row in rows) == genders
        for row in rows[:3]:
            assert row["image"].size == (64, 64)
            assert np.array_equal(
                np.array(row["image"]), np.array(Image.open(folder / "images" / f"{row['id']}.png"))
            )
    tars = sorted(str(p) for p in (folder / "webdataset").glob("*.tar"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files open
        read_back = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
        gc.collect()
    assert sorted(x["json"]["gender"] for x in read_back) == genders
    assert read_back[0]["png"].size == (64, 64)


def test_all_seeds_of_a_context_are_in_one_split(made):
    splits: dict[str, set[str]] = {}
    for r in read(made[0] / "records.jsonl"):
        splits.setdefault(r.concept, set()).add(r.split)
    assert set(map(len, splits.values())) == {1} and len(set.union(*splits.values())) == 2


def test_the_card_and_the_page_say_what_it_is(made):
    folder, report = made
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "apache-2.0" and header["size_categories"] == "n<1K"
    assert header["configs"][0]["data_files"][0] == {
        "split": "train", "path": "parquet/train-*.parquet",
    }  # fmt: skip
    for words in (
        report.digest,
        "evenhand generate mine",
        "emoji-judge",
        "are expected to be wrong",
    ):
        assert words in card
    page = (folder / "dataset.html").read_text()
    assert page.count("data:image/png;base64,") == 12 and "<script src" not in page
    assert report.noise and report.wrong.high >= report.wrong.value >= 0


def test_a_cut_set_goes_on_and_is_the_same(made, tmp_path):
    folder = tmp_path / "cut"

    def cut(done: int, total: int, note: str) -> None:
        if done >= 6:
            raise Cut

    with pytest.raises(Cut):
        generate(recipe(), folder, progress=cut)
    assert len(list(folder.glob("parts/*.jsonl"))) == 1 and not (folder / "dataset.json").exists()
    assert generate(recipe(), folder).digest == made[1].digest
    assert files(folder) == files(made[0])


def test_a_larger_set_adds_and_touches_nothing(made, copy):
    before = files(copy)
    report = generate(recipe(per_cell=8), copy)
    assert report.images == 16 and [s.images for s in report.sizes] == [12, 16]
    assert report.sizes[0].digest == made[1].digest
    assert before.items() <= files(copy).items()
    found = datasets.load_dataset(str(copy), cache_dir=str(copy.parent / "cache"))
    assert sum(len(rows) for rows in found.values()) == 16
    with pytest.raises(UserError, match="holds a set of 8 images of woman, 6 are asked for"):
        generate(recipe(), copy)


def test_another_configuration_is_refused_by_the_key_that_differs(made):
    with pytest.raises(UserError, match="filter.confidence was 0.6, is 0.7"):
        generate(recipe(filter={"confidence": 0.7}), made[0])


def test_another_order_of_cells_or_splits_is_another_configuration(made):
    with pytest.raises(UserError, match="order was"):
        generate(recipe(splits={"test": 0.33, "train": 0.67}), made[0])


def test_what_was_damaged_on_disk_is_drawn_again_and_said(made, copy):
    (copy / "dataset.json").unlink()
    part = min((copy / "parts").glob("*.jsonl"))
    part.write_bytes(part.read_bytes()[:-40])
    image = copy / read(copy / "records.jsonl")[-1].image
    image.write_bytes(image.read_bytes()[:100])
    with pytest.warns(UserWarning, match="its images are drawn again") as said:
        assert generate(recipe(), copy).digest == made[1].digest
    words = [str(w.message) for w in said if "drawn again" in str(w.message)]
    assert "is damaged, or cut off" in words[0] and "is gone or damaged" in words[1]
    assert files(copy) == files(made[0])


def test_a_full_disk_is_said_and_leaves_no_half_file(made, copy):
    """A limit on the size of files stands for the full disk."""
    (copy / "dataset.json").unlink()
    shutil.rmtree(copy / "parquet")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large|No space left") as error:
            generate(recipe(), copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "parquet" in str(error.value.filename) and not list(copy.rglob("*.tmp"))
    assert generate(recipe(), copy).digest == made[1].digest


def test_prompts_that_the_model_does_not_read_to_the_end_are_refused(tmp_path):
    long = {"vocabulary": {"title": ["cook " + "and then some " * 30]}}
    with pytest.raises(UserError, match="does not read all of 2 prompts, such as"):
        generate(recipe(contexts=long, splits={"train": 1.0}), tmp_path / "set")


def test_a_set_is_no_measurement(made):
    with pytest.raises(UserError, match="is an image set; its page is"):
        read_run(made[0])


COMMAND = [sys.executable, "-m", "evenhand", "generate"]


def test_killed_processes_leave_what_another_finishes(made, tmp_path):
    folder, file = tmp_path / "set", tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(VALUES, sort_keys=False))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*COMMAND, str(file), "--out", str(folder)], env=environment)
    while not list(folder.glob("parts/*.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "dataset.json").exists()
    assert generate(recipe(), folder).digest == made[1].digest


def test_a_judge_that_trained_an_adapter_is_refused(tmp_path):
    config = recipe(judge="emoji-trainer", adapters=[{"name": "emoji-gender"}])
    with pytest.raises(UserError, match="trained the adapter 'emoji-gender'"):
        generate(config, tmp_path / "set")
    assert not (tmp_path / "set" / "run.json").exists()


def test_cells_that_stay_empty_are_named_with_what_to_do(tmp_path):
    report = generate(
        recipe(cells_by="neutral", per_cell=3, budget=8, batch=8, out=["parquet"],
               prompt="an emoji of {a} {title}", contexts={"vocabulary": {"title": ["plumber"]}},
               splits={"train": 1.0}),
        tmp_path / "set",
    )  # fmt: skip
    assert report.drawn == 8
    (place,) = [p for p in report.short if p.cell == {"gender": "woman"}]
    assert place.acceptance.n == 8 and place.acceptance.high < 1
    (note,) = [n for n in report.notes if n.startswith("woman: ")]
    assert "of 3 images; of 8 drawn" in note and ("budget=" in note or "cells_by=words" in note)


def test_a_mixture_of_adapters_draws_each_its_own(tmp_path):
    adapters = [
        {"name": "emoji-gender", "draws": {"gender": "woman"}},
        {"name": "emoji-gender-tone", "draws": {"gender": "man"}},
    ]
    config = recipe(cells_by="adapters", adapters=adapters, per_cell=1, batch=4, budget=8,
                    out=["parquet"], filter={"rejected": "keep"}, splits={"train": 1.0},
                    prompt="an emoji of {a} {title}")  # fmt: skip
    planned = plan(config)
    assert [s.asked for s in planned.streams] == [{"gender": "woman"}, {"gender": "man"}]
    generate(config, tmp_path / "set")
    parts = [p.read_text().splitlines() for p in (tmp_path / "set" / "parts").glob("*")]
    rows = [json.loads(line) for lines in parts for line in lines]
    sources = {(r["record"]["states"]["gender"], r["record"]["source"].split("+")[1].split("@")[0])
               for r in rows}  # fmt: skip
    assert sources == {("woman", "emoji-gender"), ("man", "emoji-gender-tone")}
    assert all((tmp_path / "set" / r["record"]["image"]).is_file() for r in rows)


def record(**changes) -> Record:
    values = {"probs": {"gender": {"woman": 0.9, "man": 0.1}}, "states": {"gender": "woman"}}
    return Record("p", "c", "f", "train", 0, "s", "images/0.png", **{**values, **changes})


def test_every_reason_of_the_filter():
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    cases = [
        ("", noise, record()),
        ("black", noise * 0.01, record()),
        ("size", noise[..., :9], record()),
        ("unsafe", noise, record(flagged=True)),
        ("not seen", noise, record(seen=False)),
        ("disagrees", noise, record(states={"gender": "man"})),
        ("unsure", noise, record(probs={"gender": {"woman": 0.7, "man": 0.3}})),
    ]
    config = Filter(side=12)
    embed = embedding(config, judge=None, device=torch.device("cpu"))
    for why, images, asked in cases:
        (found,) = looked_at([asked], images, config, ["gender"], embed)
        assert found.why == why and bool(found.vector) == (not why)
    twice = embed(torch.cat([noise, noise * 0.5]))
    assert torch.allclose(*torch.nn.functional.normalize(twice, dim=-1), atol=1e-4)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty drawings of the world with a table of what was asked of their maker."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    scene = sample_scene(60, generator=generator, even=True)
    genders, lines = load_world().classes["gender"], []
    for i, pixels in enumerate(to_uint8(draw(scene, generator=generator))):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
        prompt = f"prompt {i % 7}"
        lines.append({"image": f"{i:02}.png", "prompt": prompt,
                      "states": {"gender": genders[scene.gender[i]]}})  # fmt: skip
    (folder / "00.png").write_bytes(b"no image")
    table = folder.parent / "table.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder, table


def test_images_made_elsewhere_become_a_set(pictures, tmp_path):
    folder, table = pictures
    values = {"from_images": str(folder), "table": str(table), "judge": "emoji-judge",
              "cells": {"gender": ["woman", "man"]}, "out": ["imagefolder"]}  # fmt: skip
    small = Generate.model_validate({**values, "per_cell": 5})
    report = generate(small, tmp_path / "set")
    assert report.images == 10 and report.drawn == 60 and report.rejected["unreadable"] == 1
    assert report.rejected["no cell"] > 5  # persons of no gender
    assert not (tmp_path / "set" / "images").exists()
    larger = generate(Generate.model_validate({**values, "per_cell": 8}), tmp_path / "set")
    assert larger.images == 16 and larger.sizes[0].digest == report.digest
    cache = str(tmp_path / "cache")
    rows = datasets.load_dataset(str(tmp_path / "set"), cache_dir=cache)["train"]
    assert len(rows) == 16 and rows[0]["image"].size == (64, 64)
    many = generate(Generate.model_validate({**values, "per_cell": 50}), tmp_path / "many")
    assert any("the folder holds no more of it" in note for note in many.notes)
    assert "is not known" in (tmp_path / "many" / "README.md").read_text()


def test_the_card_of_a_folders_set_names_its_table(pictures, tmp_path, capsys, monkeypatch):
    folder, table = pictures
    file, out = tmp_path / "mine.yaml", tmp_path / "set"
    values = {"judge": "emoji-judge", "cells": {"gender": ["woman", "man"]}, "per_cell": 2}
    file.write_text(yaml.safe_dump({**values, "from_images": "x"}, sort_keys=False))
    where = ["--from-images", folder, "--table", table, "--out", out]
    code, _, said = run(capsys, monkeypatch, file, *where)
    assert not code, said
    again = f"evenhand generate mine.yaml --from-images {folder.name} --table table.jsonl"
    assert f"\n{again}\n" in (out / "README.md").read_text()


def test_a_preview_shows_what_would_not_be_taken(tmp_path):
    page = preview(recipe(filter={"confidence": 0.999}, batch=8), tmp_path / "preview", 2)
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 4 and "Preview of" in text
    assert "per_cell" not in text and not (tmp_path / "preview" / "dataset.json").exists()


def test_previews_of_fewer_images_stand_beside_those_of_more(tmp_path, capsys, monkeypatch):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**VALUES, "batch": 8}, sort_keys=False))
    for images in (2, 1):
        words = ["--preview", images, "--out", tmp_path / "set"]
        code, _, said = run(capsys, monkeypatch, file, *words)
        assert not code, said
    pages = list((tmp_path / "set-preview").rglob("preview.html"))
    assert sorted(p.read_text().count("data:image/png;base64,") for p in pages) == [2, 4]


def test_a_push_takes_the_shards_and_leaves_the_work(made):
    kind, found = contents(made[0])
    assert kind == "dataset" and {"README.md", "dataset.json", "dataset.html"} <= found.keys()
    assert {p.split("/")[0] for p in found if "/" in p} == {"parquet", "imagefolder", "webdataset"}


def run(capsys, monkeypatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["evenhand", "generate", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_the_command_line(made, tmp_path, capsys, monkeypatch):
    file, folder = tmp_path / "mine.yaml", tmp_path / "dry"
    file.write_text(yaml.safe_dump(VALUES, sort_keys=False))
    code, out, _ = run(capsys, monkeypatch, file, "--dry-run", "--out", folder)
    assert not code and "# 12 images of 2 cells" in out and "minutes if every image" in out
    assert "# an emoji of a woman cook" in out and not folder.exists()
    code, out, _ = run(capsys, monkeypatch, file, "--out", made[0])
    assert not code and f"digest {made[1].digest}" in out
    code, _, said = run(capsys, monkeypatch, file, "cells.gender=[woman,giant]")
    assert code == 2 and "unknown class 'giant'" in said and said.count("\n") == 1


def test_a_page_is_made_without_pictures_by_the_same_command(copy, capsys, monkeypatch, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(VALUES, sort_keys=False))
    for options, there in ((["--no-images"], False), (["--no-images"], False), ([], True)):
        code, _, _ = run(capsys, monkeypatch, file, "--out", copy, *options)
        assert not code and ("data:image" in (copy / "dataset.html").read_text()) is there


def test_the_tasks_of_an_executor_do_as_the_options_say(tmp_path):
    small = {**VALUES, "per_cell": 1, "out": ["parquet"], "splits": {"train": 1.0}}
    small |= {"judge": "emoji-trainer", "adapters": [{"name": "emoji-gender"}]}
    file, folder = tmp_path / "mine.yaml", tmp_path / "set"
    file.write_text(yaml.safe_dump(small, sort_keys=False))
    words = [sys.executable, "-m", "evenhand", "generate", str(file), "--out", str(folder)]
    tasks = ["--executor", "local", "--tasks", "1"]
    options = ["--no-images", "--judge-may-be-trainer"]
    done = subprocess.run([*words, *tasks, *options], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "data:image" not in (folder / "dataset.html").read_text()
    assert json.loads((folder / "run.json").read_text())["settings"]["judge_is_trainer"] is True


def test_recipes_that_ship_say_what_they_are():
    for name in ("emoji-balanced", "generate/emoji-small", "emoji-balanced-neutral"):
        assert plan(load_generate(name)).streams
    celeba = plan(load_generate("celeba-smiling"))
    texts = [p.text for s in celeba.streams for p in s.prompts]
    assert len(texts) == 240 and not any("not " in text or "  " in text for text in texts)
