"""What groups' counts alone say of a training set: shortcuts that a classifier may take.

Pure functions of arrays.

Where real and synthetic images are mixed, whether an image is synthetic is easy to see. Images that
fill every group up to the largest make the target independent of the protected attribute, but the
attribute *and* the source together then say the target better than before.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAR = 0.1  # above chance, from which on a shortcut is worth a warning


@dataclass(frozen=True)
class Shortcut:
    """How well the target is guessed from something else, by counts alone.

    Attributes:
        protected: accuracy of the best guess from the protected attribute.
        protected_and_source: from the attribute and whether the image is synthetic.
        bits: mutual information of the target with both.
        chance: accuracy of the best guess from nothing.
    """

    protected: float
    protected_and_source: float
    bits: float
    chance: float

    @property
    def warning(self) -> str | None:
        """What a reader must know before training, in a sentence; None where there is nothing."""
        if self.protected_and_source < self.protected + 1e-9:
            return None
        if self.protected_and_source < self.chance + NEAR:
            return None
        return (
            "the protected attribute and whether an image is synthetic together say the target of "
            f"{self.protected_and_source:.1%} of the training images (the attribute alone: "
            f"{self.protected:.1%}, chance: {self.chance:.1%}): a network that recognises "
            "synthetic images learns this shortcut. Train on them one after the other (arm=ffr), "
            "or weigh groups with their source (objective=resampling)"
        )


def shortcut(real: ArrayLike, synthetic: ArrayLike) -> Shortcut:
    """The source-shortcut report of a mixture.

    Args:
        real: `[Y, P]` images of each group.
        synthetic: `[Y, P]`; zeros where there are none.
    """
    counts = np.stack([np.asarray(real, float), np.asarray(synthetic, float)], -1)
    return Shortcut(
        protected=_guessed(counts.sum(-1)),
        protected_and_source=_guessed(counts.reshape(len(counts), -1)),
        bits=_bits(counts.reshape(len(counts), -1)),
        chance=float(counts.sum((1, 2)).max() / counts.sum()),
    )


def fill_up(real: ArrayLike) -> NDArray[np.int64]:
    """`M - n_g` images of each group `[Y, P]`, where M is the largest group's number (USB).

    A group without a real image cannot be, and gets none.
    """
    real = np.asarray(real, dtype=np.int64)
    return np.where(real > 0, real.max() - real, 0)


def uniform(real: ArrayLike, images: int | None = None) -> NDArray[np.int64]:
    """As many of every group (ASB, FFR).

    Args:
        real: `[Y, P]` counts.
        images: in all; as many as it takes to fill up, when None.
    """
    there = np.asarray(real) > 0
    total = int(fill_up(real).sum()) if images is None else images
    return np.where(there, total // int(there.sum()), 0)


def _guessed(table: NDArray[np.float64]) -> float:
    """Accuracy of the best guess of the row from the column of a table of counts."""
    return float(table.max(0).sum() / table.sum())


def _bits(table: NDArray[np.float64]) -> float:
    """Mutual information of row and column of a table of counts, bits."""
    p = table / table.sum()
    outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    return float((p[p > 0] * np.log2(p[p > 0] / outer[p > 0])).sum())
