"""Record & replay against the published formulation: time of a step and memory, over the number of sampling steps.

    python eval/bench/replay.py                  # prints the table and writes eval/results/bench-replay.json

One training step on the embedded model: text-encoder LoRA, cross-entropy to "woman". Both ways sample the images that
set the targets and then form the same gradient; the reference pass of the frozen model, alike in both, is left out.

- `one graph`: a sampling pass for the targets, then the whole chain in one graph with gradient checkpointing, latents
  detached at the denoiser's input (Shen et al., ICLR 2024);
- `replay`: record and attach in one pass (these are the images for the targets), replay all calls;
- `replay 1/4`: a quarter of the calls.

Every row is measured in a process of its own; memory is the peak resident size above that before the steps. Rounds are
interleaved, so that a machine that slows down slows all of them down; figures are medians over rounds and steps.
"""

import argparse
import json
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from evenhand.files import write_json
from evenhand.runs import versions

WAYS = ("one graph", "replay", "replay 1/4")
OUT = pathlib.Path(__file__).parents[1] / "results" / "bench-replay.json"


def worker(way: str, steps: int, batch: int, repeats: int, gradient_file: str) -> None:
    """Measures one way in this process and prints a JSON line."""
    import torch
    from torch.nn import functional as F

    from evenhand.classifiers import load_classifier
    from evenhand.config import load_model
    from evenhand.diffusion import load_diffusion
    from evenhand.recipes import Lora
    from evenhand.replay import attach
    from evenhand.trainable import attach_lora

    diffusion = load_diffusion(load_model("emoji"), device="cpu")
    classifier, denoiser = load_classifier("emoji-trainer"), diffusion.denoiser
    parameters = attach_lora(diffusion.pipe, Lora(rank=8), seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:  # B starts at zero, which would make every gradient of A zero
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    prompts, seeds = ["an emoji of a firefighter"] * batch, list(range(batch))

    def run(n: int = steps) -> torch.Tensor:
        return diffusion.call(prompts, seeds, num_inference_steps=n)

    def loss_of(images: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(classifier(images).logits["gender"], torch.zeros(batch, dtype=torch.long))

    def one_graph() -> None:
        with torch.no_grad():
            classifier(run())
        loss_of(run()).backward()

    def replay() -> None:
        tape = attach(denoiser, run)
        with torch.no_grad():
            classifier(tape.images)
        calls = None if way == "replay" else torch.randperm(steps, generator=generator)[: max(steps // 4, 1)].tolist()
        tape.backward(loss_of(tape.images), calls=calls)

    step = replay
    if way == "one graph":
        step, forward = one_graph, denoiser.forward
        denoiser.enable_gradient_checkpointing()
        denoiser.train()  # checkpointing is active in training mode only; the network has no dropout
        denoiser.forward = lambda sample, *args, **kwargs: forward(sample.detach(), *args, **kwargs)
    with torch.no_grad():
        run(3)
    before, times = _resident_peak(), []
    for _ in range(repeats):
        for parameter in parameters:
            parameter.grad = None
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    torch.save([p.grad for p in parameters], gradient_file)
    print(json.dumps({"times": times, "memory_mb": (_resident_peak() - before) / 1e6}))


def _resident_peak() -> int:
    """Greatest resident size of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(way: str, steps: int, batch: int, repeats: int, gradient_file: pathlib.Path) -> dict:
    command = [sys.executable, __file__, "--worker", way, "--steps", str(steps), "--batch", str(batch), "--repeats", str(repeats),
               "--gradient-file", str(gradient_file)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def relative_error(a: pathlib.Path, b: pathlib.Path) -> float:
    import torch

    left, right = (torch.cat([g.flatten() for g in torch.load(path, weights_only=True)]) for path in (a, b))
    return float((left - right).norm() / right.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--gradient-file", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.steps[0], args.batch, args.repeats, args.gradient_file)
        return
    rows = []
    print(f"{'steps':>5} {'way':12} {'time of one graph':>18} {'memory MB':>10} {'gradient error':>15}")
    for steps in args.steps:
        with tempfile.TemporaryDirectory() as folder:
            files = {way: pathlib.Path(folder) / f"{i}.pt" for i, way in enumerate(WAYS)}
            rounds = [{way: measure(way, steps, args.batch, args.repeats, files[way]) for way in WAYS} for _ in range(args.rounds)]
            error = relative_error(files["replay"], files["one graph"])
        for way in WAYS:
            seconds = statistics.median(t for r in rounds for t in r[way]["times"])
            ratio = statistics.median(sum(r[way]["times"]) / sum(r["one graph"]["times"]) for r in rounds)
            memory = statistics.median(r[way]["memory_mb"] for r in rounds)
            rows.append({"steps": steps, "way": way, "time_of_one_graph": round(ratio, 3), "seconds": round(seconds, 2),
                         "memory_mb": round(memory, 1), "gradient_relative_error": error if way == "replay" else None})
            shown = f"{error:.1e}" if way == "replay" else ""
            print(f"{steps:5} {way:12} {ratio:18.2f} {memory:10.0f} {shown:>15}", flush=True)
    write_json(OUT, {"model": "emoji", "batch": args.batch, "rounds": args.rounds, "repeats": args.repeats,
                     "machine": platform.machine(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
