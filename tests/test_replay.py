"""The gradient is that of one graph with any sampler (any family.

Test_families.py), and what cannot be replayed is refused.
"""

import functools

import pytest
import torch
from diffusers import DDIMScheduler
from pipelines import STEPS, draw, loss_of, make, one_graph, relative_error, replayed

from evenhand.adapt.dft.coefficients import squared_norms, uniform
from evenhand.diffusion.replay import ReplayError, attach, record

SAMPLERS = [
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "UniPCMultistepScheduler",
]


@pytest.mark.parametrize("scheduler", SAMPLERS)
def test_equals_one_graph_with_any_sampler(scheduler):
    diffusion = make("sd", scheduler)
    expected = one_graph(diffusion)
    assert expected.keys() == {"unet", "text_encoder"}
    assert relative_error(replayed(diffusion), expected) < 1e-5
    assert relative_error(replayed(diffusion, recorded=True), expected) < 1e-5


class InPlace(DDIMScheduler):
    """Steps in place, as schedulers may: the latents given, and the denoiser's output as well."""

    def step(self, model_output, timestep, sample, **more):
        more["return_dict"] = False
        (stepped,) = super().step(model_output, timestep, sample, **more)[:1]
        model_output.mul_(0)
        return (sample.copy_(stepped),)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_scheduler_that_steps_in_place_gives_the_same_gradient(guidance_scale, recorded):
    """Without guidance the denoiser is given the very latents that the scheduler then changes."""
    expected, diffusion = make("sd", "DDIMScheduler"), make("sd", "DDIMScheduler")
    diffusion.pipe.scheduler = InPlace.from_config(diffusion.pipe.scheduler.config)
    for each in (expected, diffusion):
        each.settings = each.settings.model_copy(update={"guidance_scale": guidance_scale})
    found = replayed(diffusion, recorded=recorded)
    assert relative_error(found, one_graph(expected)) < 1e-5


def test_refuses_an_argument_that_is_changed_after_the_call():
    diffusion = make("sd")
    tape = attach(diffusion.denoiser, functools.partial(draw, diffusion))
    tape.calls[0].arguments["sample"].add_(1)
    with pytest.raises(ReplayError, match="changed an argument of its denoiser in place"):
        tape.backward(loss_of(tape.images))


def test_a_subset_is_weighted_so_that_all_subsets_average_to_the_whole():
    diffusion = make("sd")
    parts = [replayed(diffusion, calls=[i]) for i in range(STEPS)]
    mean = {k: sum(p[k] for p in parts) / STEPS for k in parts[0]}
    assert relative_error(mean, replayed(diffusion)) < 1e-5


def test_uniform_rescaling_gives_every_call_the_same_image_gradient():
    diffusion = make("sd", "DDIMScheduler")

    run = functools.partial(draw, diffusion)
    tape = attach(diffusion.denoiser, run)
    pushed = []
    handle = diffusion.denoiser.conv_out.register_full_backward_hook(
        lambda m, i, o: pushed.append(float(o[0].norm()))
    )
    gradients = tape.gradients(loss_of(tape.images))
    tape.replay(gradients, factors=uniform(squared_norms(gradients)))
    handle.remove()
    assert len(pushed) == STEPS
    assert max(pushed) / min(pushed) == pytest.approx(1, rel=1e-4)


def test_memory_of_the_graph_holds_one_call():
    """No denoiser activation is alive after attach.

    Its parameters get no gradient from the image graph alone.
    """
    diffusion = make("sd")

    run = functools.partial(draw, diffusion)
    tape = attach(diffusion.denoiser, run, record(diffusion.denoiser, run))
    loss_of(tape.images).backward()
    assert all(p.grad is None for p in diffusion.denoiser.parameters())
    assert all(leaf.grad is not None for call in tape.calls for leaf in call.outputs)


def test_refuses_noise_that_no_generator_governs():
    diffusion = make("sd")

    def run():
        images = draw(diffusion)
        return images + 0.1 * torch.rand(())

    with pytest.raises(ReplayError, match="differ from the recorded"):
        attach(diffusion.denoiser, run, record(diffusion.denoiser, run))


def test_refuses_another_number_of_calls():
    diffusion = make("sd")
    steps = iter([4, 3])

    def run():
        return draw(diffusion, num_inference_steps=next(steps))

    with pytest.raises(ReplayError, match="3 instead of 4"):
        attach(diffusion.denoiser, run, record(diffusion.denoiser, run))


def test_refuses_images_without_a_graph():
    diffusion = make("sd")

    def run():
        return draw(diffusion).detach()

    with pytest.raises(ReplayError, match="no gradient reaches"):
        attach(diffusion.denoiser, run, record(diffusion.denoiser, run))


def test_refuses_a_pipeline_that_does_not_call_the_denoiser():
    diffusion = make("sd")
    for function in (record, attach):
        with pytest.raises(ReplayError, match="never called its denoiser"):
            function(diffusion.denoiser, lambda: torch.zeros(1, 3, 16, 16))


def test_the_forward_is_put_back_after_an_error():
    diffusion = make("sd")
    with pytest.raises(RuntimeError, match="stop"):
        record(diffusion.denoiser, lambda: (_ for _ in ()).throw(RuntimeError("stop")))
    assert "forward" not in vars(diffusion.denoiser)


def test_a_forward_that_a_hook_had_put_there_stays():
    diffusion = make("sd")
    hooked = diffusion.denoiser.forward = functools.partial(
        type(diffusion.denoiser).forward, diffusion.denoiser
    )
    record(diffusion.denoiser, functools.partial(draw, diffusion))
    assert vars(diffusion.denoiser)["forward"] is hooked
