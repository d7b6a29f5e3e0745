"""The denoising loss of every family's tiny pipeline (`tests/pipelines.py`)."""

import contextlib
import functools

import pytest
import torch
from pipelines import FAMILIES, PROMPTS, make, networks

from evenhand.core.errors import UserError
from evenhand.diffusion.denoising import Denoising
from evenhand.diffusion.latents import encode
from evenhand.diffusion.replay import forward_of

FLOWS = {"sd3", "flux", "flux2", "sana", "z_image", "qwen_image"}


@functools.cache
def on(name: str, scheduler: str | None = None) -> Denoising:
    return Denoising(make(name, scheduler), PROMPTS[0])


def images_of(denoising: Denoising, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    small = torch.rand(n, 3, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(small, denoising.size)


def latents_of(denoising: Denoising, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    latents = encode(denoising.diffusion.pipe, images_of(denoising, n), denoising.shape)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(6))
    return latents, noise


def decoded(denoising: Denoising, images: torch.Tensor) -> torch.Tensor:
    """Images through the autoencoder and back, without the pipeline."""
    vae = denoising.diffusion.pipe.vae
    pixels = images * 2 - 1
    video = any(p.ndim == 5 for p in vae.parameters())
    with torch.no_grad():
        found = vae.encode(pixels.unsqueeze(2) if video else pixels)
        z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latent
        back = vae.decode(z).sample
    return (back[:, :, 0] if video else back) / 2 + 0.5


@contextlib.contextmanager
def told(denoising: Denoising, latents: torch.Tensor, noise: torch.Tensor, step: int):
    """The sampler stands at x_t before a step, and the denoiser is right ever after."""
    x = denoising.noised(latents, noise, step)
    scheduler, taken = denoising.diffusion.pipe.scheduler, 0
    real = scheduler.step

    def right(output, timestep, sample, **more):
        nonlocal taken
        taken += 1
        if taken <= step:
            after = real(output, timestep, sample, **more)
            if taken == step:
                after = (x, *after[1:])
                if hasattr(scheduler, "model_outputs"):  # of a multistep scheduler: no history
                    scheduler.model_outputs = [None] * len(scheduler.model_outputs)
                    scheduler.lower_order_nums = 0
            return after
        target = denoising.target(latents, noise, taken - 1)
        return real(target, timestep, sample, **more)

    scheduler.step = functools.wraps(real)(right)
    try:
        yield
    finally:
        del scheduler.step


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sampler_that_is_told_the_target_ends_at_the_image(name):
    """Proves latents, noise and target by the pipeline's own sampler and decoder."""
    denoising, step = on(name), 2
    images = images_of(denoising)
    latents, noise = latents_of(denoising)
    with told(denoising, latents, noise, step), torch.no_grad():
        drawn = denoising.diffusion.call(PROMPTS, [0, 0], **denoising._options)
    wanted = decoded(denoising, images)
    if wanted.shape != drawn.shape:  # drawn at a size of its own, and resized by the pipeline
        processor = denoising.diffusion.pipe.image_processor
        wanted = processor.resize_and_crop_tensor(wanted, drawn.shape[-1], drawn.shape[-2])
    assert (drawn - wanted.clamp(0, 1)).abs().max() < 2e-3


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("step", [0, 2])
def test_gradients_reach_denoiser_and_text_encoders(name, step):
    denoising = on(name)
    latents, noise = latents_of(denoising)
    parts = networks(denoising.diffusion)
    for part in parts.values():
        part.zero_grad()
    loss = denoising.loss(PROMPTS, latents, noise, step)
    assert loss.shape == (2,)
    loss.sum().backward()
    for part in parts.values():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
        part.zero_grad()


@pytest.mark.parametrize("step", [0, 2])
def test_no_network_runs_before_the_step_and_the_batch_does_not_matter(step):
    denoising = on("sd3")
    latents, noise = latents_of(denoising)
    with torch.no_grad():
        together = denoising.loss(PROMPTS, latents, noise, step)
        one = denoising.loss(PROMPTS[1:], latents[1:], noise[1:], step)
    assert torch.allclose(together[1:], one, rtol=1e-4)
    calls = []
    forward = denoising.diffusion.denoiser.forward

    def counted(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    with torch.no_grad(), forward_of(denoising.diffusion.denoiser, counted):
        denoising.loss(PROMPTS, latents, noise, step)
    assert len(calls) == 1


def hand_written(name: str, denoising: Denoising, step: int) -> torch.Tensor:
    """The loss as diffusers' own training scripts of the family compute it."""
    pipe = denoising.diffusion.pipe
    latents, noise = latents_of(denoising)
    time = denoising._scheduler.timesteps[step]
    if name == "sd3":
        embeds, _, pooled, _ = pipe.encode_prompt(
            PROMPTS, None, None, do_classifier_free_guidance=False
        )
        sigma = denoising._scheduler.sigmas[step]
        x = (1 - sigma) * latents + sigma * noise
        out = pipe.transformer(
            hidden_states=x,
            timestep=time.expand(2),
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
        ).sample
        return (out - (noise - latents)).square().mean((1, 2, 3))
    embeds, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False)
    import diffusers

    ddpm = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    times = time.long().expand(2)
    x = ddpm.add_noise(latents, noise, times)
    out = pipe.unet(x, times, encoder_hidden_states=embeds).sample
    target = noise if name == "sd" else ddpm.get_velocity(latents, noise, times)
    return (out - target).square().mean((1, 2, 3))


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("sd", None),
        ("sd2", None),
        ("sd3", None),
        ("sd", "DDIMScheduler"),
        ("sd", "EulerDiscreteScheduler"),  # its latents are scaled otherwise
        ("sd2", "EulerDiscreteScheduler"),
        ("sd", "PNDMScheduler"),
    ],
)
def test_it_is_the_loss_of_the_familys_own_training_script(name, scheduler):
    denoising = on(name, scheduler)
    latents, noise = latents_of(denoising)
    with torch.no_grad():
        ours = denoising.loss(PROMPTS, latents, noise, 1)
        theirs = hand_written(name, denoising, 1)
    assert torch.allclose(ours, theirs, rtol=1e-5)


def test_a_scheduler_whose_target_is_not_known_is_named():
    diffusion = make("sd")
    diffusion.pipe.scheduler.register_to_config(prediction_type="mystery")
    diffusion.pipe.scheduler.step = lambda output, timestep, sample, **_: (sample,)
    with pytest.raises(UserError, match="prediction_type 'mystery'"):
        Denoising(diffusion, PROMPTS[0])
