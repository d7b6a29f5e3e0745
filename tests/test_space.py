"""A Space: it runs as it is, and a push of it is a push."""

import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import pytest
import yaml
from hub_server import TOKEN, Hub

from evenhand.core.adapters import find_adapter
from evenhand.core.errors import UserError
from evenhand.core.resources import ROOT
from evenhand.publish.space import write_space
from evenhand.reports.card import describe


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    write_space(ROOT / "adapters" / "emoji-gender", folder)
    return folder


def test_its_readme_and_requirements_are_what_the_hub_reads(space):
    _, header, text = (space / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(header)
    assert (found["sdk"], found["app_file"], found["license"]) == ("gradio", "app.py", "apache-2.0")
    import gradio

    assert found["sdk_version"] == gradio.__version__ and "emoji-gender" in text
    lines = (space / "requirements.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert {"torch", "diffusers", "uvicorn", "fastapi"} <= set(names) and "gradio" not in names
    assert not [line for line in lines if "==" not in line or "+" in line]


def test_it_runs_as_it_is(space, tmp_path):
    """In a copy elsewhere, by the evenhand that it holds."""
    copy = shutil.copytree(space, tmp_path / "elsewhere")
    start = copy / "evenhand" / "app" / "__init__.py"
    start.write_text(f'{start.read_text()}\nprint("of the Space")\n')
    environment = {**os.environ, "GRADIO_SERVER_PORT": "0"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("evenhand app: "):
                break
        try:
            assert "of the Space\n" in lines
            address = lines[-1].split()[2]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert b"emoji-gender" in answer.read()
        finally:
            process.kill()


def test_a_push_makes_the_hub_hold_it(space):
    with Hub() as hub:
        given = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        adapter = str(ROOT / "adapters" / "emoji-gender")
        done = subprocess.run(
            [sys.executable, "-m", "evenhand", "push", adapter, "mine", "--space"],
            env={**os.environ, **given, "HF_HUB_DISABLE_XET": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "/spaces/tester/mine" in done.stdout, done.stderr
        files = hub.repos["space", "tester/mine"].commits[-1][1]
        files.pop(".gitattributes")
        assert files == {
            p.relative_to(space).as_posix(): p.read_bytes() for p in space.rglob("*") if p.is_file()
        }
        assert "evenhand/emoji/model/model_index.json" in files
        assert "evenhand/data/eval/judges/emoji-judge.yaml" in files
        assert "adapters/emoji-gender/README.md" in files
        assert not [path for path in files if "__pycache__" in path]


def test_what_no_space_can_draw_is_refused(tmp_path):
    folder = shutil.copytree(ROOT / "adapters" / "emoji-gender", tmp_path / "mine")
    described = find_adapter(folder).described
    for model, message in ((str(tmp_path), "lies on this machine"), (None, "names no model")):
        describe(folder, {**described, "settings": {**described["settings"], "model": model}})
        with pytest.raises(UserError, match=message):
            write_space(pathlib.Path(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
