"""Whether one thing tells another: context and cell of an image. Pure functions of arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEAST_EXPECTED = 5.0  # of a field: with fewer the p-value is rough (Cochran 1954)


@dataclass(frozen=True)
class Dependence:
    """Pearson's test of independence.

    Attributes:
        statistic: chi-square.
        freedom: its degrees of freedom.
        p: chance of one as large where rows do not tell columns.
        v: Cramer's V, 0 (independent) to 1 (one tells the other).
        n: images.
        rough: whether fields are expected to hold so few images that p is rough.
    """

    statistic: float
    freedom: int
    p: float
    v: float
    n: int
    rough: bool


def chi_square(table: ArrayLike) -> Dependence | None:
    """Tests a table of counts; None where it has less than two rows or columns with images.

    Args:
        table: `[R, C]`; rows and columns without images are left out.

    Source: Pearson 1900; Cramer 1946, section 21.9.
    """
    counts = np.asarray(table, dtype=float)
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    if min(counts.shape, default=0) < 2:
        return None
    found: Any = stats.chi2_contingency(counts, correction=False)
    n, least = counts.sum(), min(counts.shape) - 1
    return Dependence(
        round(float(found.statistic), 4),
        int(found.dof),
        round(float(found.pvalue), 6),
        round(float(np.sqrt(found.statistic / (n * least))), 4),
        int(n),
        bool(found.expected_freq.min() < LEAST_EXPECTED),
    )
