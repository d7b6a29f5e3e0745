"""Small real parts: pipelines of real classes at toy size, built from their configs."""

import os
import shutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Many tests ask for equal bits, which a GPU does not give; CUDA_VISIBLE_DEVICES=0 runs them on one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import torch

torch.set_num_threads(1)


def pytest_sessionfinish(session):
    """Where CI is set, a skipped test is a failure: everything that tests need must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def emoji():
    """The embedded model, as users load it."""
    from evenhand.diffusion.pipeline import load_diffusion
    from evenhand.recipes.model import load_model

    return load_diffusion(load_model("emoji"), device="cpu")


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def sound(browser):
    """A page that was written to a file: nothing is fetched, complained of, cut off or unreadable.

    Checked in light and on a telephone in dark, by axe's rules of accessibility too.
    """
    from axe_playwright_python.sync_playwright import Axe

    def sound(file) -> None:
        for scheme, width in (("light", 1100), ("dark", 390)):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            asked, said = [], []
            page.on("request", lambda r, asked=asked: asked.append(r.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.goto(file.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            found = Axe().run(page).response["violations"]
            assert not found, [(v["id"], [n["html"][:150] for n in v["nodes"][:3]]) for v in found]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert not said and all(url.startswith(("file:", "data:")) for url in asked)
            page.close()

    return sound


@pytest.fixture
def tiny_clip(tmp_path):
    """A CLIP of transformers in a folder."""
    import pipelines
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={
            **size,
            "vocab_size": 54,
            "max_position_embeddings": 12,
            "bos_token_id": 52,
            "eos_token_id": 53,
            "pad_token_id": 53,
        },
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "clip")
    pipelines.clip_tokenizer().save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")
