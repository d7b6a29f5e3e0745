"""Record & replay against the published formulation.

Time of a step and memory, over the number of sampling steps.

    python eval/bench/replay.py
    python eval/bench/replay.py --model sd15 --width 0.2 --resolution 256 --batch 1
    python eval/bench/replay.py --model sdxl --dtype bfloat16 --batch 1    # full size: needs a GPU

Prints the table and writes eval/results/bench-replay-MODEL.json.

One training step: text-encoder LoRA, a cross-entropy on the images. Both ways sample the images
that set the targets and then form the same gradient; the reference pass of the frozen model, alike
in both, is left out. `sd15` and `sdxl` are built with random weights from the published
configurations (`networks.py`), `--width` of their width.

- `one graph`: a sampling pass for the targets, then the whole chain in one graph with gradient
  checkpointing, latents detached at the denoiser's input (Shen et al., ICLR 2024);
- `replay`: record and attach in one pass (these are the images for the targets), replay all calls;
- `replay 1/4`: a quarter of the calls.

Every row is measured in a process of its own; memory is the peak above that before the steps, of
the GPU where there is one, else resident. Rounds are interleaved, so that a machine that slows down
slows all of them down; figures are medians over rounds and steps.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from networks import RESOLUTIONS, build
from torch import Tensor
from torch.nn import functional as F

from evenhand.core.files import write_json
from evenhand.diffusion.lora import attach_lora
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.diffusion.replay import attach
from evenhand.judges.registry import load_judge
from evenhand.recipes.judge import find_judge
from evenhand.recipes.lora import Lora
from evenhand.recipes.model import Settings, load_model
from evenhand.training.run_directory import machine, peak_memory

WAYS = ("one graph", "replay", "replay 1/4")
RESULTS = pathlib.Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Case:
    """What is measured: the model, and the images of a step."""

    model: str = "emoji"
    batch: int = 8
    width: float = 1.0
    resolution: int | None = None
    dtype: str = "float32"
    repeats: int = 2

    def load(self) -> tuple[Diffusion, Callable[[Tensor], Tensor]]:
        """The pipeline, and logits of its images."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.model == "emoji":
            classifier = load_judge(find_judge("emoji-trainer"), device=device)
            return load_diffusion(load_model("emoji"), device=device), lambda images: classifier(
                images
            ).logits["gender"]
        pipe = build(self.model, width=self.width, device=device, dtype=getattr(torch, self.dtype))
        size = self.resolution or RESOLUTIONS[self.model]
        settings = Settings(guidance_scale=7.5, height=size, width=size)
        return Diffusion(pipe, settings=settings), lambda images: images.mean((2, 3))


def worker(case: Case, way: str, steps: int, gradient_file: str) -> None:
    """Measures one way in this process and prints a JSON line."""
    diffusion, logits = case.load()
    denoiser: Any = diffusion.denoiser
    batch = case.batch
    parameters = list(attach_lora(diffusion.pipe, Lora(rank=8), seed=0).values())
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:  # B starts at zero, which would make every gradient of A zero
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator).to(
            parameter.device
        )
    prompts, seeds = ["an emoji of a firefighter"] * batch, list(range(batch))

    def run(n: int = steps) -> Tensor:
        return diffusion.call(prompts, seeds, num_inference_steps=n)

    def loss_of(images: Tensor) -> Tensor:
        return F.cross_entropy(
            logits(images), torch.zeros(batch, dtype=torch.long, device=images.device)
        )

    def one_graph() -> None:
        with torch.no_grad():
            logits(run())
        loss_of(run()).backward()

    def replay() -> None:
        tape = attach(denoiser, run)
        with torch.no_grad():
            logits(tape.images)
        calls = (
            None
            if way == "replay"
            else torch.randperm(steps, generator=generator)[: max(steps // 4, 1)].tolist()
        )
        tape.backward(loss_of(tape.images), calls=calls)

    step = replay
    if way == "one graph":
        step, forward = one_graph, denoiser.forward
        denoiser.enable_gradient_checkpointing()
        # checkpointing is active in training mode only; the network has no dropout
        denoiser.train()
        denoiser.forward = lambda sample, *args, **kwargs: forward(sample.detach(), *args, **kwargs)
    with torch.no_grad():
        run(3)
    found = timed(step, parameters, case.repeats)
    torch.save([p.grad.cpu() for p in parameters if p.grad is not None], gradient_file)
    print(json.dumps(found))


def timed(step: Callable[[], None], parameters: list[torch.nn.Parameter], repeats: int) -> dict:
    """Seconds of each of some steps, and the memory that they take beside the model, MB."""
    gpu, times = torch.cuda.is_available(), []
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if gpu else peak_memory()
    for _ in range(repeats):
        for parameter in parameters:
            parameter.grad = None
        started = time.perf_counter()
        step()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    memory = (peak_memory() - before) / 1e6
    return {"times": times, "memory_mb": memory, "model_mb": before / 1e6}


def measure(case: Case, way: str, steps: int, gradient_file: pathlib.Path) -> dict:
    """Runs `worker` in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        json.dumps([asdict(case), way, steps, str(gradient_file)]),
    ]
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[
            -1
        ]
    )


def relative_error(a: pathlib.Path, b: pathlib.Path) -> float:
    left, right = (
        torch.cat([g.flatten() for g in torch.load(path, weights_only=True)]) for path in (a, b)
    )
    return float((left - right).norm() / right.norm())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--rounds", type=int, default=3)
    for field in fields(Case):
        kind = int if field.name == "resolution" else type(field.default)
        parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        case, *rest = json.loads(args.worker)
        worker(Case(**case), *rest)
        return
    case = Case(**{field.name: getattr(args, field.name) for field in fields(Case)})
    rows = []
    print(
        f"{'steps':>5} {'way':12} {'time of one graph':>18} {'memory MB':>10} "
        f"{'gradient error':>15}"
    )
    for steps in args.steps:
        with tempfile.TemporaryDirectory() as folder:
            files = {way: pathlib.Path(folder) / f"{i}.pt" for i, way in enumerate(WAYS)}
            rounds = [
                {way: measure(case, way, steps, files[way]) for way in WAYS}
                for _ in range(args.rounds)
            ]
            error = relative_error(files["replay"], files["one graph"])
        for way in WAYS:
            seconds = statistics.median(t for r in rounds for t in r[way]["times"])
            ratio = statistics.median(
                sum(r[way]["times"]) / sum(r["one graph"]["times"]) for r in rounds
            )
            memory = statistics.median(r[way]["memory_mb"] for r in rounds)
            rows.append(
                {
                    "steps": steps,
                    "way": way,
                    "time_of_one_graph": round(ratio, 3),
                    "seconds": round(seconds, 2),
                    "memory_mb": round(memory, 1),
                    "gradient_relative_error": error if way == "replay" else None,
                }
            )
            shown = f"{error:.1e}" if way == "replay" else ""
            print(f"{steps:5} {way:12} {ratio:18.2f} {memory:10.0f} {shown:>15}", flush=True)
    name = case.model if case.width == 1 else f"{case.model}-width-{case.width:g}"
    write_json(
        RESULTS / f"bench-replay-{name}.json",
        {
            **asdict(case),
            "rounds": args.rounds,
            **machine(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
