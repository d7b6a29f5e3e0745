"""The denoising loss, on any stock diffusers pipeline.

Each family scales time steps, packs latents, embeds guidance, stacks text encoders and signs its
denoiser's output in its own way. Nothing here knows how: the pipeline itself prepares the
denoiser's call, and itself turns the output into what its scheduler reads. For step k of the grid
of steps that users sample with:

1. the undecorated call of the pipeline runs, with the denoiser's `forward` and the scheduler's
   `step` replaced;
2. before step k no network runs: the denoiser hands back zeros, and what follows from them is
   thrown away;
3. in the place of the latents before step k stands x_t, clean latents with noise, mixed by the
   scheduler's own `scale_noise` or `add_noise`: as what step k - 1 returns, or for k = 0 as what
   the pipeline's `prepare_latents` returns;
4. at step k the denoiser runs. What reaches the scheduler's `step` is the prediction in the
   scheduler's own convention; there the pipeline is left by an exception;
5. the loss is the mean square of prediction less target, and the target follows from the
   scheduler's `prediction_type`.
"""

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from evenhand.core.errors import UserError
from evenhand.diffusion.pipeline import Diffusion
from evenhand.diffusion.replay import forward_of


class _Reached(Exception):
    """Leaves the pipeline at the step that was wanted."""


class Denoising:
    """A pipeline whose denoising loss is taken on the steps of its sampling grid.

    Args:
        diffusion: the pipeline and its settings. It is run once, without its denoiser, to see how
            many steps it takes and in which shape its latents reach the scheduler.
        prompt: of that run; any that the pipeline takes.

    Attributes:
        shape: of one image's latents.
        size: height and width of the images that have such latents, in pixels.

    Raises:
        UserError: a pipeline that never calls its denoiser or its scheduler, or whose scheduler
            says of no way how its target follows from images and noise.
    """

    def __init__(self, diffusion: Diffusion, prompt: str = "a person") -> None:
        self.diffusion = diffusion
        self._options = without_guidance(diffusion)
        self._zeros: dict[int, Any] = {}  # denoiser outputs, by the number of images
        self._samples: list[Tensor] = []

        def step(real: Callable, output: Tensor, timestep: Any, sample: Tensor, **more: Any) -> Any:
            self._samples.append(sample[0])
            if output.shape != sample.shape:
                raise UserError(
                    f"{self._kind}: its scheduler takes more than the prediction, a variance too; "
                    "such pipelines cannot be trained on images"
                )
            return real(output, timestep, sample, **more)

        with torch.no_grad(), self._patched(step, lambda: False):
            drawn = diffusion.call([prompt], [0], **self._options)
        if not self._samples:
            raise UserError(
                f"{self._kind} never calls its scheduler: it cannot be trained on images"
            )
        self.shape = tuple(self._samples[0].shape)
        factor = getattr(diffusion.pipe, "vae_scale_factor", 1)
        height, width = (
            (x * factor for x in self.shape[-2:]) if len(self.shape) > 2 else drawn.shape[-2:]
        )
        self.size = (int(height), int(width))
        self._scheduler = copy.deepcopy(diffusion.pipe.scheduler)
        self._scheduler._begin_index = self._scheduler._step_index = None  # of no run
        self._target_of = _target(self._scheduler)

    def __len__(self) -> int:
        """Number of steps of the grid."""
        return len(self._samples)

    def loss(
        self,
        prompts: list[str],
        latents: Tensor,
        noise: Tensor,
        step: int,
        target: Tensor | None = None,
    ) -> Tensor:
        """The loss of each image at a step of the grid.

        The caller decides about gradients.

        Args:
            prompts: N texts.
            latents: of the images, `[N, *shape]` (`evenhand.diffusion.latents.encode`).
            noise: `[N, *shape]`, standard normal.
            step: 0 (pure noise or nearly) to `len(self) - 1`.
            target: of the prediction; `self.target` of these when None.

        Returns:
            mean squares `[N]`, float32.
        """
        target = self.target(latents, noise, step) if target is None else target
        found = self.predict(prompts, self.noised(latents, noise, step), step)
        return (found.float() - target).square().flatten(1).mean(1)

    def target(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:
        """What the images and their noise say that `predict` shall give."""
        return self._target_of(latents, noise, *self.mixture(step))

    def noised(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:
        """x_t: latents with noise, as the sampler has them before a step; as `latents`."""
        scheduler = self._scheduler
        times = scheduler.timesteps[step].expand(len(latents)).to(latents.device)
        if hasattr(scheduler, "scale_noise"):
            return scheduler.scale_noise(latents, times, noise)
        return scheduler.add_noise(latents, noise, times)

    def mixture(self, step: int) -> tuple[float, float]:
        """Factors of latents and noise in x_t, as the scheduler mixes them."""
        one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
        return float(self.noised(one, none, step)), float(self.noised(none, one, step))

    def predict(self, prompts: list[str], noised: Tensor, step: int) -> Tensor:
        """The denoiser's prediction, as the scheduler is given it; as `noised`, in its dtype.

        Args:
            prompts: N texts.
            noised: latents before the step, `[N, *shape]`.
            step: of the grid.
        """
        taken, found = 0, []

        def stand_in(
            real: Callable, output: Tensor, timestep: Any, sample: Tensor, **more: Any
        ) -> Any:
            nonlocal taken
            if taken == step:
                found.append(output)
                raise _Reached
            taken += 1
            after = real(output, timestep, sample, **more)
            if taken < step:
                return after
            wanted = noised.to(sample.dtype)
            if isinstance(after, tuple):
                return (wanted, *after[1:])
            after.prev_sample = wanted
            return after

        def prepared(real: Callable, *args: Any, **kwargs: Any) -> Any:
            made = real(*args, **kwargs)
            if step:
                return made
            many = isinstance(made, tuple)  # latents and their places
            wanted = noised.to((made[0] if many else made).dtype)
            return (wanted, *made[1:]) if many else wanted

        with (
            self._patched(stand_in, lambda: taken == step),
            replaced(self.diffusion.pipe, "prepare_latents", prepared),
            contextlib.suppress(_Reached),
        ):
            self.diffusion.call(prompts, [0] * len(prompts), **self._options)
        if not found:
            raise UserError(f"{self._kind} did not come to step {step + 1} of {len(self)}")
        return found[0]

    @property
    def _kind(self) -> str:
        return type(self.diffusion.pipe).__name__

    @contextlib.contextmanager
    def _patched(self, step: Callable, runs: Callable[[], bool]) -> Iterator[None]:
        """Puts `step` in the scheduler's place, and zeros in the denoiser's until it `runs`."""
        denoiser, scheduler = self.diffusion.denoiser, self.diffusion.pipe.scheduler
        forward = denoiser.forward

        def stub(*args: Any, **kwargs: Any) -> Any:
            if runs():
                return forward(*args, **kwargs)
            n = _images(args, kwargs)
            if n not in self._zeros:
                with torch.no_grad():
                    self._zeros[n] = tree_map(_zero, forward(*args, **kwargs))
            return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self._zeros[n])

        with replaced(scheduler, "step", step), forward_of(denoiser, stub):
            yield


@contextlib.contextmanager
def replaced(owner: Any, name: str, function: Callable) -> Iterator[None]:
    """Puts a function in the place of an object's method, which is its first argument."""
    real = getattr(owner, name)
    setattr(owner, name, functools.wraps(real)(functools.partial(function, real)))
    try:
        yield
    finally:
        delattr(owner, name)


def without_guidance(diffusion: Diffusion) -> dict[str, Any]:
    """Arguments of the pipeline's call by which it follows the prompt alone.

    Guidance that a denoiser was taught as an input stays as the settings have it.
    """
    known = inspect.signature(type(diffusion.pipe).__call__).parameters
    if "true_cfg_scale" in known:
        return {"true_cfg_scale": 1.0}
    taught = getattr(diffusion.denoiser.config, "guidance_embeds", False)
    return {} if taught or "guidance_scale" not in known else {"guidance_scale": 1.0}


def _target(scheduler: Any) -> Callable[[Tensor, Tensor, float, float], Tensor]:
    """What the scheduler wants predicted, of latents, noise and their factors a, s in x_t.

    Raises:
        UserError: a scheduler that says it in no way known here.
    """
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    if kind == "v_prediction":  # Salimans & Ho, ICLR 2022 (arXiv 2202.00512); a^2 + s^2 = 1 there

        def velocity(latents: Tensor, noise: Tensor, a: float, s: float) -> Tensor:
            return (a * noise - s * latents) / (a * a + s * s) ** 0.5

        return velocity
    found: dict[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
        "epsilon": lambda latents, noise, a, s: noise,
        "sample": lambda latents, noise, a, s: latents,
        "flow_prediction": lambda latents, noise, a, s: noise - latents,
    }
    if kind not in found or "sigma_data" in scheduler.config:
        raise UserError(
            f"{type(scheduler).__name__} with prediction_type {kind!r}: it is not known what the "
            f"model shall predict; known are {', '.join([*found, 'v_prediction'])}"
        )
    return found[kind]


def _images(args: tuple, kwargs: dict[str, Any]) -> int:
    """How many rows a denoiser's call has, by its first tensor or list of tensors."""
    first = next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor | list))
    return len(first)


def _zero(x: Any) -> Any:
    return torch.zeros_like(x) if isinstance(x, Tensor) else x
