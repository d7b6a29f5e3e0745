"""Push and pull by the real client, against a Hub on this machine, with every kind of fault."""

import hashlib
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hub_server import TOKEN, Hub, Repo

from evenhand.core.adapters import find_adapter
from evenhand.core.resources import ROOT
from evenhand.publish.hub import _equal
from evenhand.reports.card import describe, write_cards

NAME = "tester/mine"


def evenhand(hub, *arguments, **environment):
    """The command's exit code, what it printed, and what it said of errors."""
    given = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-m", "evenhand", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={k: v for k, v in given.items() if v is not None},
    )
    said = done.stdout + done.stderr
    assert TOKEN not in said and "Traceback" not in said, said
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def adapter(tmp_path):
    """One that says that it is verified."""
    folder = shutil.copytree(ROOT / "adapters" / "emoji-gender", tmp_path / "adapter")
    found = find_adapter(folder)
    said = {"date": "2026-11-26", "digest": found.digest, "passed": True, "said": ["x"], "seed": 1}
    describe(folder, {**found.described, "verified": {**said, "scheduler": None}})
    write_cards(folder)
    return folder


@pytest.fixture
def hub():
    with Hub() as server:
        yield server


def held(hub, kind="model", name=NAME):
    files = dict(hub.repos[kind, name].commits[-1][1])
    files.pop(".gitattributes")
    return files


def local(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and ".cache" not in p.parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_a_push_is_one_commit_and_a_second_one_none(hub, adapter, tmp_path):
    code, out, err = evenhand(hub, "push", adapter, "mine")
    assert code == 0, err
    repo = hub.repos["model", NAME]
    assert held(hub) == local(adapter) and len(repo.commits) == 2  # the Hub's own is the first
    assert out.splitlines()[-1] == f"{hub.url}/{NAME}/tree/{repo.commits[-1][0]}"
    assert evenhand(hub, "push", adapter, NAME)[0] == 0 and len(repo.commits) == 2
    (adapter / "before-after.jpg").unlink()
    (adapter / "README.md").write_text((adapter / "README.md").read_text() + "\nMore.\n")
    code, _, err = evenhand(hub, "push", adapter, NAME)
    assert code == 2 and "README.md, line" in err and len(repo.commits) == 2
    assert evenhand(hub, "push", adapter, NAME, "--force")[0] == 0
    assert held(hub) == local(adapter) and len(repo.commits) == 3
    assert set(hub.uploads.values()) == {1, 2} and hub.uploads["README.md"] == 2
    code, out, err = evenhand(hub, "pull", NAME, "--out", tmp_path / "there")
    assert code == 0 and local(tmp_path / "there") == local(adapter), err
    assert find_adapter(str(tmp_path / "there")).digest == find_adapter(str(adapter)).digest


def test_a_classifier_goes_to_a_model_repository_that_transformers_loads(hub, tmp_path):
    from transformers import AutoModelForImageClassification, ResNetConfig

    folder = tmp_path / "classifier"
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    code, _, err = evenhand(hub, "push", folder, NAME)
    assert code == 2 and "no classifier (classifier.json, classifier.yaml)" in err
    (folder / "classifier.json").write_text("{}")
    code, _, err = evenhand(hub, "push", folder, NAME)
    assert code == 0, err
    assert held(hub) == local(folder)
    assert evenhand(hub, "pull", NAME, "--out", tmp_path / "there")[0] == 0
    AutoModelForImageClassification.from_pretrained(tmp_path / "there")


def test_a_repository_of_something_else_is_not_replaced(hub, adapter):
    repo = hub.repos["model", NAME] = Repo()
    repo.commit({"model.safetensors": b"of years", "README.md": b"mine"})
    for more in ([], ["--dry-run"]):
        code, _, err = evenhand(hub, "push", adapter, NAME, *more)
        assert code == 2 and "holds something else (model.safetensors, but no adapter.json" in err
    assert len(repo.commits) == 1


def test_a_dry_run_changes_nothing(hub, adapter):
    code, out, _ = evenhand(hub, "push", adapter, "mine", "--dry-run")
    assert code == 0 and not hub.repos and "upload  adapter.json" in out
    assert f"tester/mine, which would be made: {len(local(adapter))} to upload, 0 there" in out


def test_a_file_is_known_by_gits_digest_and_that_of_large_files(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    blob = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    large = SimpleNamespace(sha256=hashlib.sha256(b"hello\n").hexdigest())
    for found, equal in (
        (SimpleNamespace(lfs=None, blob_id=blob), True),
        (SimpleNamespace(lfs=None, blob_id=blob[::-1]), False),
        (SimpleNamespace(lfs=large, blob_id=blob[::-1]), True),
    ):
        assert _equal(tmp_path / "hello", found) is equal


@pytest.mark.parametrize(
    "faults",
    [
        {("POST", "/commit/"): [500, 503]},
        {("POST", "/commit/"): ["lost"]},
        {("POST", "/commit/"): ["drop"]},
        {("POST", "/commit/"): [429, 409]},
        {("POST", "/api/repos/create"): ["lost", 500]},
        {("POST", "/preupload/"): [500], ("PUT", "/lfs/"): [500, "drop"]},
        {("PUT", "/lfs/"): ["lost"], ("GET", "/tree/"): [502]},
    ],
    ids=lambda faults: "+".join(f"{p} {'/'.join(map(str, f))}" for (_, p), f in faults.items()),
)
def test_after_faults_the_repository_equals_the_folder_in_one_commit(hub, adapter, faults):
    hub.faults = {key: list(left) for key, left in faults.items()}
    code, _, err = evenhand(hub, "push", adapter, "mine")
    assert code == 0, err
    assert not any(hub.faults.values()), "a fault that no request met"
    assert held(hub) == local(adapter) and len(hub.repos["model", NAME].commits) == 2


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({("POST", "/api/repos/create"): [401]}, "does not know the token: `hf auth login`"),
        ({("POST", "/commit/"): [403]}, "the token may not write here"),
        ({("POST", "/commit/"): [400]}, "the Hub answers 400"),
        ({("POST", "/commit/"): [500] * 9}, "the Hub answers 500: fault 500; the same command"),
    ],
)
def test_what_the_hub_refuses_is_one_line_and_the_same_command_goes_on(
    hub, adapter, faults, message
):
    hub.faults = {key: list(left) for key, left in faults.items()}
    code, _, err = evenhand(hub, "push", adapter, "mine")
    said = [line for line in err.splitlines() if line.startswith("evenhand:")]
    assert code == 2 and len(said) == 1 and message in said[0], err  # the others are progress bars
    sent = dict(hub.uploads)
    hub.faults = {}
    assert evenhand(hub, "push", adapter, "mine")[0] == 0 and held(hub) == local(adapter)
    assert all(hub.uploads[name] == n for name, n in sent.items() if len(name) == 64)


def test_without_a_token_nothing_is_asked(hub, adapter, tmp_path):
    code, _, err = evenhand(hub, "push", adapter, "mine", HF_TOKEN=None, HF_HOME=str(tmp_path))
    assert code == 2 and "`hf auth login`, or set HF_TOKEN" in err and hub.log == []


def test_the_token_goes_to_no_other_origin(hub, adapter):
    evenhand(hub, "push", adapter, "mine")
    sent = {path: token for _, path, token in hub.log}
    assert sent["/api/repos/create"] and not any(t for p, t in sent.items() if p[:5] == "/lfs/")


def test_a_report_goes_to_a_dataset(hub, tmp_path):
    run = tmp_path / "run"
    (run / "images").mkdir(parents=True)
    (run / ".leases").mkdir()
    for name in ("report.json", "records.jsonl", "images/1.png", ".leases/x", "notes.txt"):
        (run / name).write_text("{}")
    assert evenhand(hub, "push", run, NAME, "--private")[0] == 0
    assert hub.repos["dataset", NAME].private
    assert set(held(hub, "dataset")) == {"report.json", "records.jsonl", "images/1.png"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: shutil.rmtree(a), "holds no adapter (adapter.json), no classifier"),
        (lambda a: (a / "README.md").unlink(), "the adapter has no card"),
        (lambda a: (a / "adapter.json").write_text("{"), "adapter.json"),
        (
            lambda a: describe(
                a, {k: v for k, v in find_adapter(a).described.items() if k != "verified"}
            ),
            "it is not verified; `evenhand verify",
        ),
    ],
)
def test_what_cannot_be_pushed_is_said_before_the_hub_is_asked(hub, adapter, spoil, message):
    spoil(adapter)
    code, _, err = evenhand(hub, "push", adapter, "mine")
    assert code == 2 and message in err and hub.log == [], err


def test_what_is_not_there_is_said(hub, adapter, tmp_path):
    code, _, err = evenhand(hub, "pull", "nobody/nothing", "--out", tmp_path / "x")
    assert code == 2 and "no model and no dataset of this name" in err
    assert len(err.splitlines()) == 1 and not (tmp_path / "x").exists()
