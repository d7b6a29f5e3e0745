"""What a device computes well: measured, not guessed."""

import timeit
import warnings

import pytest
import torch

from evenhand import devices


def test_a_precision_that_is_emulated_is_warned_of_with_the_measured_factor(monkeypatch):
    monkeypatch.setattr(devices, "times_float32", lambda dtype, device_type: 27.2)
    with pytest.warns(UserWarning, match="bfloat16 takes 27 times as long as float32 on this devi"):
        assert devices.resolve_dtype("bfloat16", "cpu") == "bfloat16"
    assert devices.best_dtype("cpu") == "float32"


def test_auto_takes_the_faster_precision_and_never_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = devices.resolve_dtype("auto", "cpu")
        assert devices.resolve_dtype("float32", "cpu") == "float32"
    faster = devices.times_float32("bfloat16", "cpu") <= devices.FASTER
    assert found == ("bfloat16" if faster else "float32")


def test_the_processes_of_a_launcher_take_one_accelerator_each(monkeypatch):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    assert devices.local_rank() == 0
    monkeypatch.setenv("SLURM_LOCALID", "2")
    assert devices.local_rank() == 2
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert devices.local_rank() == 3 and devices.default_device().type in ("cpu", "cuda", "mps")


def step(dtype):
    weights = torch.ones(16, 16, 3, 3, dtype=dtype, requires_grad=True)
    torch.nn.functional.conv2d(torch.ones(8, 16, 24, 24, dtype=dtype), weights).sum().backward()


def test_the_measurement_agrees_with_a_larger_one_and_may_run_without_gradients():
    devices.times_float32.cache_clear()
    with torch.inference_mode():
        factor = devices.times_float32("bfloat16", "cpu")
    seconds = [
        min(timeit.repeat(lambda d=dtype: step(d), number=1, repeat=4))
        for dtype in (torch.bfloat16, torch.float32)
    ]
    assert 0.2 < factor / (seconds[0] / seconds[1]) < 5


def test_autocast_computes_in_the_precision_asked_for():
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for dtype in ("float32", "bfloat16"):
        with devices.autocast(dtype, "cpu"):
            assert layer(x).dtype == getattr(torch, dtype)
