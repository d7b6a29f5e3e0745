"""Record and replay: gradients through any stock diffusers pipeline, one call at a time.

Direct fine-tuning with detached denoiser inputs ("adjusted" DFT, Shen et al., ICLR 2024, arXiv
2311.07604, section 4.2) touches the loss only through what the pipeline does with each denoiser
output. So the stock pipeline is the sampler:

1. record: it runs with the denoiser's calls outside the graph, and every output is kept;
2. attach: the denoiser hands the kept outputs back as leaves: the images come out differentiable in
   them, whatever the pipeline does in between. `attach` does both in one pass. Where the targets of
   many images must be known before any of them can be attached (micro-batches), `record` runs
   first, and `attach` again with text encoder and decoder only;
3. the caller's loss on the images gives each leaf its gradient;
4. replay: `Tape.backward` runs each denoiser call once more, with gradients, and pushes the leaf's
   gradient in. Gradients that reach conditioning tensors (prompt embeddings) are summed and go
   through the text encoder once, at the end.

Memory is that of one denoiser call and the decoder, whatever the number of steps. Nothing here
knows a model family: a call's arguments are mapped as a tree, its latents (`LATENTS`) are detached,
any other tensor with a graph is conditioning.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from evenhand.diffusion.tape import Call, ReplayError, Tape, move, tensors

LATENTS = ("sample", "hidden_states", "x")
Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Recording:
    """Images `[N, 3, H, W]` in [0, 1] without a graph, and each call's denoiser output tree."""

    images: Tensor
    outputs: list[Any]

    def __len__(self) -> int:
        """Number of denoiser calls."""
        return len(self.outputs)


@contextlib.contextmanager
def forward_of(module: nn.Module, function: Callable) -> Iterator[None]:
    """Puts a function in the place of a module's forward.

    Everything else about the module stays.
    """
    before = vars(module).get("forward")  # a hook's, such as accelerate's
    module.forward = function
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def record(denoiser: nn.Module, run: Run, *, offload: bool = False) -> Recording:
    """Runs the pipeline once without gradients.

    Args:
        denoiser: the module that the pipeline calls at every step.
        run: draws the images `[N, 3, H, W]` with the pipeline's undecorated call. It will be called
            again by `attach` and must do the same then: fresh generators with the same seeds.
        offload: keep the outputs in CPU memory.
    """
    outputs, forward = [], denoiser.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        outputs.append(_copy(output, "cpu" if offload else None))
        return output

    with torch.no_grad(), forward_of(denoiser, recording):
        images = run()
    if not outputs:
        raise ReplayError(_NO_CALL)
    return Recording(images, outputs)


def attach(
    denoiser: nn.Module,
    run: Run,
    recording: Recording | None = None,
    *,
    tolerance: float = 1e-3,
    offload: bool = False,
) -> "Tape":
    """Draws images that are differentiable in the denoiser's outputs.

    Args:
        denoiser: the module that the pipeline calls at every step.
        run: draws the images `[N, 3, H, W]` with the pipeline's undecorated call.
        recording: of the same run, whose denoiser outputs are handed back; the denoiser runs,
            without gradients, when None.
        tolerance: greatest difference between a recorded and an attached pixel, of a range of 1.
        offload: keep the calls' arguments in CPU memory.

    Raises:
        ReplayError: the pipeline did something else than when it was recorded (hidden state,
            unseeded noise), or its images carry no gradient to the denoiser outputs.
    """
    forward, names = denoiser.forward, list(inspect.signature(denoiser.forward).parameters)
    device = next(denoiser.parameters()).device
    calls: list[Call] = []

    def output_of(*args: Any, **kwargs: Any) -> Any:
        if recording is None:
            with torch.no_grad():
                return forward(*args, **kwargs)
        if len(calls) == len(recording.outputs):
            raise ReplayError(
                f"the pipeline called its denoiser more often than the {len(calls)} times "
                f"recorded: {_HIDDEN}"
            )
        return move(recording.outputs[len(calls)], device)

    def handing_back(*args: Any, **kwargs: Any) -> Any:
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        latents = {k: _copy(v) for k, v in arguments.items() if k in LATENTS}
        arguments = {**arguments, **latents}
        leaves = tree_map(_leaf, output_of(*args, **kwargs))
        calls.append(Call.of(move(arguments, "cpu") if offload else arguments, tensors(leaves)))
        return tree_map(_handed_out, leaves)

    with torch.enable_grad(), forward_of(denoiser, handing_back):
        images = run()
    if not calls:
        raise ReplayError(_NO_CALL)
    if recording is not None:
        _compare(recording, images, len(calls), tolerance)
    if not images.requires_grad:
        raise ReplayError(
            "no gradient reaches the denoiser's outputs: the pipeline's output has no graph "
            "(output_type other than 'pt', a safety checker or a watermark in between)"
        )
    return Tape(denoiser, images, calls)


def _copy(tree: Any, device: str | None = None) -> Any:
    """Copies without a graph: pipelines and schedulers may change theirs in place."""
    return tree_map(
        lambda x: x.detach().to(device or x.device, copy=True) if isinstance(x, Tensor) else x, tree
    )


def _leaf(x: Any) -> Any:
    """A floating-point tensor as a leaf that collects its gradient; anything else as it is."""
    return x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x


def _handed_out(x: Any) -> Any:
    """A leaf's copy in the graph, which the pipeline may change in place, unlike the leaf."""
    return x.clone() if isinstance(x, Tensor) and x.requires_grad else x


def _compare(recording: Recording, images: Tensor, calls: int, tolerance: float) -> None:
    """Refuses attached images that are not the recorded ones."""
    if calls < len(recording.outputs) or images.shape != recording.images.shape:
        raise ReplayError(
            f"the pipeline took {calls} instead of {len(recording.outputs)} denoiser calls: "
            f"{_HIDDEN}"
        )
    worst = float((images.detach() - recording.images).abs().max())
    if not worst <= tolerance:
        raise ReplayError(
            f"attached images differ from the recorded ones by {worst:.2g}: {_HIDDEN}"
        )


_NO_CALL = "the pipeline never called its denoiser: it cannot be replayed"
_HIDDEN = "it has state or noise that its generators do not govern, so it cannot be replayed"
