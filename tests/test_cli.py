"""Bad input: one clear line, an exit code, no traceback, and nothing half-written."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file, save_file

from evenhand.cli import main
from evenhand.cli.catalogue import KINDS
from evenhand.core.adapters import LORA, find_adapter
from evenhand.core.resources import about, names

MEASURE = ["measure", "emoji", "--prompts", "emoji-occupations"]
SMALL = [
    *MEASURE,
    "--attributes",
    "gender",
    "--split",
    "test",
    "--setting",
    "num_inference_steps=2",
]


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evenhand", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


BAD = [
    (
        ["measure", "emojo", "--prompts", "emoji-occupations"],
        "unknown model 'emojo'; did you mean 'emoji'?",
    ),
    (["measure", "emoji", "--prompts", "jobs"], "unknown prompt set 'jobs'"),
    ([*MEASURE, "--attributes", "gendre"], "unknown attribute 'gendre'; did you mean 'gender'?"),
    ([*MEASURE, "--target", "gender=woman:.6,man:.6"], "target of 'gender' sums to 1.2"),
    ([*MEASURE, "--target", "gender=lady:.5,man:.5"], "unknown class 'lady'"),
    ([*MEASURE, "--target", "gender=half"], "write ATTRIBUTE=CLASS:SHARE"),
    ([*MEASURE, "--images", "0"], "images: Input should be greater than or equal to 1"),
    ([*MEASURE, "--split", "tests"], "unknown split 'tests'; did you mean 'test'?"),
    ([*MEASURE, "--adapter", "none-such", "--images", "1"], "unknown adapter 'none-such'"),
    ([*MEASURE, "--judge", "nobody"], "unknown judge 'nobody'"),
    ([*MEASURE, "--setting", "steps=3"], "settings: steps: Extra inputs are not permitted"),
    ([*MEASURE, "--protocol", "fool"], "unknown protocol 'fool'"),
    (
        ["measure", "--judge", "emoji-judge"],
        "name either a model or, with --images-from, a folder of images",
    ),
    (["measure", "emoji"], "name a prompt set with --prompts"),
    (
        ["measure", "--images-from", "nowhere", "--judge", "emoji-judge"],
        "nowhere: no such folder of images",
    ),
    ([*MEASURE, "--until", ".7"], "until: Input should be less than 0.5"),
    ([*MEASURE, "--calibration", "none.json"], "none.json: cannot be read as a calibration"),
    (
        ["calibrate", "emoji-judge", "nowhere", "--labels", "gendre=x"],
        "unknown attribute 'gendre'; did you mean 'gender'?",
    ),
    (["calibrate", "emoji-judge", "nowhere"], "name the column that holds the labels"),
    (
        ["classifier", "train", "classifiers/nobody", "nowhere"],
        "unknown recipe 'classifiers/nobody'",
    ),
    (
        ["train", "dft/emoji-gendre"],
        "unknown recipe 'dft/emoji-gendre'; did you mean 'dft/emoji-gender'?",
    ),
    (["train", "dft/emoji-gender", "learning_rate"], "write key=value"),
    (
        ["train", "dft/emoji-gender", "lora.rank=-1", "imgs=3"],
        "lora.rank: Input should be greater than or equal to 1",
    ),
    (
        ["train", "dft/emoji-gender", "alignment.confidence={tone: .3}"],
        "alignment.confidence is of tone, the targets of gender",
    ),
    (["compare", "nowhere", "nowhere"], "nowhere: is no run directory"),
    (["report", "nowhere"], "nowhere: is no run directory"),
]


@pytest.mark.parametrize(
    "arguments, message", BAD, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_bad_input_is_one_clear_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code not in (0, None) and message in " ".join(err.split()).replace("│ ", "").replace(
        " │", ""
    )
    assert "Traceback" not in err and not out
    assert not list(tmp_path.iterdir())


def test_plan_says_how_many_images(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "plan", "--width", ".1", "--prompts", "20")
    assert not code and "1,860" in out and "takes 38 prompts" in out


@pytest.mark.filterwarnings("default")
def test_a_warning_of_ours_is_one_line(capsys, monkeypatch, tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_text("no image")
    code, out, err = run(
        capsys,
        monkeypatch,
        "measure",
        "--images-from",
        tmp_path / "images",
        "--judge",
        "emoji-judge",
        "--out",
        tmp_path / "run",
    )
    ours = [line for line in err.splitlines() if line.startswith("evenhand: ")]
    assert not code and "report: " in out and "Warning" not in err
    assert ours == [
        f"evenhand: 1 of 2 images could not be read: {tmp_path / 'run' / 'skipped.jsonl'} says why"
    ]


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evenhand", "--debug", "report", "nowhere"])
    with pytest.raises(ValueError, match="no run directory"):
        main()


def test_every_mistake_of_a_prompt_file_is_reported_together(capsys, monkeypatch, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "version: 1\nsource: me\nlicence: CC0\nfamily: jobs\ntemplates: ['a job']\n"
        "concepts: {train: [nurse], test: [nurse]}\n"
    )
    code, _, err = run(capsys, monkeypatch, "measure", "emoji", "--prompts", path)
    assert (
        code == 2
        and "concept 'nurse' stands in train and test; remove one" in err
        and "'a job' has no {concept}" in err
    )


def test_a_wording_that_cannot_be_filled_in_is_named(capsys, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "{version: 1, source: me, licence: none, family: x, templates: ['a {mood} {concept}'], "
        "concepts: {test: [cook]}}"
    )
    code, _, err = run(capsys, monkeypatch, "measure", "emoji", "--prompts", tmp_path / "mine.yaml")
    assert (
        code == 2
        and "'a {mood} {concept}' cannot be filled in: besides {concept} only {a} may" in err
    )


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\xff" * 100]
)
def test_a_damaged_adapter_is_named(capsys, monkeypatch, tmp_path, damage):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / LORA).write_bytes(damage(find_adapter("emoji-gender").weights.read_bytes()))
    code, _, err = run(
        capsys, monkeypatch, *SMALL, "--adapter", tmp_path / "bad", "--out", tmp_path / "run"
    )
    assert code == 2 and f"{LORA} cannot be loaded" in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_an_adapter_of_another_model_is_refused(capsys, monkeypatch, tmp_path):
    state = {
        k: v[:, :3].clone() if "lora_A" in k else v
        for k, v in load_file(find_adapter("emoji-gender").weights).items()
    }
    (tmp_path / "other").mkdir()
    save_file(state, tmp_path / "other" / LORA)
    code, _, err = run(
        capsys, monkeypatch, *SMALL, "--adapter", tmp_path / "other", "--out", tmp_path / "run"
    )
    assert (
        code == 2 and "cannot be loaded: " in err and "Is it one of StableDiffusionPipeline?" in err
    )


def test_a_truncated_model_is_named(capsys, monkeypatch, tmp_path):
    import shutil

    from evenhand.core.resources import locate

    model = shutil.copytree(locate("package:emoji/model"), tmp_path / "model")
    weights = next((model / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = run(
        capsys,
        monkeypatch,
        "measure",
        model,
        "--prompts",
        "emoji-occupations",
        "--judge",
        "emoji-judge",
        "--images",
        "1",
        "--out",
        tmp_path / "run",
    )
    assert code == 2 and "cannot be loaded" in err and not (tmp_path / "run").exists()


def command(*arguments):
    return [sys.executable, "-m", "evenhand", *map(str, arguments)]


def test_ctrl_c_keeps_what_was_finished_and_the_run_goes_on(tmp_path):
    arguments = [
        *SMALL,
        "--images",
        "6",
        "--explicit-images",
        "0",
        "--batch",
        "4",
        "--out",
        tmp_path / "run",
    ]
    process = subprocess.Popen(
        command(*arguments),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def parts():
        return {p: p.read_text() for p in (tmp_path / "run" / "parts").glob("*.jsonl")}

    for _ in range(1200):
        if parts() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been done already
        assert process.returncode == 130 and "Traceback" not in err and "interrupted" in err
    kept = parts()
    assert kept and all(json.loads(x) for part in kept.values() for x in part.splitlines())
    assert subprocess.run(command(*arguments), capture_output=True).returncode == 0
    assert kept.items() <= parts().items()
    assert len((tmp_path / "run" / "records.jsonl").read_text().splitlines()) == 36


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path):
    """A limit on the size of files stands for the full disk.

    The write fails the same way, inside the system call.
    """
    arguments = [*SMALL, "--images", "2", "--explicit-images", "0", "--out", tmp_path / "run"]
    limit = 4000
    result = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (
        result.returncode == 1
        and "Traceback" not in result.stderr
        and "File too large" in result.stderr
    )
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "run" / "report.html").exists()
    assert subprocess.run(command(*arguments), capture_output=True).returncode == 0


def test_dry_run_says_what_would_run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, monkeypatch, *MEASURE, "--images", "2", "--dry-run")
    assert not code and "judge:" in out and "2584 images of 684 prompts" in out
    assert re.search(r"# about [\d.]+ minutes, [\d.]+ GiB", out)
    assert not list(tmp_path.iterdir())


def test_a_fault_of_ours_is_a_traceback_and_a_hint_and_no_users_error(capsys, monkeypatch):
    """Any error that is no UserError, a ValueError too: hiding it would hide the fault."""

    def fails():
        raise ValueError("a hidden fault")

    monkeypatch.setattr("evenhand.core.adapters.shipped_adapters", fails)
    code, _, err = run(capsys, monkeypatch, "list")
    lines = err.splitlines()
    assert code == 1 and "Traceback" in lines[0] and "ValueError: a hidden fault" in lines[-2]
    assert "this is a fault of evenhand, not of yours: please report it" in lines[-1]


def test_list_says_what_each_thing_is(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "list")
    assert not code and "Stable Diffusion 1.5, the model of the published experiments" in out
    assert all(about(kind, name) for kind in KINDS.values() for name in names(kind))
