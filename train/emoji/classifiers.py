"""Trains the classifiers of the embedded world.

    python train/emoji/classifiers.py
    python train/emoji/classifiers.py --only witness --steps 800

Writes src/evenhand/emoji/classifiers/. All see drawings and their reconstructions by the model's
autoencoder (runs/emoji/autoencoder, or the one that ships), with noise; they differ in architecture
and seed. 3 minutes each on two cores. Afterwards train/emoji/calibration.py calibrates them.

`trainer` trains adapters, `judge` judges and filters, `witness` checks what was judged: it trains
and filters nothing.
"""

import argparse
import pathlib

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from evenhand.devices import autocast, best_dtype
from evenhand.emoji.world import HERE, Scene, draw, load_world, sample_scene
from evenhand.judges.small_network import SmallNetwork
from evenhand.training.checkpoints import load_state, save_state, step_generator

NETWORKS = {
    "trainer": ("strided", [24, 40, 64, 80]),
    "judge": ("residual", [24, 32, 48, 64]),
    "witness": ("patches", [40, 40, 40]),
}
ATTRIBUTES = ("occupation", "gender", "tone")


def pictures(scene: Scene, vae: AutoencoderKL, generator: torch.Generator) -> Tensor:
    """Drawings `[N, 3, 64, 64]`, half of them through the autoencoder, with a little noise."""
    images = draw(scene, generator=generator)
    half = len(images) // 2
    with torch.no_grad(), autocast(best_dtype("cpu"), "cpu"):
        latents = vae.encode(images[:half] * 2 - 1).latent_dist.mode()
        latents = (
            latents
            + 0.1 * torch.randn(latents.shape, generator=generator) / vae.config.scaling_factor
        )
        images[:half] = vae.decode(latents).sample.float() / 2 + 0.5
    noise = torch.rand(len(images), 1, 1, 1, generator=generator) * 0.06
    return (images + noise * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def train(
    name: str, vae: AutoencoderKL, folder: pathlib.Path, *, steps: int, batch: int
) -> SmallNetwork:
    """Trains one network; continues its checkpoint when there is one."""
    world = load_world()
    architecture, widths = NETWORKS[name]
    classes = {"occupation": list(world.occupations), **world.classes}
    torch.manual_seed(world.seeds[name])
    model = SmallNetwork(architecture=architecture, widths=widths, classes=classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps, pct_start=0.1
    )
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    state = load_state(folder / f"{name}.pt") or {"step": 0}
    for key in parts.keys() & state.keys():
        parts[key].load_state_dict(state[key])
    for step in range(state["step"], steps):
        generator = step_generator(world.seeds[name], step)
        scene = sample_scene(batch, generator=generator, even=True)
        logits = model.train()(pictures(scene, vae, generator))
        loss = sum(F.cross_entropy(logits[a], getattr(scene, a)) for a in ATTRIBUTES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            print(f"{name} step {step + 1}: loss {loss.item():.3f}", flush=True)
            save_state(
                folder / f"{name}.pt",
                {"step": step + 1, **{k: v.state_dict() for k, v in parts.items()}},
            )
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/emoji"))
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    args = parser.parse_args()
    own, shipped = args.runs / "autoencoder", HERE / "model" / "vae"
    vae = AutoencoderKL.from_pretrained(own if own.is_dir() else shipped).requires_grad_(False)
    for name in args.only:
        train(name, vae, args.runs, steps=args.steps, batch=args.batch).save(
            HERE / "classifiers" / name
        )


if __name__ == "__main__":
    main()
