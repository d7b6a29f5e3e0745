"""The gradient is that of one graph, for any family and sampler, and what cannot be replayed is refused."""


import pipelines
import pytest
import torch

from evenhand.config import Settings
from evenhand.diffusion import Diffusion
from evenhand.replay import ReplayError, attach, record

PROMPTS, SEEDS, STEPS = ["a nurse", "a judge"], [3, 4], 4
SAMPLERS = ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]


def make(family: str, scheduler: str | None = None) -> Diffusion:
    pipe = pipelines.tiny_sd3() if family == "sd3" else pipelines.tiny_sd()
    settings = Settings(num_inference_steps=STEPS, guidance_scale=3.0, height=16, width=16, scheduler=scheduler)
    diffusion = Diffusion(pipe, settings=settings)
    for module in (diffusion.denoiser, pipe.text_encoder):
        module.requires_grad_(True)
    return diffusion


def loss_of(images: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(-1, 1, images.numel()).reshape(images.shape)
    return (images * weights).sum() + images.square().mean()


def gradients(diffusion: Diffusion) -> dict[str, torch.Tensor]:
    parts = {"denoiser": diffusion.denoiser, "text": diffusion.pipe.text_encoder}
    found = {f"{a}.{n}": p.grad.clone() for a, m in parts.items() for n, p in m.named_parameters() if p.grad is not None}
    for module in parts.values():
        module.zero_grad()
    return found


def one_graph(diffusion: Diffusion, calls: list[int] | None = None) -> dict[str, torch.Tensor]:
    """The published formulation: the whole chain in one graph, latents detached at the denoiser's input."""
    forward, count = diffusion.denoiser.forward, iter(range(10_000))

    def detached(*args, **kwargs):
        latents = {k: v.detach() for k, v in kwargs.items() if k in ("sample", "hidden_states")}
        output = forward(*(a.detach() if i == 0 else a for i, a in enumerate(args)), **{**kwargs, **latents})
        keep = calls is None or next(count) in calls
        return output if keep else tuple(o.detach() for o in output)

    diffusion.denoiser.forward = detached
    try:
        loss_of(diffusion.call(PROMPTS, SEEDS)).backward()
    finally:
        del diffusion.denoiser.forward
    return gradients(diffusion)


def replayed(diffusion: Diffusion, recorded: bool = False, **how) -> dict[str, torch.Tensor]:
    def run():
        return diffusion.call(PROMPTS, SEEDS)

    tape = attach(diffusion.denoiser, run, record(diffusion.denoiser, run) if recorded else None)
    tape.backward(loss_of(tape.images), **how)
    return gradients(diffusion)


def relative_error(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    flat = [torch.cat([x[k].flatten() for k in sorted(x)]) for x in (a, b)]
    assert flat[1].norm() > 1e-4
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("family, scheduler", [*(("sd", s) for s in SAMPLERS), ("sd3", None)])
def test_equals_one_graph(family, scheduler):
    diffusion = make(family, scheduler)
    expected = one_graph(diffusion)
    assert any(k.startswith("text.") for k in expected) and any(k.startswith("denoiser.") for k in expected)
    assert relative_error(replayed(diffusion), expected) < 1e-5
    assert relative_error(replayed(diffusion, recorded=True), expected) < 1e-5


def test_a_subset_is_weighted_so_that_all_subsets_average_to_the_whole():
    diffusion = make("sd")
    parts = [replayed(diffusion, calls=[i]) for i in range(STEPS)]
    mean = {k: sum(p[k] for p in parts) / STEPS for k in parts[0]}
    assert relative_error(mean, replayed(diffusion)) < 1e-5


def test_uniform_rescaling_gives_every_call_the_same_image_gradient():
    diffusion = make("sd", "DDIMScheduler")

    def run():
        return diffusion.call(PROMPTS, SEEDS)

    tape = attach(diffusion.denoiser, run, record(diffusion.denoiser, run))
    pushed = []
    handle = diffusion.denoiser.conv_out.register_full_backward_hook(lambda m, i, o: pushed.append(float(o[0].norm())))
    tape.backward(loss_of(tape.images), rescale="uniform")
    handle.remove()
    assert len(pushed) == STEPS
    assert max(pushed) / min(pushed) == pytest.approx(1, rel=1e-4)


def test_memory_of_the_graph_holds_one_call():
    """No denoiser activation is alive after attach: its parameters get no gradient from the image graph alone."""
    diffusion = make("sd")

    def run():
        return diffusion.call(PROMPTS, SEEDS)

    tape = attach(diffusion.denoiser, run, record(diffusion.denoiser, run))
    loss_of(tape.images).backward()
    assert all(p.grad is None for p in diffusion.denoiser.parameters())
    assert all(leaf.grad is not None for call in tape.calls for leaf in call.outputs)


def test_refuses_noise_that_no_generator_governs():
    diffusion = make("sd")

    def run():
        images = diffusion.call(PROMPTS, SEEDS)
        return images + 0.1 * torch.rand(())

    with pytest.raises(ReplayError, match="differ from the recorded"):
        attach(diffusion.denoiser, run, record(diffusion.denoiser, run))


def test_refuses_another_number_of_calls():
    diffusion = make("sd")
    steps = iter([4, 3])

    def run():
        return diffusion.call(PROMPTS, SEEDS, num_inference_steps=next(steps))

    with pytest.raises(ReplayError, match="3 instead of 4"):
        attach(diffusion.denoiser, run, record(diffusion.denoiser, run))


def test_refuses_images_without_a_graph():
    diffusion = make("sd")

    def run():
        return diffusion.call(PROMPTS, SEEDS).detach()

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
