"""Whether two rankings differ by more than chance, user by user. NumPy and SciPy alone.

Metrics are means over users, and the same users are ranked for by everybody: so it is the
users' differences whose spread counts, which is smaller than that of the metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean and its standard error, of `count` values; of a single one there is none."""

    mean: float
    standard_error: float | None
    count: int


def mean_of(values: np.ndarray) -> Mean:
    """The mean of values [n] with its standard error."""
    count = len(values)
    spread = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return Mean(float(values.mean()), spread, count)


def paired_p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The two-sided p of Student's paired t-test; 1 where no pair differs.

    Args:
      ours: [n], a value a user.
      theirs: [n], of the same users.
    """
    from scipy import stats

    differences = ours - theirs
    if len(differences) < 2 or not differences.any():
        return 1.0
    if not (differences - differences[0]).any():
        return 0.0  # all differ by the same: t is infinite
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """p values of several tests at once, by Benjamini and Hochberg's false discovery rate
    (Journal of the Royal Statistical Society B, 1995)."""
    from scipy import stats

    return stats.false_discovery_control(p_values).tolist() if len(p_values) else []
