"""What a device computes well.

Processors without bfloat16 or float16 arithmetic emulate it, 30 times as slowly as float32; others
are twice as fast with it. Nothing but a measurement tells them apart reliably.
"""

import contextlib
import functools
import os
import time
import warnings

import torch

FASTER = 0.8  # of float32's time: from here on half precision is worth what it rounds away
SLOWER = 1.5
ROUNDS = 6  # of the measurement: each times a run in either precision
EMULATED = 10  # times float32's time, after which no round follows


def default_device() -> torch.device:
    """The accelerator where there is one, else the processor.

    Where there are several, each process of this machine takes its own: `local_rank`.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if not found:
        return torch.device("cpu")
    return torch.device(found.type, local_rank() % torch.accelerator.device_count())


def local_rank() -> int:
    """The number that a launcher gives this process among those of its machine; 0 without one.

    LOCAL_RANK of torchrun and accelerate, SLURM_LOCALID of Slurm.
    """
    found = (os.environ.get(name, "") for name in ("LOCAL_RANK", "SLURM_LOCALID"))
    return next((int(text) for text in found if text.isdecimal()), 0)


@functools.cache
def times_float32(dtype: str, device_type: str) -> float:
    """How many times as long as in float32 a small training step takes in a precision.

    Measured once a process, in less than a second, also where the precision is emulated: the
    best of several runs of a convolution with its backward pass and a matrix product, large enough
    for the units that a processor may have for half precision (smaller ones take as long in both).
    On a processor one thread computes and its own time counts, so that what else runs there does
    not change the answer. On CUDA torch says what the GPU has units for (bfloat16 from Ampere on),
    and nothing is measured: .5 where it has, else infinity.

    Args:
        dtype: `float32`, `bfloat16` or `float16`.
        device_type: `cpu`, `cuda`, ...
    """
    if dtype == "float32":
        return 1.0
    if device_type == "cuda":
        native = dtype == "float16" or torch.cuda.is_bf16_supported(including_emulation=False)
        return 0.5 if native else float("inf")
    times: dict[str, list[float]] = {"float32": [], dtype: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(ROUNDS):
            for name, found in times.items():
                found.append(_seconds(getattr(torch, name), device_type))
            if times[dtype][-1] > EMULATED * min(times["float32"]):
                break
    finally:
        torch.set_num_threads(threads)
    return min(times[dtype]) / min(times["float32"])


@torch.inference_mode(False)
@torch.enable_grad()  # whatever the caller has set
def _seconds(dtype: torch.dtype, device_type: str) -> float:
    images = torch.ones(3, 64, 32, 32, dtype=dtype, device=device_type)
    weights = torch.ones(64, 64, 3, 3, dtype=dtype, device=device_type, requires_grad=True)
    square = torch.ones(256, 256, dtype=dtype, device=device_type)
    clock = time.process_time if device_type == "cpu" else time.perf_counter
    start = clock()
    torch.nn.functional.conv2d(images, weights, padding=1).sum().backward()
    (square @ square).sum().item()  # waits for the device
    return clock() - start


def best_dtype(device: str | torch.device) -> str:
    """`bfloat16` where the device computes it clearly faster than float32, else `float32`."""
    return (
        "bfloat16" if times_float32("bfloat16", torch.device(device).type) <= FASTER else "float32"
    )


def resolve_dtype(dtype: str, device: str | torch.device) -> str:
    """The precision that a recipe means: `auto` becomes `best_dtype`, others stay.

    Warns as `warn_of_emulation`.
    """
    if dtype == "auto":
        return best_dtype(device)
    warn_of_emulation(dtype, device)
    return dtype


def warn_of_emulation(dtype: str, device: str | torch.device) -> None:
    """Warns where the device only emulates a precision, with the measured factor."""
    factor = times_float32(dtype, torch.device(device).type)
    if factor > SLOWER:
        much = f"{factor:.0f} times as long as" if factor < float("inf") else "much longer than"
        warnings.warn(
            f"{dtype} takes {much} float32 on this device ({torch.device(device).type}); "
            "in a new folder dtype=auto takes what it computes well",
            stacklevel=2,
        )


def autocast(dtype: str, device: str | torch.device) -> contextlib.AbstractContextManager:
    """Context that computes in a precision; float32 changes nothing."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, dtype))
