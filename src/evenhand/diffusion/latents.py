"""Images as the latents that a pipeline's sampler works on: the inverse of its decoder."""

import inspect
from typing import Any

import torch
from torch import Tensor

from evenhand.core.errors import UserError


@torch.no_grad()
def round_trip(pipe: Any, images: Tensor, *, at_once: int = 16) -> Tensor:
    """Images as the pipeline would draw them at best: through its autoencoder and back.

    What a pipeline draws is held against images that have lost the same details; against others,
    the autoencoder is measured too.

    Args:
        pipe: a diffusers pipeline with an autoencoder.
        images: `[N, 3, H, W]` in [0, 1].
        at_once: images of a batch.

    Returns:
        `[N, 3, H, W]` in [0, 1], float32, on the images' device.
    """
    vae, found = pipe.vae, []
    for part in images.split(at_once):
        pixels, video = _pixels(vae, part)
        z = vae.encode(pixels)
        z = z.latent_dist.mode() if hasattr(z, "latent_dist") else z.latent
        back = vae.decode(z).sample
        found.append((back[:, :, 0] if video else back).float() / 2 + 0.5)
    return torch.cat(found).clamp(0, 1).to(images.device)


@torch.no_grad()
def encode(pipe: Any, images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Encodes images as their latents, without noise.

    The most probable latents of the autoencoder are scaled as its configuration says, and laid out
    by the pipeline's own functions where its denoiser takes them in another shape.

    Args:
        pipe: a diffusers pipeline.
        images: `[N, 3, H, W]` in [0, 1], of the size that the pipeline draws.
        shape: of one image's latents where they reach the scheduler.

    Returns:
        latents `[N, *shape]`, float32.

    Raises:
        UserError: the pipeline's latents cannot be made from images.
    """
    vae = pipe.vae
    found = vae.encode(_pixels(vae, images)[0])
    latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latent
    latents = _laid_out(pipe, _scaled(vae, latents.float()), shape)
    if tuple(latents.shape[1:]) != shape:
        raise UserError(
            f"{type(pipe).__name__}: its sampler works on latents {list(shape)}; images give "
            f"{list(latents.shape[1:])}, so it cannot be trained on images"
        )
    return latents


def _pixels(vae: Any, images: Tensor) -> tuple[Tensor, bool]:
    """Images as an autoencoder takes them, and whether as videos: of one frame."""
    weight = next(vae.parameters())
    pixels = (images * 2 - 1).to(weight.device, weight.dtype)
    video = any(p.ndim == 5 for p in vae.parameters())
    return (pixels.unsqueeze(2) if video else pixels), video


def _scaled(vae: Any, latents: Tensor) -> Tensor:
    """Latents with the mean and spread that the denoiser was trained on."""
    config = vae.config
    scale = config.get("scaling_factor") or 1.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return (latents - (config.get("shift_factor") or 0.0)) * scale
    broadcast = (1, -1, *[1] * (latents.ndim - 2))
    mean, std = (torch.tensor(x, device=latents.device).view(broadcast) for x in (mean, std))
    return (latents - mean) / std * scale


def _laid_out(pipe: Any, latents: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Latents in the order in which the pipeline hands them to its denoiser."""
    if hasattr(pipe, "_patchify_latents"):  # FLUX.2: 2x2 patches, normalised by the autoencoder
        latents, norm = pipe._patchify_latents(latents), pipe.vae.bn
        std = torch.sqrt(norm.running_var + pipe.vae.config.batch_norm_eps)
        latents = (latents - norm.running_mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    if tuple(latents.shape[1:]) == shape or not hasattr(pipe, "_pack_latents"):
        return latents
    pack = pipe._pack_latents
    if len(inspect.signature(pack).parameters) == 1:
        return pack(latents)
    return pack(latents, len(latents), latents.shape[1], *latents.shape[-2:])
