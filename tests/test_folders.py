"""Images made elsewhere are measured, with the judge's calibration."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from evenhand.core.errors import UserError
from evenhand.core.records import read
from evenhand.emoji.world import draw, sample_scene
from evenhand.measure import measure
from evenhand.recipes.judge import find_judge
from evenhand.recipes.measure import Measure


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """24 drawings in a folder, with what they are."""
    folder = tmp_path_factory.mktemp("people")
    generator = torch.Generator().manual_seed(3)
    scene = sample_scene(24, generator=generator, even=True)
    names = find_judge("emoji-judge").known["gender"].classes
    rows = []
    for i, image in enumerate(draw(scene, generator=generator)):
        path = folder / f"{i:02}.png"
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(path)
        rows.append(
            {"image": path.name, "prompt": "an emoji of somebody", "truth": names[scene.gender[i]]}
        )
    with (folder / "prompts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "prompt", "truth"])
        writer.writeheader()
        writer.writerows(rows)
    return folder, rows


def config(folder, **rest):
    return Measure(images_from=str(folder), judge="emoji-judge", attributes=["gender"], **rest)


def test_a_folder_is_measured_and_its_table_read(people, tmp_path):
    folder, rows = people
    report = measure(
        config(folder, prompts=[str(folder / "prompts.csv")], domain="emoji world"),
        tmp_path / "run",
    )
    records = {r.image: r for r in read(tmp_path / "run" / "records.jsonl")}
    right = [
        records[str(folder / row["image"])].perceived["gender"] == row["truth"] for row in rows
    ]
    assert np.mean(right) >= 0.9
    (prompt,) = report.attributes["gender"].prompts
    assert (
        prompt.prompt == "an emoji of somebody"
        and prompt.images == 24
        and prompt.corrected["woman"].low is not None
    )
    assert report.notes == [report.notes[0]] and "calibration of" in report.notes[0]
    again = measure(
        config(folder, prompts=[str(folder / "prompts.csv")], domain="emoji world"),
        tmp_path / "run",
    )
    assert again == report and len(read(tmp_path / "run" / "records.jsonl")) == 24


def test_another_domain_is_said(people, tmp_path):
    report = measure(config(people[0]), tmp_path / "run")
    assert any("of another domain" in note for note in report.notes)


def test_what_cannot_be_read_is_left_out_counted_and_named(people, tmp_path, monkeypatch):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("00.png", "01.png"):
        (folder / name).write_bytes((people[0] / name).read_bytes())
    (folder / "cut.png").write_bytes((people[0] / "02.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no image")
    Image.new("1", (400, 400)).save(folder / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.warns(
        UserWarning, match="3 of 5 images could not be read: .*skipped.jsonl says why"
    ):
        report = measure(config(folder), tmp_path / "run")
    why = {
        json.loads(line)["skipped"].rsplit("/", 1)[-1]: json.loads(line)["why"]
        for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    }
    assert (
        why.keys() == {"cut.png", "text.jpg", "huge.png"}
        and why["text.jpg"] == "no image"
        and "too large" in why["huge.png"]
    )
    assert report.images == 2


def test_what_makes_no_sense_is_refused(people, tmp_path):
    for folder, message in [
        (tmp_path / "none", "no such folder of images"),
        (tmp_path, "holds no image"),
    ]:
        with pytest.raises(UserError, match=message):
            measure(config(folder), tmp_path / "run")
    with pytest.raises(ValueError, match="take no adapter, until, setting or split"):
        config(people[0], until=0.1)
    with pytest.raises(ValueError, match="either a model or"):
        Measure(prompts=["occupations"])
    with pytest.raises(UserError, match="name a classifier with --judge"):
        measure(Measure(images_from=str(people[0])), tmp_path / "run")


def test_nobody_seen_is_reported_as_that(tmp_path):
    (tmp_path / "images").mkdir()
    noise = torch.rand(6, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    for i, image in enumerate(noise):
        Image.fromarray((image * 255).byte().numpy()).save(tmp_path / "images" / f"{i}.png")
    strict = tmp_path / "strict.yaml"
    strict.write_text(
        "kind: emoji\npath: package:emoji/classifiers/judge\nconcept: occupation\nseen: 1.0\n"
        "attributes: {gender: {classes: [woman, man, person], contrast: [woman, man]}}\n"
    )
    report = measure(
        Measure(images_from=str(tmp_path / "images"), judge=str(strict), attributes=["gender"]),
        tmp_path / "run",
    )
    split = report.attributes["gender"].splits["all"]
    assert (
        split.unseen.value == 1 and split.gap.value is None and split.shares["woman"].value is None
    )
