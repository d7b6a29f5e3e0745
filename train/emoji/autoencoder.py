"""Trains the autoencoder of the embedded model: 64x64 images <-> 16x16x4 latents.

    python train/emoji/autoencoder.py

Goes on with runs/emoji/autoencoder.pt where it exists. 15 minutes on two cores; 33.4 dB on held-out
renderings.
"""

import argparse
import pathlib

import torch
from cycles import rate
from diffusers import AutoencoderKL
from torch import Tensor

from evenhand.devices import autocast, best_dtype
from evenhand.emoji.world import draw, load_world, sample_scene
from evenhand.training.checkpoints import load_state, save_state, step_generator

CONFIG = {
    "sample_size": 64,
    "latent_channels": 4,
    "block_out_channels": [32, 48, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
}
KL_WEIGHT = 1e-5
CYCLES = ((3000, 2e-3), (2200, 1.2e-3))  # steps, peak learning rate
SQUARED_WEIGHT = (
    6.0  # from the second cycle on: L1 alone gives up rare details (a bolt on a singer's face)
)


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbouring pixels, `[N, 3, 64, 63]` and `[N, 3, 63, 64]`."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(
    vae: AutoencoderKL, images: Tensor, generator: torch.Generator, *, squared: float
) -> Tensor:
    """L1 on pixels and on edges, squared error, and a weak pull of the latents to N(0, 1)."""
    with autocast(best_dtype("cpu"), "cpu"):
        posterior = vae.encode(images * 2 - 1).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        output = vae.decode(posterior.mean + posterior.std * noise).sample
    output = output.float() / 2 + 0.5
    loss = (output - images).abs().mean() + squared * (output - images).square().mean()
    loss = loss + sum(
        (a - b).abs().mean() for a, b in zip(edges(output), edges(images), strict=True)
    )
    return loss + KL_WEIGHT * posterior.kl().float().mean() / posterior.mean[0].numel()


@torch.no_grad()
def psnr(vae: AutoencoderKL, n: int) -> float:
    """Peak signal-to-noise ratio on renderings never trained on, dB."""
    generator = step_generator(load_world().seeds["sprites_held_out"])
    images = draw(sample_scene(n, generator=generator, even=True), generator=generator)
    output = vae.decode(vae.encode(images * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
    return float(-10 * torch.log10((output.clamp(0, 1) - images).square().mean()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=sum(length for length, _ in CYCLES))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--renderings",
        type=int,
        default=1024,
        help="that set the latents' scale; a quarter as many judge it",
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/emoji/autoencoder"))
    args = parser.parse_args()
    seed, judged = load_world().seeds["autoencoder"], args.renderings // 4
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG)
    optimizer = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    state, first = load_state(args.out / "state.pt"), 0
    if state:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, args.steps):
        generator = step_generator(seed, step)
        images = draw(sample_scene(args.batch, generator=generator, even=True), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, CYCLES)
        loss = loss_of(
            vae, images, generator, squared=SQUARED_WEIGHT if step >= CYCLES[0][0] else 0.0
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            print(
                f"step {step + 1}: loss {loss.item():.4f}, held-out {psnr(vae, judged):.1f} dB",
                flush=True,
            )
            save_state(
                args.out / "state.pt",
                {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1},
            )
    generator = step_generator(seed, "scale")
    images = draw(
        sample_scene(args.renderings, generator=generator, even=True), generator=generator
    )
    with torch.no_grad():
        latents = torch.cat(
            [vae.encode(part * 2 - 1).latent_dist.mode() for part in images.split(64)]
        )
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(args.out)
    print(f"{args.out}: {psnr(vae, judged):.2f} dB, scaling factor {vae.config.scaling_factor:.4f}")


if __name__ == "__main__":
    main()
