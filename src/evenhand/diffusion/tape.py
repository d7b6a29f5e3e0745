"""What was recorded of a pipeline's denoiser calls, and their replay with gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from evenhand.core.errors import UserError
from evenhand.diffusion.merging import merge


class ReplayError(UserError):
    """A pipeline that cannot be replayed."""


def tensors(tree: Any) -> list[Tensor]:
    """The floating-point tensors of a tree, in order."""
    return [
        leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point()
    ]


def move(tree: Any, device: torch.device | str) -> Any:
    """The tree with its tensors on a device, but for those that carry a graph."""
    return tree_map(
        lambda x: x.to(device) if isinstance(x, Tensor) and not x.requires_grad else x, tree
    )


@dataclass(frozen=True)
class Call:
    """One denoiser call.

    Attributes:
        arguments: by name; latents are copies without a graph.
        outputs: as leaves of the image graph.
        versions: of the arguments' tensors, which count their changes in place.
    """

    arguments: dict[str, Any]
    outputs: list[Tensor]
    versions: list[int]

    @classmethod
    def of(cls, arguments: dict[str, Any], outputs: list[Tensor]) -> "Call":
        """A call as it is now."""
        return cls(arguments, outputs, _versions(arguments))

    def check(self) -> None:
        """Raises ReplayError where the pipeline has changed an argument since."""
        if _versions(self.arguments) != self.versions:
            raise ReplayError(
                "the pipeline changed an argument of its denoiser in place after the call: it "
                "cannot be replayed"
            )


def _versions(tree: Any) -> list[int]:
    return [leaf._version for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@dataclass(frozen=True)
class Tape:
    """Differentiable images `[N, 3, H, W]` in [0, 1] and the calls they came from."""

    denoiser: nn.Module
    images: Tensor
    calls: list[Call]

    def __len__(self) -> int:
        """Number of denoiser calls."""
        return len(self.calls)

    def backward(
        self, loss: Tensor, *, calls: Sequence[int] | None = None, at_once: int = 1
    ) -> None:
        """Adds the gradient of a loss on `images` to the `.grad` of every parameter in training.

        Args:
            loss: scalar, a function of `images`.
            calls: as for `replay`.
            at_once: as for `replay`.
        """
        self.replay(self.gradients(loss), calls=calls, at_once=at_once)

    def gradients(self, loss: Tensor) -> list[list[Tensor | None]]:
        """The gradient of a loss on `images` at the outputs of each denoiser call.

        The image graph is freed.
        """
        leaves = [leaf for call in self.calls for leaf in call.outputs]
        flat = iter(torch.autograd.grad(loss, leaves, allow_unused=True))
        return [[next(flat) for _ in call.outputs] for call in self.calls]

    def replay(
        self,
        gradients: list[list[Tensor | None]],
        *,
        calls: Sequence[int] | None = None,
        factors: Sequence[float] | None = None,
        at_once: int = 1,
    ) -> None:
        """Runs denoiser calls again and pushes the gradients of their outputs into the parameters.

        Args:
            gradients: as `gradients` returns them.
            calls: indices of the calls to replay; each is weighted n/k, so that a uniformly drawn
                subset gives an unbiased gradient. All when None.
            factors: on each call's gradient; 1, the gradient of the one-graph formulation, when
                None.
            at_once: calls run as one batch, for networks whose arguments can be joined
                (`evenhand.diffusion.merging`).

        Raises:
            ReplayError: joined calls gave something else than they gave one by one.
        """
        chosen = list(range(len(self.calls)) if calls is None else calls)
        conditioning = _Conditioning()
        weight = [
            len(self.calls) / len(chosen) * (1.0 if factors is None else factors[i]) for i in chosen
        ]
        scaled = [
            [g if g is None else g * w for g in gradients[i]]
            for i, w in zip(chosen, weight, strict=True)
        ]
        for start in range(0, len(chosen), at_once):
            end = start + at_once
            self._replay(
                [self.calls[i] for i in chosen[start:end]], scaled[start:end], conditioning
            )
        conditioning.backward()

    def _replay(
        self, calls: list[Call], gradients: list[list[Tensor | None]], conditioning: "_Conditioning"
    ) -> None:
        """Runs calls with gradients, as one where that can be, and pushes their gradients in."""
        device = next(self.denoiser.parameters()).device
        for call in calls:
            call.check()
        arguments = (
            calls[0].arguments
            if len(calls) == 1
            else merge([c.arguments for c in calls], len(calls[0].outputs[0]))
        )
        if arguments is None:
            for call, gradient in zip(calls, gradients, strict=True):
                self._replay([call], [gradient], conditioning)
            return
        with torch.enable_grad():
            outputs = tensors(self.denoiser(**tree_map(conditioning.leaf, move(arguments, device))))
        if len(calls) > 1:
            worst = max(
                float(
                    (o.detach() - torch.cat(w).detach().to(device)).abs().max()
                    / o.detach().abs().max()
                )
                for o, *w in zip(outputs, *(c.outputs for c in calls), strict=True)
            )
            if not worst <= 0.02:  # half precision
                raise ReplayError(
                    f"joined denoiser calls differ from single ones by {worst:.2g}: set "
                    "gradient.at_once to 1"
                )
        pairs = [
            (o, _joined(g, o))
            for o, *g in zip(outputs, *gradients, strict=True)
            if o.requires_grad and any(x is not None for x in g)
        ]
        if pairs:
            torch.autograd.backward(
                [tensor for tensor, _ in pairs], [gradient for _, gradient in pairs]
            )


def _joined(gradients: list[Tensor | None], output: Tensor) -> Tensor:
    """The gradients of several calls' outputs as that of the joined output."""
    zeros = torch.zeros_like(output[: len(output) // len(gradients)])
    return torch.cat([zeros if g is None else g.to(output.device) for g in gradients])


class _Conditioning:
    """Tensors with a graph that enter denoiser calls.

    A leaf takes the place of each and collects its gradient.
    """

    def __init__(self) -> None:
        self.leaves: dict[int, tuple[Tensor, Tensor]] = {}

    def leaf(self, value: Any) -> Any:
        """The leaf of a tensor that carries a graph; anything else as it is."""
        if not (isinstance(value, Tensor) and value.requires_grad):
            return value
        return self.leaves.setdefault(id(value), (value, value.detach().requires_grad_()))[1]

    def backward(self) -> None:
        """Sends the collected gradients on, through the text encoder."""
        pairs = [
            (tensor, leaf.grad) for tensor, leaf in self.leaves.values() if leaf.grad is not None
        ]
        if pairs:
            torch.autograd.backward(
                [tensor for tensor, _ in pairs], [gradient for _, gradient in pairs]
            )
