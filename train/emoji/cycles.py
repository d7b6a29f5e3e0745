"""The learning rate of the embedded model's training scripts."""

import math
from collections.abc import Iterable


def rate(step: int, cycles: Iterable[tuple[int, float]]) -> float:
    """Learning rate at a step.

    Each cycle (steps, peak) warms up over its first twentieth and falls to zero as half a cosine.
    """
    for length, peak in cycles:
        if step < length:
            done = step / length
            return peak * (
                done / 0.05 if done < 0.05 else 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))
            )
        step -= length
    return 0.0
