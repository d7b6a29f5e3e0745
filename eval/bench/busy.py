"""What waiting threads cost on a busy machine.

    python eval/bench/busy.py                    # prints and writes eval/results/bench-busy.json

torch's threads (libgomp) spin while they wait for work. On a machine whose cores others use, too,
they so keep those from the cores that have work. `evenhand` sets OMP_WAIT_POLICY=PASSIVE unless the
user says otherwise: waiting threads sleep, and wake a little later where nobody else is. Two
processes, one with libgomp's default and one with ours, draw the same images of the embedded model
in turns, each as soon as the other is done, while others load every core; first without them.
Median seconds of the rounds. Two minutes.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

from evenhand.core.files import write_json
from evenhand.training.run_directory import versions

OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-busy.json"
POLICIES = {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
IMAGES, SAMPLING_STEPS = 2, 2
BUSY = "while True: pass"


def worker() -> None:
    """Draws the images once for every line that comes in, and prints the seconds."""
    from evenhand.diffusion.pipeline import load_diffusion
    from evenhand.recipes.model import load_model

    diffusion = load_diffusion(load_model("emoji"), device="cpu")
    prompts, seeds = ["an emoji of a firefighter"] * IMAGES, list(range(IMAGES))
    for _ in sys.stdin:
        start = time.perf_counter()
        diffusion.sample(prompts, seeds, num_inference_steps=SAMPLING_STEPS)
        print(time.perf_counter() - start, flush=True)


def start(policy: dict[str, str]) -> subprocess.Popen:
    """A worker with torch's default of threads."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    return subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        env={**kept, **policy},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def seconds(process: subprocess.Popen) -> float:
    """One round of a worker."""
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def rounds(workers: dict[str, subprocess.Popen], busy: int, n: int) -> dict[str, list[float]]:
    """Seconds of n rounds of each worker, in turns, beside so many busy processes."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        found: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(n):
            for name, process in workers.items():
                found[name].append(seconds(process))
        return found
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--busy", type=int, nargs="+", default=[0, cores])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker()
        return
    workers = {name: start(policy) for name, policy in POLICIES.items()}
    rows = []
    try:
        for process in workers.values():
            seconds(process)  # loads and warms up
        for busy in args.busy:
            load = round(os.getloadavg()[0], 2)  # of others, before ours
            found = rounds(workers, busy, args.rounds)
            median = {name: round(statistics.median(x), 3) for name, x in found.items()}
            ratio = round(median["default"] / median["passive"], 2)
            rows.append(
                {
                    "busy": busy,
                    "load_average_before": load,
                    "median_seconds": median,
                    "default_over_passive": ratio,
                    "seconds": {name: [round(x, 3) for x in xs] for name, xs in found.items()},
                }
            )
            print(
                f"{busy} busy processes on {cores} cores: default {median['default']:.2f} s, "
                f"passive {median['passive']:.2f} s, {ratio:.2f} times",
                flush=True,
            )
    finally:
        for process in workers.values():
            process.kill()
            process.wait()
    write_json(
        OUT,
        {
            "cores": cores,
            "images": IMAGES,
            "num_inference_steps": SAMPLING_STEPS,
            "rows": rows,
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    main()
