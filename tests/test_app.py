"""The app: its queue, its comparison, and its page in a real browser."""

import contextlib
import json
import shutil
import threading
import time
from collections import OrderedDict

import pipelines
import pytest
import torch
import yaml

from evenhand.app.desk import Desk
from evenhand.app.drawing import compare
from evenhand.app.pages import page as page_of
from evenhand.app.pages import pages
from evenhand.app.server import listening, server, warm
from evenhand.app.settings import App, asked
from evenhand.app.studio import Studio
from evenhand.core.adapters import find_adapter
from evenhand.core.errors import UserError
from evenhand.core.resources import locate
from evenhand.diffusion.interrupting import interruptible
from evenhand.diffusion.pipeline import load_diffusion
from evenhand.diffusion.strengths import at_strength
from evenhand.measure import measure
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import load_model
from evenhand.stats.watching import more_images, watched

PROMPT = "an emoji of a firefighter"


def until(true, seconds: float = 20.0) -> float:
    """Waits for something; seconds that it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds
        time.sleep(0.01)
    return time.monotonic() - started


# the queue


def counting(job):
    n = 0
    while not job.unwanted:
        yield n
        n += 1
        time.sleep(0.005)


def test_one_job_at_a_time_and_the_others_know_their_place():
    with contextlib.closing(Desk(waiting=2)) as desk:
        first, second, third = (desk.submit(who, counting) for who in "abc")
        until(first.latest)
        assert [desk.place(job) for job in (first, second, third)] == [0, 1, 2]
        assert second.latest() is None
        with pytest.raises(UserError, match="2 others are waiting"):
            desk.submit("d", counting)
        assert desk.stop("b") and second.done and desk.place(third) == 1
        again = desk.submit("a", counting)  # another click of the first visitor
        until(lambda: first.done and third.latest() is not None)
        assert first.replaced and desk.place(again) == 1
        assert desk.stop("c") and not desk.stop("b")
        until(lambda: again.latest() is not None)


def test_a_job_of_a_visitor_who_went_away_ends_and_a_fault_ends_nothing_else(monkeypatch, capsys):
    monkeypatch.setattr("evenhand.app.desk.AWAY", 0.2)
    with contextlib.closing(Desk(waiting=2)) as desk:
        gone = desk.submit("gone", counting)  # nobody asks for it
        broken = desk.submit("broken", lambda _: iter([1 // 0]))
        wrong = desk.submit("wrong", lambda _: iter([asked(prompt="")]))
        for job in (broken, wrong):
            until(lambda job=job: job.latest() or job.done)
        assert gone.done and gone.unwanted
        assert "ZeroDivisionError" in (broken.error or "") + capsys.readouterr().err
    assert "fault of evenhand" in (broken.error or "")


# what is drawn


def test_shares_that_are_watched_and_how_many_more_images_they_take():
    found = watched([6, 2])
    assert found[0].value == 0.75 and found[0].low == pytest.approx(1 - found[1].high)
    left = more_images([12, 12], 0.1)
    assert watched([12 + left / 2] * 2)[0].high == pytest.approx(0.6, abs=0.002)
    assert more_images([12, 12], 0.45) == 0 < more_images([8, 0], 0.1) < left
    assert more_images([0, 0], 0.1) == 24 + left  # as if shares were even


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A model's YAML: the embedded one with few steps."""
    path = tmp_path_factory.mktemp("model") / "quick.yaml"
    values = {
        "path": "package:emoji/model",
        "settings": {"num_inference_steps": 4, "guidance_scale": 1.0},
        "judge": "emoji-judge",
    }
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_the_images_are_those_of_measure_and_nothing_is_drawn_twice(quick, tmp_path):
    studio, memory = Studio(App()), OrderedDict()
    wish = {"model": quick, "adapter": "emoji-gender", "prompt": PROMPT, "seed": 3, "images": 4}
    *_, found = compare(studio.plan(asked(**wish, strength=0.5)), studio, memory, lambda: False)
    assert found.done and not found.notes and found.accuracy["gender"] > 0.95
    (tmp_path / "p.txt").write_text(PROMPT)
    values = {"model": quick, "prompts": [str(tmp_path / "p.txt")], "images": 4, "seed": 3}
    how = {"adapter": "emoji-gender", "adapter_scale": 0.5, "batch": 2}
    measure(Measure(**values, **how), tmp_path / "run", pictures=False)
    rows = map(json.loads, (tmp_path / "run" / "records.jsonl").read_text().splitlines())
    assert [(r["seed"], r["source"], r["probs"]) for r in rows] == [
        (r.seed, r.source, r.probs) for r in found.sides[1].records
    ]
    before = list(memory)
    *_, more = compare(studio.plan(asked(**wish, strength=1.0)), studio, memory, lambda: False)
    assert len(memory) == len(before) * 3 // 2  # the model without the adapter is as it was
    assert more.sides[0].pictures == found.sides[0].pictures != more.sides[1].pictures


def test_a_strength_is_that_of_loading_and_0_is_the_model_alone(quick):
    for name in ("emoji-gender", "emoji-gender-tokens"):
        adapter, ask = find_adapter(name), ([PROMPT], [5])
        alone = load_diffusion(load_model(quick))
        loaded = load_diffusion(load_model(quick), adapter=adapter)
        with at_strength(loaded, adapter, 0.0) as source:
            assert source == alone.source
            assert torch.equal(loaded.sample(*ask), alone.sample(*ask))
        with at_strength(loaded, adapter, 1.0) as source:
            assert source == loaded.source and loaded.prefix == (
                "" if adapter.is_lora else loaded.prefix
            )
            assert not torch.equal(loaded.sample(*ask), alone.sample(*ask))


@pytest.mark.parametrize("name", pipelines.FAMILIES)
def test_an_interrupted_pipeline_computes_no_further_step(name):
    diffusion, calls = pipelines.make(name, frozen=True), []
    diffusion.denoiser.register_forward_hook(lambda *_: calls.append(1))
    how = interruptible(diffusion, lambda: len(calls) >= 2)
    with torch.no_grad():
        pipelines.draw(diffusion, **how)
        assert len(calls) == 2 or (name == "pixart_sigma" and not how)
        calls.clear()
        pipelines.draw(diffusion, **interruptible(diffusion, lambda: False))
        assert len(calls) > 2


@pytest.mark.parametrize(
    "wish, message",
    [
        ({"prompt": "p" * 10_000}, "10,000 characters; the app takes 1,000"),
        ({"prompt": " \n "}, "Write a prompt first"),
        ({"model": ""}, "Choose a model"),
        ({"model": "./nothing"}, "there is no such folder"),
        ({"model": "images-api"}, "is a service"),
        ({"model": "emojy"}, "did you mean 'emoji'"),
        ({"adapter": "emoji-gendre"}, "did you mean 'emoji-gender'"),
        ({"adapter": "emoji-gender-tokens", "strength": 0.5}, "soft tokens have no strength"),
        ({"guidance": "much"}, "Guidance is a number from 0 to 20, or empty"),
        ({"images": 10**6}, "images"),
    ],
)
def test_what_cannot_be_drawn_is_said(wish, message):
    with pytest.raises(UserError, match=message):
        Studio(App()).plan(asked(**{"prompt": PROMPT, "model": "emoji", **wish}))


def test_a_model_that_cannot_be_loaded_is_said_and_the_next_one_is_drawn(quick, tmp_path):
    shutil.copytree(locate("package:emoji/model"), tmp_path / "bad")
    (tmp_path / "bad" / "unet" / "config.json").write_text("{")
    studio = Studio(App(judge="emoji-judge"))
    for model, error in ((str(tmp_path / "bad"), "cannot be loaded"), (quick, "")):
        plan = studio.plan(asked(model=model, prompt=PROMPT, images=1))
        with pytest.raises(UserError, match=error) if error else contextlib.nullcontext():
            *_, found = compare(plan, studio, OrderedDict(), lambda: False)
            assert found.done


def test_a_judge_that_trained_the_adapter_does_not_judge_it(quick):
    studio = Studio(App(judge="emoji-trainer"))
    plan = studio.plan(asked(model=quick, adapter="emoji-gender", prompt=PROMPT, images=1))
    with pytest.raises(UserError, match="trained the adapter emoji-gender"):
        list(compare(plan, studio, OrderedDict(), lambda: False))


def test_others_may_use_what_was_named_alone(tmp_path):
    studio = Studio(App(host="0.0.0.0", models=["emoji"], adapters=["emoji-gender"]))
    assert studio.models == ["emoji"]
    for wish in ({"model": "sd15"}, {"model": str(tmp_path)}, {"adapter": "emoji-multi"}):
        with pytest.raises(UserError, match="this app: unknown"):
            studio.plan(asked(**{"model": "emoji", "prompt": PROMPT, **wish}))
    assert App().alone and App(host="::1").alone and not App(host="0.0.0.0").alone


def test_two_apps_do_not_share_a_port():
    with listening(App(port=0)) as place:
        port = place.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"port {port} is taken.*--port"),
            listening(App(port=port)),
        ):
            pass


def test_only_pages_of_runs_are_shown(tmp_path):
    listed = {"a/report.html", "b/c/dataset.html", "b/chain.html"}
    for name in [*(f"runs/{page}" for page in listed), "runs/a/images/report.html"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<p>a report")
    (tmp_path / "report.html").write_text("outside")
    (tmp_path / "runs" / "a" / "run.json").write_text("{}")
    runs = str(tmp_path / "runs")
    assert set(pages(runs)) == listed and pages(None) == []
    assert page_of(runs, "a/report.html")
    for name in ("../report.html", "a/run.json", str(tmp_path / "report.html"), "nothing"):
        assert page_of(runs, name) is None


# the page


@pytest.fixture(scope="module")
def site(quick, tmp_path_factory):
    """An app that runs: its address, and its desk."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "one").mkdir()
    (runs / "one" / "report.html").write_text(
        "<p id=p>closed</p><script>try { parent.document.title } catch { p.innerText = 'alone' }"
        "</script>"
    )
    app = App(port=0, models=[quick], adapters=["emoji-gender"], runs=str(runs))
    studio, desk = Studio(app), Desk(app.waiting)
    warm(studio)
    with listening(app) as place:
        running = server(app, studio, desk)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [place]})
        thread.start()
        until(lambda: running.started)
        yield f"http://127.0.0.1:{place.getsockname()[1]}/", desk
        running.should_exit = True
        desk.close()
        thread.join()


@pytest.fixture
def visit(browser, site):
    """Opens the page; it must ask nobody else for anything, and complain of nothing."""
    asked_for, said, opened = [], [], []

    def visit(**how):
        page = browser.new_page(**how)
        page.on("request", lambda r: asked_for.append(r.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(site[0])
        page.wait_for_selector("#draw")
        opened.append(page)
        return page

    yield visit
    for page in opened:
        page.close()
    assert not said and all(url.startswith((site[0], "data:")) for url in asked_for), said


def status(page, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('#status').innerText.includes(text)", arg=text
    )


def images(page, number: int) -> None:
    if not page.locator("#images").is_visible():
        page.get_by_role("button", name="More settings").click()
    page.locator("#images input[type=number]").fill(str(number))
    page.locator("#images input[type=number]").press("Tab")


def no_violation(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    assert not found, json.dumps(
        [{"rule": v["id"], "where": [n["html"][:150] for n in v["nodes"][:3]]} for v in found],
        indent=1,
    )


def test_by_keyboard_it_draws_and_the_strength_moves(visit):
    page = visit(viewport={"width": 1100, "height": 900})
    images(page, 4)
    page.locator("#prompt textarea").focus()
    page.keyboard.press("Enter")
    status(page, "Done: 4 images, with and without the adapter")
    no_violation(page)
    pictures = page.locator("#pictures img")
    before = [pictures.nth(i).get_attribute("src") for i in range(8)]
    assert "0.1: about" in page.inner_text("#shares") and "emoji-judge@" in page.inner_text(
        "#shares"
    )
    images(page, 400)
    page.locator("#draw").click()  # and another click before it is done
    status(page, "Drawing")
    images(page, 4)
    page.locator("#strength input[type=range]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.locator("#draw").press("Enter")
    page.wait_for_function("document.querySelector('#shares').innerText.includes('strength 0.05')")
    status(page, "Done")
    after = [pictures.nth(i).get_attribute("src") for i in range(8)]
    assert after[0::2] == before[0::2] and after[1::2] != before[1::2]
    page.locator("#prompt textarea").fill("x" * 10_000)
    page.locator("#draw").click()
    status(page, "The prompt has 10,000 characters")
    assert page.locator("#status [role=alert]").count() == 1


def test_stop_stops_and_of_two_visitors_one_waits(visit, site):
    first, second = visit(), visit()
    images(first, 400)
    first.locator("#draw").click()
    first.wait_for_selector("#pictures img")
    images(second, 4)
    second.locator("#prompt textarea").fill("an emoji of a judge")
    second.locator("#draw").click()
    status(second, "Waiting: 1 visitor is before you.")
    first.locator("#stop").click()
    status(first, "Stopped after ")
    status(second, "Done: 4 images")
    seen = first.locator("#pictures img").count()
    time.sleep(0.5)
    assert first.locator("#pictures img").count() == seen


def test_a_browser_that_goes_away_leaves_the_device_to_others(visit, site, browser):
    gone = browser.new_page()
    gone.goto(site[0])
    images(gone, 400)
    gone.locator("#draw").click()
    gone.wait_for_selector("#pictures img")
    gone.close()
    page = visit()
    images(page, 4)
    page.locator("#draw").click()
    status(page, "Done: 4 images")


def test_it_fits_a_telephone_in_the_dark_and_opens_reports(visit):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark")
    images(page, 4)
    page.locator("#draw").click()
    status(page, "Done")
    no_violation(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Reports").click()
    report = page.frame_locator("#report iframe").locator("p")
    report.wait_for()
    assert report.inner_text() == "alone"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
