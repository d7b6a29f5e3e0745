"""The report in a real browser.

Offline, by keyboard, by an automated accessibility check, in light and dark.
"""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from skimage.data import astronaut
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.reports.html import write_comparison

SMALL = Measure(
    model="emoji",
    prompts=["emoji-occupations"],
    attributes=["gender"],
    splits=["test"],
    images=3,
    explicit_images=1,
    batch=8,
    settings={"num_inference_steps": 3},
    target={"gender": {"woman": 0.45, "man": 0.45, "person": 0.1}},
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    measure(SMALL, folder / "a")
    measure(SMALL.model_copy(update={"adapter": "emoji-gender"}), folder / "b")
    write_comparison(folder / "a", folder / "b", folder / "compared")
    return folder / "compared" / "report.html"


@pytest.fixture(params=["light", "dark"])
def page(browser, report, request):
    page = browser.new_page(color_scheme=request.param, viewport={"width": 1100, "height": 900})
    asked, said = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    yield page
    assert not said and all(url.startswith(("file:", "data:")) for url in asked), (said, asked)
    page.close()


def test_no_accessibility_rule_is_broken(page):
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps(
        [{"rule": v["id"], "where": [n["html"][:150] for n in v["nodes"][:3]]} for v in found],
        indent=1,
    )


def test_an_image_says_where_it_comes_from_by_keyboard_alone(page):
    page.locator("button[data-facts]").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    text = dialog.inner_text()
    assert (
        "seed" in text
        and "package:emoji/model" in text
        and "emoji-judge@" in text
        and "woman " in text
    )
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_prompts_are_searched_and_sorted(page):
    page.locator("details").first.locator("summary").click()
    rows = page.locator("table.sortable tbody tr:visible")
    assert rows.count() == 6
    page.locator("input[data-table]").fill("FIRE")
    assert rows.count() == 1 and "firefighter" in rows.first.inner_text()
    page.locator("input[data-table]").fill("")
    heads = page.locator("table.sortable thead th")
    heads.nth(0).locator("button").press("Enter")
    assert heads.nth(0).get_attribute("aria-sort") == "ascending"
    names = [rows.nth(i).locator("td").first.inner_text() for i in range(6)]
    assert names == sorted(names)
    heads.nth(heads.count() - 2).locator("button").press("Enter")
    heads.nth(heads.count() - 2).locator("button").press("Enter")
    gaps = [float(rows.nth(i).locator("td").nth(-2).inner_text()) for i in range(6)]
    assert gaps == sorted(gaps, reverse=True)


def test_it_fits_a_telephone_and_prints(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    summary = page.locator("table.stack")
    assert summary.evaluate(
        "t => t.scrollWidth <= t.parentElement.clientWidth"
    )  # no column cut off
    assert summary.locator("td.n").first.evaluate("c => getComputedStyle(c, '::before').content")[
        1:7
    ]
    sizes = page.locator(".plot svg text").evaluate_all(
        "all => all.map(t => t.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 10  # pixels, of a line of text or more
    page.locator("details summary").first.click()
    assert page.locator("p.hint").first.is_visible()  # the table by prompt is wider, and says so
    page.locator("button[data-facts]").first.click()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 390
    page.keyboard.press("Escape")
    assert len(page.pdf()) > 10_000


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Run directory of a folder of photographs, some with two faces, some with none, sorted."""
    place = tmp_path_factory.mktemp("photographs")
    (place / "party").mkdir()
    portrait = np.array(Image.fromarray(astronaut()).resize((160, 160)))
    kinds = [portrait, np.concatenate([portrait, portrait], axis=1), portrait[80:]]
    for i in range(36):
        Image.fromarray(kinds[i // 12]).save(place / "party" / f"{i:02}.png")
    (place / "judge").mkdir()
    torch.manual_seed(0)
    labels = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "image_size": 32, "patch_size": 8}
    ViTForImageClassification(ViTConfig(**sizes, **labels)).save_pretrained(place / "judge")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(place / "judge")
    judge = {
        "kind": "hub",
        "attributes": {"age": {"classes": ["young", "old"]}},
        "networks": {"age": {"path": ".", "labels": {"a": "young", "b": "old"}}},
        "faces": {"margin": 0.1, "size": 32},
    }
    (place / "judge" / "classifier.yaml").write_text(yaml.safe_dump(judge))
    measure(Measure(images_from=str(place / "party"), judge=str(place / "judge")), place / "run")
    return place / "run"


def test_a_page_of_photographs_shows_what_was_judged(browser, photographs):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((photographs / "report.html").as_uri())
    text = page.locator("main").inner_text()
    assert "age: 1 folder, 36 images" in text and "12 of 36 images" in text
    assert "12 of 36 images hold several faces" in text and "no face was found" in text
    assert "whoever gets it sees these faces" in text and "--no-images" in text
    assert "1 prompts" not in text and "(all)" not in text and "seed" not in text
    assert page.locator(".plot").count() == 1  # no gap plot of one folder
    captions = page.locator("figcaption").all_inner_texts()
    assert (
        "not seen" in captions and len(set(captions)) > 1
    )  # not the first twelve of a sorted table
    page.locator("button[data-whole]").first.click()
    dialog = page.locator("dialog")
    assert dialog.locator("img").count() == 2 and "faces found" in dialog.inner_text()
    assert "judged: left, top, right, bottom" in dialog.inner_text()
    assert "seed" not in dialog.inner_text() and "party/" not in dialog.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_page_may_hold_no_picture(photographs, monkeypatch, capsys):
    from evenhand.cli import main

    for options, there in (([], True), (["--no-images"], False)):
        monkeypatch.setattr("sys.argv", ["evenhand", "report", str(photographs), *options])
        with pytest.raises(SystemExit):
            main()
        page = (photographs / "report.html").read_text()
        assert ("data:image" in page) is there and ("sees these faces" in page) is there
        assert ("sees the faces in them" in capsys.readouterr().out) is there
        assert "age: 1 folder, 36 images" in page
