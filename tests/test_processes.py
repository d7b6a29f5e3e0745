"""Two processes share the images of a step.

The weights are those of one, and when one dies the run ends and can go on.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from evenhand.core.adapters import LORA

RECIPE = [
    "dft/emoji-gender",
    "steps=6",
    "images=6",
    "explicit_images=1",
    "num_inference_steps=[4]",
    "gradient.calls=2",
    "gradient.batch=3",
    "preservation.seeds=8",
    "optimisation.warmup=0",
    "lora.rank=2",
    "alignment.confidence=0.5",
    "checkpoint_every=1",
    "prompts_per_step=1",
    "optimisation.learning_rate=1e-3",
]


def launch(processes: int, folder: pathlib.Path, *more: str) -> subprocess.Popen:
    several = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        if processes > 1
        else []
    )
    command = [
        sys.executable,
        *several,
        "-m",
        "evenhand",
        "train",
        *(x for x in RECIPE if x.split("=")[0] not in {y.split("=")[0] for y in more}),
        *more,
        "--out",
        str(folder),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    finish(launch(1, folder / "run"))
    return load_file(folder / "run" / "adapter" / LORA)


def test_two_processes_give_the_weights_of_one(alone, tmp_path):
    out, _ = finish(launch(2, tmp_path / "run"))
    together = load_file(tmp_path / "run" / "adapter" / LORA)
    assert together.keys() == alone.keys()
    assert max(float((together[k] - alone[k]).abs().max()) for k in alone) < 1e-5
    assert out.count("adapter:") == 1
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 6


def test_two_processes_average_their_runs(tmp_path):
    out, _ = finish(launch(2, tmp_path / "run", "runs=2", "steps=1"))
    average, *states = (
        load_file(tmp_path / "run" / where / "adapter" / LORA) for where in ("", "seed-1", "seed-2")
    )
    assert all(
        torch.equal(average[k], torch.cat([s[k] for s in states]))
        for k in average
        if ".lora_A." in k
    )
    assert out.count("adapter:") == 1


def test_the_death_of_one_process_ends_the_run_which_goes_on_later(alone, tmp_path):
    process = launch(2, tmp_path / "run")
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0 and "the same command goes on from the last checkpoint" in err
    finish(launch(2, tmp_path / "run"))
    weights = load_file(tmp_path / "run" / "adapter" / LORA)
    assert all(torch.allclose(weights[k], alone[k], atol=1e-5) for k in alone)


HOSTS = """
import pathlib, sys
from accelerate import Accelerator
from evenhand.training.processes import same_everywhere
accelerator = Accelerator(cpu=True)
host = pathlib.Path(sys.argv[1], str(accelerator.process_index))
for name in ("both", "main's", "the other's", "nobody's"):
    assert same_everywhere(accelerator, host / name) == host / name
accelerator.wait_for_everyone()
accelerator.end_training()  # an open process group may abort the interpreter at its end
"""


def test_hosts_without_a_shared_folder_go_on_from_the_main_processs_files(tmp_path):
    (tmp_path / "hosts.py").write_text(HOSTS)
    for host, names in (("0", ("both", "main's")), ("1", ("both", "the other's"))):
        (tmp_path / host).mkdir()
        for name in names:
            (tmp_path / host / name).write_text(f"of {host}")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "hosts.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for host in ("0", "1"):
        found = {p.name: p.read_text() for p in (tmp_path / host).iterdir()}
        assert found == {"both": "of 0", "main's": "of 0"}
