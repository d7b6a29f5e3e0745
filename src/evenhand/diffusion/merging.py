"""Several denoiser calls as one: their arguments put behind one another along the batch.

Meant for small batches on a GPU, which one call does not fill. A family whose arguments cannot be
joined by the rules below (lists of tensors, a tensor whose first axis is not the batch and which
differs from call to call) is not merged; whether the merged call gives what the single ones gave is
checked by the caller, against the recorded outputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def merge(calls: Sequence[dict[str, Any]], batch: int) -> dict[str, Any] | None:
    """The arguments of several calls as those of one call on a batch that is as many times longer.

    None where it cannot be.

    Args:
        calls: arguments by name.
        batch: images of a call, the first axis of its outputs.
    """
    flat, specs = zip(*(tree_flatten(call) for call in calls), strict=True)
    if any(spec != specs[0] for spec in specs) or any(
        isinstance(value, list) for value in calls[0].values()
    ):
        return None
    merged = [_join(leaves, batch) for leaves in zip(*flat, strict=True)]
    return None if any(leaf is _CANNOT for leaf in merged) else tree_unflatten(merged, specs[0])


_CANNOT = object()


def _join(leaves: Sequence[Any], batch: int) -> Any:
    """One argument of all calls, joined.

    Batches are put behind one another, and a time step that holds for all images is repeated for
    each; anything else must be the same in all calls.
    """
    first = leaves[0]
    if not isinstance(first, Tensor):
        return first if all(leaf == first for leaf in leaves) else _CANNOT
    if any(leaf.shape[1:] != first.shape[1:] for leaf in leaves):
        return _CANNOT
    if first.ndim and first.shape[0] == batch:
        return torch.cat(list(leaves))
    if first.numel() == 1:
        return torch.cat([leaf.reshape(1).expand(batch) for leaf in leaves])
    return first if all(leaf is first or torch.equal(leaf, first) for leaf in leaves) else _CANNOT
