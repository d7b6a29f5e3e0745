"""Steps of the denoising loss against the loop of diffusers' own DreamBooth LoRA script.

    python eval/bench/denoising.py
    python eval/bench/denoising.py --model sd15 --width 0.2 --resolution 256
    python eval/bench/denoising.py --model sdxl --dtype bfloat16    # full size: needs a GPU

Prints the table and writes eval/results/bench-denoising-MODEL.json.

Both train the same LoRA of the denoiser on the same encoded images with AdamW, and encode the
captions anew at each step, as diffusers' script does.

- `diffusers`: the loop of examples/dreambooth/train_dreambooth_lora.py, written out for the family:
  `encode_prompt`, `add_noise`, U-Net, mean square, backward, clip, step;
- `evenhand`: `Denoising.loss`, backward, `Optimizer.step`.

Each step of one is followed by a step of the other, so that a machine that slows down slows both
down. The ratio is that of the medians; above 1 evenhand is the faster one. Memory is measured in a
process of its own for each.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from networks import RESOLUTIONS, build
from torch.nn import functional as F

from evenhand.core.files import write_json
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.lora import attach_lora
from evenhand.diffusion.pipeline import Diffusion, load_diffusion
from evenhand.recipes.lora import Lora
from evenhand.recipes.model import Settings, load_model
from evenhand.recipes.optimisation import Optimisation
from evenhand.training.optimizer import Optimizer
from evenhand.training.run_directory import machine, peak_memory

RESULTS = pathlib.Path(__file__).parents[1] / "results"
WAYS = ("diffusers", "evenhand")
PROMPTS = ["an emoji of a pilot", "a portrait of a judge", "an emoji of a cook", "a teacher"]


def load(args: argparse.Namespace) -> Diffusion:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.model == "emoji":
        return load_diffusion(load_model("emoji"), device=device)
    pipe = build(args.model, width=args.width, device=device, dtype=getattr(torch, args.dtype))
    size = args.resolution or RESOLUTIONS[args.model]
    return Diffusion(
        pipe,
        settings=Settings(num_inference_steps=50, guidance_scale=7.5, height=size, width=size),
    )


def steps(diffusion: Diffusion, batch: int) -> dict[str, Callable[[int], None]]:
    """A training step of each way, by its number."""
    pipe: Any = diffusion.pipe
    denoising = Denoising(diffusion)
    named = attach_lora(pipe, Lora(part="denoiser", rank=8), seed=0)
    optimizer = Optimizer(Optimisation(learning_rate=1e-4), named.items(), steps=10**6)
    theirs = torch.optim.AdamW(named.values(), lr=1e-4, weight_decay=0.0)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(batch)]
    from diffusers import DDPMScheduler

    ddpm: Any = DDPMScheduler.from_config(pipe.scheduler.config)
    device = next(diffusion.denoiser.parameters()).device
    latents = torch.randn(batch, *denoising.shape, device=device)
    sdxl = hasattr(pipe, "text_encoder_2")

    def evenhand(number: int) -> None:
        noise = torch.randn(latents.shape, device=device)
        denoising.loss(prompts, latents, noise, number % len(denoising)).mean().backward()
        optimizer.step("bench")

    def diffusers(number: int) -> None:
        noise = torch.randn(latents.shape, device=device)
        times = torch.randint(0, ddpm.config.num_train_timesteps, (batch,), device=device)
        noisy = ddpm.add_noise(latents, noise, times).to(pipe.unet.dtype)
        if sdxl:
            embeds, _, pooled, _ = pipe.encode_prompt(
                prompts, device=device, do_classifier_free_guidance=False
            )
            side = float(denoising.size[0])
            ids = torch.tensor([[side, side, 0, 0, side, side]] * batch, device=device)
            more = {"text_embeds": pooled, "time_ids": ids.to(embeds.dtype)}
        else:
            embeds, more = pipe.encode_prompt(prompts, device, 1, False)[0], None
        out = pipe.unet(noisy, times, encoder_hidden_states=embeds, added_cond_kwargs=more).sample
        F.mse_loss(out.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        theirs.step()
        theirs.zero_grad()

    return {"diffusers": diffusers, "evenhand": evenhand}


def memory(args: argparse.Namespace) -> dict[str, int]:
    """Peak memory of a few steps of each way, bytes, each in a process of its own."""
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])["memory"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="emoji", choices=["emoji", "sd15", "sdxl"])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model == "emoji":
        torch.set_num_threads(1)
    ways = steps(load(args), args.batch)
    if args.only:
        for number in range(4):
            ways[args.only](number)
        print(json.dumps({"memory": peak_memory()}))
        return
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(args.steps + 3):
        for way in WAYS:
            started = time.perf_counter()
            ways[way](number)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 3:  # the first ones are slower than all others
                times[way].append(time.perf_counter() - started)
    medians = {way: statistics.median(values) for way, values in times.items()}
    peaks = memory(args)
    ratio = medians["diffusers"] / medians["evenhand"]
    for way in WAYS:
        print(f"{way:10s} {medians[way]:.3f} s a step, peak {peaks[way] / 2**20:,.0f} MiB")
    print(f"evenhand's speed is {ratio:.2f} times diffusers' ({args.steps} steps of each)")
    write_json(
        RESULTS / f"bench-denoising-{args.model}.json",
        {
            "settings": {k: v for k, v in vars(args).items() if k != "only"},
            "seconds": {way: round(value, 4) for way, value in medians.items()},
            "memory": peaks,
            "speed_ratio": round(ratio, 3),
            **machine(),
        },
    )


if __name__ == "__main__":
    main()
