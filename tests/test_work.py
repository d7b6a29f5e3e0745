"""Work that several processes share: real processes in one folder, some of them killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from evenhand.core.errors import UserError
from evenhand.core.files import _temporary, digest
from evenhand.core.locks import exclusive, lease
from evenhand.core.records import hash63, image_seed, read
from evenhand.core.work import Share, part_of, share_of, work
from evenhand.measure.plan import plan
from evenhand.recipes.measure import Measure
from evenhand.training.run_directory import machine

COMMAND = [
    sys.executable, "-m", "evenhand", "measure", "emoji", "--prompts", "emoji-occupations",
    "--split", "test", "--attributes", "gender", "--images", "4", "--explicit-images", "0",
    "--batch", "4", "--setting", "num_inference_steps=2",
]  # fmt: skip
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(folder: pathlib.Path, *more: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, "--out", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ONE_THREAD, **environment},
    )


def finish(*processes: subprocess.Popen) -> list[str]:
    found = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), found
    return [out for out, _ in found]


def killed_name(pid: int) -> str:
    """The name under which a process of this machine would have written a part."""
    name = _temporary(pathlib.Path("part.jsonl")).name
    return name.replace(f".{os.getpid()}.", f".{pid}.")


def outcome(folder: pathlib.Path) -> tuple[bytes, dict[str, str]]:
    """What was recorded, and a digest of each image."""
    images = {p.name: digest(p) for p in (folder / "images").iterdir()}
    return (folder / "records.jsonl").read_bytes(), images


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    finish(start(folder))
    return folder


def test_two_killed_processes_and_one_that_finishes_give_what_one_gives(alone, tmp_path):
    folder = tmp_path / "run"
    killed = [start(folder), start(folder)]
    while len(list((folder / "parts").glob("*.jsonl"))) < 2:
        assert all(process.poll() is None for process in killed)
        time.sleep(0.02)
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (folder / "records.jsonl").exists()
    (folder / "parts" / killed_name(killed[0].pid)).write_text("half")
    finish(start(folder))
    assert outcome(folder) == outcome(alone) and not list(folder.rglob("*.tmp"))


def test_the_processes_of_a_launcher_share_the_work_and_one_reports(alone, tmp_path):
    folder = tmp_path / "run"
    ranks = [start(folder, RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    first, second = finish(*ranks)
    assert outcome(folder) == outcome(alone) and "report:" in first and "report:" not in second


def test_shards_do_their_own_part_and_the_last_reports(alone, tmp_path):
    folder = tmp_path / "run"
    (out,) = finish(start(folder, "--shard", "1/2"))
    assert "shard 1/2 is done" in out and len(list((folder / "parts").glob("*"))) == 3
    (out,) = finish(start(folder, "--shard", "0/2"))
    assert "report:" in out and outcome(folder) == outcome(alone)


def test_an_executor_of_datatrove_gives_the_same(alone, tmp_path):
    folder = tmp_path / "run"
    finish(start(folder, "--executor", "local", "--tasks", "2", "--executor-option", "workers=1"))
    assert outcome(folder) == outcome(alone) and (folder / "report.html").exists()


def test_the_tasks_of_an_executor_may_judge_by_the_trainer(tmp_path):
    folder, tasks = tmp_path / "run", ("--executor", "local", "--tasks", "1")
    adapted = ("--adapter", "emoji-gender", "--judge", "emoji-trainer", "--images", "1")
    finish(start(folder, *tasks, *adapted, "--judge-may-be-trainer", "--no-images"))
    assert "data:image" not in (folder / "report.html").read_text()


def test_the_run_says_what_drew_it(alone):
    run = json.loads((alone / "run.json").read_text())
    assert run["threads"] == 1 and run["device"] == machine()["device"]


def test_a_unit_whose_lease_is_held_is_left_to_its_holder(tmp_path):
    done = []

    def do(unit: str) -> str:
        done.append(unit)
        return unit

    units = {name: name for name in "abcd"}
    with lease(tmp_path / ".leases" / "c") as held:
        assert held
        part_of(tmp_path, "c").parent.mkdir(exist_ok=True)
        part_of(tmp_path, "c").write_text("of the holder")
        assert work(units, tmp_path, do, share=Share())
    assert done == ["a", "b", "d"] and part_of(tmp_path, "c").read_text() == "of the holder"


def test_a_share_begins_with_its_own_units_and_goes_on_with_the_others(tmp_path):
    order = []
    units = {str(i): str(i) for i in range(6)}
    assert work(units, tmp_path, lambda u: order.append(u) or u, share=Share(1, 3))
    assert order == ["1", "4", "2", "5", "0", "3"]


def test_shares_are_read_from_the_command_and_from_launchers(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert share_of() == Share(0, 1) and share_of("2/8") == Share(2, 8, only=True)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert share_of() == Share(3, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert share_of() == Share(1, 2) and share_of("0/5") == Share(0, 5, only=True)


@pytest.mark.parametrize("shard", ["3/3", "a/2", "1", "1/0", "-1/2"])
def test_a_shard_that_is_none_is_refused(shard):
    with pytest.raises(UserError, match="shard"):
        share_of(shard)


def test_a_lock_says_who_holds_it(tmp_path):
    code = f"""
import time
from evenhand.core.locks import exclusive
with exclusive({str(tmp_path)!r}, "training"):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    message = f"process {holder.pid} on .* has been training here since .* Wait until it ends"
    with pytest.raises(UserError, match=message), exclusive(tmp_path, "training"):
        pass
    holder.kill()
    holder.communicate()
    with exclusive(tmp_path, "training"):
        pass


def test_records_that_stand_twice_are_refused(alone, tmp_path):
    twice = tmp_path / "records.jsonl"
    twice.write_bytes(2 * (alone / "records.jsonl").read_bytes())
    with pytest.raises(UserError, match=r"records.jsonl:25: .* stands twice"):
        read(twice)


def test_seeds_are_of_63_bits_and_differ_by_purpose():
    seeds = {image_seed(p, 0, "a nurse", i) for p in ("measure", "train") for i in range(5000)}
    assert len(seeds) == 10_000 and max(seeds) > 2**60 and max(seeds) < 2**63
    assert hash63("a", "b|c") != hash63("a|b", "c")


def test_a_plan_is_the_same_table_every_time():
    config = Measure(model="emoji", prompts=["emoji-occupations"], images=2)
    assert plan(config) == plan(config)
