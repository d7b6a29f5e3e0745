"""Files are whole or not there, whatever happens; what a killed process left is cleared."""

import os
import pathlib
import platform
import subprocess
import sys
import threading

import pytest

from evenhand.core import files
from evenhand.core.files import clear_stale, digest_of_folder, whole, write_text
from evenhand.training.run_directory import check_run, claim_run


def left(folder: pathlib.Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def folder_of(path: pathlib.Path, text: str) -> pathlib.Path:
    path.mkdir()
    (path / "a").write_text(text)
    return path


@pytest.mark.parametrize("make", [pathlib.Path.write_text, folder_of])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, make):
    make(tmp_path / "x", "old")
    with pytest.raises(KeyError), whole(tmp_path / "x") as temporary:
        make(temporary, "new")
        raise KeyError
    assert (
        left(tmp_path) == ["x"]
        and "old" in (tmp_path / "x" / "a", tmp_path / "x")[(tmp_path / "x").is_file()].read_text()
    )


@pytest.mark.parametrize("atomic", [True, False])
def test_a_folder_is_there_at_every_moment_while_it_is_replaced(tmp_path, monkeypatch, atomic):
    """A reader in another thread never finds neither; elsewhere than Linux only the new is late."""
    if not atomic:  # as on systems without renameat2
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    folder_of(tmp_path / "x", "0")
    missing, done = [], threading.Event()

    def look():
        while not done.is_set():
            names = os.listdir(tmp_path)
            if not any(name == "x" or name.endswith(".old.tmp") for name in names):
                missing.append(names)
            if atomic and not (tmp_path / "x").is_dir():
                missing.append("x")

    thread = threading.Thread(target=look)
    thread.start()
    for i in range(100):
        with whole(tmp_path / "x", durable=False) as temporary:
            folder_of(temporary, str(i))
    done.set()
    thread.join()
    assert not missing and left(tmp_path) == ["x"] and (tmp_path / "x" / "a").read_text() == "99"


def test_two_writers_of_one_file_do_not_share_a_temporary(tmp_path):
    with whole(tmp_path / "x") as one, whole(tmp_path / "x") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert left(tmp_path) == ["x"] and (tmp_path / "x").read_text() == "one"


def test_the_disk_has_the_content_before_the_name(tmp_path, monkeypatch):
    order = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    monkeypatch.setattr(os, "fsync", lambda h: (order.append("fsync"), real["fsync"](h)))
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("replace"), real["replace"](*a)))
    write_text(tmp_path / "x", "a")
    assert order == ["fsync", "replace", "fsync"]


def test_a_name_as_long_as_file_systems_take_can_be_written(tmp_path):
    write_text(tmp_path / ("ü" * 126 + ".x"), "a")
    assert left(tmp_path) == ["ü" * 126 + ".x"]


KILLED = """
import os, pathlib, signal, sys
from evenhand.core.files import whole
with whole(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path):
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "a", tmp_path / "images" / "b"):
        subprocess.run([sys.executable, "-c", KILLED, str(path)])
    theirs = tmp_path / f".c.{platform.node()}elsewhere.1.00000000.tmp"
    theirs.write_text("of another machine")
    with whole(tmp_path / "d") as mine:
        mine.write_text("of this process, which lives")
        assert len(clear_stale(tmp_path)) == 2
        assert left(tmp_path) == sorted([theirs.name, mine.name, "images"])
    assert not left(tmp_path / "images")


def test_a_folder_that_stepped_aside_takes_its_name_again(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    host = files._host()
    aside = tmp_path / f".x.{host}.{int(dead.stdout)}.00000000.old.tmp"
    folder_of(aside, "only copy")
    clear_stale(tmp_path)
    assert left(tmp_path) == ["x"]
    folder_of(aside, "older")
    clear_stale(tmp_path)
    assert left(tmp_path) == ["x"] and (tmp_path / "x" / "a").read_text() == "only copy"


def model_folder(path: pathlib.Path) -> pathlib.Path:
    (path / "unet").mkdir(parents=True)
    with (path / "unet" / "weights.safetensors").open("wb") as file:
        file.truncate(70 * 2**20)
    (path / "model_index.json").write_text("{}")
    return path


def test_a_models_digest_follows_its_weights_and_not_its_notes(tmp_path):
    folder = model_folder(tmp_path / "m")
    first = digest_of_folder(folder)
    (folder / "README.md").write_text("words")
    assert digest_of_folder(folder) == first == digest_of_folder(model_folder(tmp_path / "other"))
    (folder / "model_index.json").write_text("[]")
    assert digest_of_folder(folder) != first
    (folder / "model_index.json").write_text("{}")
    for start in (0, 30 * 2**20, 66 * 2**20):  # of a tensor of 4 MiB
        with (folder / "unet" / "weights.safetensors").open("r+b") as file:
            file.seek(start)
            file.write(b"\1" * 4 * 2**20)
        changed = digest_of_folder(folder)
        assert changed != first
        first = changed


def test_a_run_that_goes_on_clears_what_the_killed_one_left(tmp_path):
    claim_run(tmp_path, {"a": 1})
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "images" / "a.png")])
    assert len(left(tmp_path / "images")) == 1
    check_run(tmp_path, {"a": 1})
    assert not left(tmp_path / "images")
