"""Record and replay: gradients of a loss on the images of any stock diffusers pipeline, one denoiser call at a time.

Direct fine-tuning with detached denoiser inputs ("adjusted" DFT, Shen et al., ICLR 2024, arXiv 2311.07604, section 4.2)
touches the loss only through what the pipeline does with each denoiser output. So the stock pipeline is the sampler:

1. record: it runs with the denoiser's calls outside the graph, and every output is kept;
2. attach: the denoiser hands the kept outputs back as leaves: the images come out differentiable in them, whatever the
   pipeline does in between. `attach` does both in one pass. Where the targets of many images must be known before any
   of them can be attached (micro-batches), `record` runs first, and `attach` again with text encoder and decoder only;
3. the caller's loss on the images gives each leaf its gradient;
4. replay: `Tape.backward` runs each denoiser call once more, with gradients, and pushes the leaf's gradient in. Gradients that
   reach conditioning tensors (prompt embeddings) are summed and go through the text encoder once, at the end.

Memory is that of one denoiser call and the decoder, whatever the number of steps. Nothing here knows a model family: a
call's arguments are mapped as a tree, its latents (`LATENTS`) are detached, any other tensor with a graph is conditioning.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from evenhand.merging import merge

LATENTS = ("sample", "hidden_states", "x")
Run = Callable[[], Tensor]


class ReplayError(ValueError):
    """A pipeline that cannot be replayed."""


@dataclass(frozen=True)
class Recording:
    """Images `[N, 3, H, W]` in [0, 1] without a graph, and the denoiser's output trees in the order of the calls."""

    images: Tensor
    outputs: list[Any]

    def __len__(self) -> int:
        """Number of denoiser calls."""
        return len(self.outputs)


@contextlib.contextmanager
def _forward(module: nn.Module, function: Callable) -> Iterator[None]:
    """Puts a function in the place of a module's forward; everything else about the module stays."""
    before = vars(module).get("forward")  # a hook's, such as accelerate's
    module.forward = function
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _tensors(tree: Any) -> list[Tensor]:
    """The floating-point tensors of a tree, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _move(tree: Any, device: torch.device | str) -> Any:
    """The tree with its tensors on a device, but for those that carry a graph."""
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) and not x.requires_grad else x, tree)


def record(denoiser: nn.Module, run: Run, *, offload: bool = False) -> Recording:
    """Runs the pipeline once without gradients.

    Args:
        denoiser: the module that the pipeline calls at every step.
        run: draws the images `[N, 3, H, W]` with the pipeline's undecorated call. It will be called again by `attach`
            and must do the same then: fresh generators with the same seeds.
        offload: keep the outputs in CPU memory.
    """
    outputs, forward = [], denoiser.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        outputs.append(_move(output, "cpu") if offload else output)
        return output

    with torch.no_grad(), _forward(denoiser, recording):
        images = run()
    if not outputs:
        raise ReplayError(_NO_CALL)
    return Recording(images, outputs)


def attach(denoiser: nn.Module, run: Run, recording: Recording | None = None, *, tolerance: float = 1e-3,
           offload: bool = False) -> "Tape":
    """Draws images that are differentiable in the denoiser's outputs.

    Args:
        denoiser: the module that the pipeline calls at every step.
        run: draws the images `[N, 3, H, W]` with the pipeline's undecorated call.
        recording: of the same run, whose denoiser outputs are handed back; the denoiser runs, without gradients, when None.
        tolerance: greatest difference between a recorded and an attached pixel, of a range of 1.
        offload: keep the calls' arguments in CPU memory.

    Raises:
        ReplayError: the pipeline did something else than when it was recorded (hidden state, unseeded noise), or its
            images carry no gradient to the denoiser outputs.
    """
    forward, names = denoiser.forward, list(inspect.signature(denoiser.forward).parameters)
    device = next(denoiser.parameters()).device
    calls: list[Call] = []

    def output_of(*args: Any, **kwargs: Any) -> Any:
        if recording is None:
            with torch.no_grad():
                return forward(*args, **kwargs)
        if len(calls) == len(recording.outputs):
            raise ReplayError(f"the pipeline called its denoiser more often than the {len(calls)} times recorded: {_HIDDEN}")
        return _move(recording.outputs[len(calls)], device)

    def handing_back(*args: Any, **kwargs: Any) -> Any:
        output = tree_map(lambda x: x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x,
                          output_of(*args, **kwargs))
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        latents = {k: tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, v)
                   for k, v in arguments.items() if k in LATENTS}
        arguments = {**arguments, **latents}
        calls.append(Call(_move(arguments, "cpu") if offload else arguments, _tensors(output)))
        return output

    with torch.enable_grad(), _forward(denoiser, handing_back):
        images = run()
    if not calls:
        raise ReplayError(_NO_CALL)
    if recording is not None:
        _compare(recording, images, len(calls), tolerance)
    if not images.requires_grad:
        raise ReplayError("no gradient reaches the denoiser's outputs: the pipeline's output has no graph "
                          "(output_type other than 'pt', a safety checker or a watermark in between)")
    return Tape(denoiser, images, calls)


def _compare(recording: Recording, images: Tensor, calls: int, tolerance: float) -> None:
    """Refuses attached images that are not the recorded ones."""
    if calls < len(recording.outputs) or images.shape != recording.images.shape:
        raise ReplayError(f"the pipeline took {calls} instead of {len(recording.outputs)} denoiser calls: {_HIDDEN}")
    worst = float((images.detach() - recording.images).abs().max())
    if not worst <= tolerance:
        raise ReplayError(f"attached images differ from the recorded ones by {worst:.2g}: {_HIDDEN}")


_NO_CALL = "the pipeline never called its denoiser: it cannot be replayed"
_HIDDEN = "it has state or noise that its generators do not govern, so it cannot be replayed"


@dataclass(frozen=True)
class Call:
    """One denoiser call: its arguments by name (latents detached) and its outputs as leaves of the image graph."""

    arguments: dict[str, Any]
    outputs: list[Tensor]


@dataclass(frozen=True)
class Tape:
    """Differentiable images `[N, 3, H, W]` in [0, 1] and the calls they came from."""

    denoiser: nn.Module
    images: Tensor
    calls: list[Call]

    def __len__(self) -> int:
        """Number of denoiser calls."""
        return len(self.calls)

    def backward(self, loss: Tensor, *, calls: Sequence[int] | None = None, at_once: int = 1) -> None:
        """Adds the gradient of a loss on `images` to the `.grad` of every parameter that requires one.

        Args:
            loss: scalar, a function of `images`.
            calls: as for `replay`.
            at_once: as for `replay`.
        """
        self.replay(self.gradients(loss), calls=calls, at_once=at_once)

    def gradients(self, loss: Tensor) -> list[list[Tensor | None]]:
        """The gradient of a loss on `images` at the outputs of each denoiser call; the image graph is freed."""
        leaves = [leaf for call in self.calls for leaf in call.outputs]
        flat = iter(torch.autograd.grad(loss, leaves, allow_unused=True))
        return [[next(flat) for _ in call.outputs] for call in self.calls]

    def replay(self, gradients: list[list[Tensor | None]], *, calls: Sequence[int] | None = None,
               factors: Sequence[float] | None = None, at_once: int = 1) -> None:
        """Runs denoiser calls again, pushes the gradients of their outputs in, and adds to the parameters' `.grad`.

        Args:
            gradients: as `gradients` returns them.
            calls: indices of the calls to replay; each is weighted n/k, so that a uniformly drawn subset gives an
                unbiased gradient. All when None.
            factors: on each call's gradient; 1, the gradient of the one-graph formulation, when None.
            at_once: calls run as one batch, for networks whose arguments can be joined (`evenhand.merging`).

        Raises:
            ReplayError: joined calls gave something else than they gave one by one.
        """
        chosen = list(range(len(self.calls)) if calls is None else calls)
        conditioning = _Conditioning()
        weight = [len(self.calls) / len(chosen) * (1.0 if factors is None else factors[i]) for i in chosen]
        scaled = [[g if g is None else g * w for g in gradients[i]] for i, w in zip(chosen, weight, strict=True)]
        for start in range(0, len(chosen), at_once):
            end = start + at_once
            self._replay([self.calls[i] for i in chosen[start:end]], scaled[start:end], conditioning)
        conditioning.backward()

    def _replay(self, calls: list[Call], gradients: list[list[Tensor | None]], conditioning: "_Conditioning") -> None:
        """Runs calls with gradients, as one where that can be, and pushes the gradients of their outputs in."""
        device = next(self.denoiser.parameters()).device
        arguments = calls[0].arguments if len(calls) == 1 else merge([c.arguments for c in calls], len(calls[0].outputs[0]))
        if arguments is None:
            for call, gradient in zip(calls, gradients, strict=True):
                self._replay([call], [gradient], conditioning)
            return
        with torch.enable_grad():
            outputs = _tensors(self.denoiser(**tree_map(conditioning.leaf, _move(arguments, device))))
        if len(calls) > 1:
            worst = max(float((o.detach() - torch.cat(w).detach().to(device)).abs().max() / o.detach().abs().max())
                        for o, *w in zip(outputs, *(c.outputs for c in calls), strict=True))
            if not worst <= 0.02:  # half precision
                raise ReplayError(f"joined denoiser calls differ from single ones by {worst:.2g}: set gradient.at_once to 1")
        pairs = [(o, _joined(g, o)) for o, *g in zip(outputs, *gradients, strict=True)
                 if o.requires_grad and any(x is not None for x in g)]
        if pairs:
            torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])


def _joined(gradients: list[Tensor | None], output: Tensor) -> Tensor:
    """The gradients of several calls' outputs as that of the joined output."""
    zeros = torch.zeros_like(output[: len(output) // len(gradients)])
    return torch.cat([zeros if g is None else g.to(output.device) for g in gradients])


class _Conditioning:
    """Tensors with a graph that enter denoiser calls: a leaf stands for each, and collects its gradient."""

    def __init__(self) -> None:
        self.leaves: dict[int, tuple[Tensor, Tensor]] = {}

    def leaf(self, value: Any) -> Any:
        """The leaf of a tensor that carries a graph; anything else as it is."""
        if not (isinstance(value, Tensor) and value.requires_grad):
            return value
        return self.leaves.setdefault(id(value), (value, value.detach().requires_grad_()))[1]

    def backward(self) -> None:
        """Sends the collected gradients on, through the text encoder."""
        pairs = [(tensor, leaf.grad) for tensor, leaf in self.leaves.values() if leaf.grad is not None]
        if pairs:
            torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
