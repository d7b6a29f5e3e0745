"""Prompts x seeds -> images, in batches of fixed composition.

Every loop that draws images goes through here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor

from evenhand.core.prompts import Row
from evenhand.diffusion.generators import Generator

T = TypeVar("T")


def batches(rows: Sequence[T], size: int) -> list[list[T]]:
    """The rows in their order, `size` at a time.

    Pixels differ by up to 1/255 with an image's batch: so it must follow from the plan.
    """
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def draw(
    generator: Generator, rows: Sequence[Row], *, at_once: int | None = None, **overrides: Any
) -> Iterator[tuple[list[Row], Tensor]]:
    """Draws images without gradients.

    Args:
        generator: a pipeline or a service.
        rows: prompts and seeds.
        at_once: images of a batch; all when None.
        overrides: arguments of the pipeline's call, such as `num_inference_steps`.

    Yields:
        rows and their images `[N, 3, H, W]` in [0, 1]: those of a batch, of a pipeline; of a
        service those that it drew, by their size.
    """
    for batch in batches(rows, at_once or max(len(rows), 1)):
        yield from generator.batch(batch, **overrides)
