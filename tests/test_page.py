"""The report in a real browser.

Offline, by keyboard, by an automated accessibility check, in light and dark.
"""

import json
import shutil

import pytest

from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.reports.html import write_comparison

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"
)
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


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


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


def test_it_fits_a_narrow_screen_and_prints(page):
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 381
    assert len(page.pdf()) > 10_000
