"""Standard errors and paired tests, against SciPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from autosample_tf.comparison.significance import adjusted, mean_of, paired_p_value


def test_the_mean_and_its_standard_error_by_hand() -> None:
    found = mean_of(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found.mean == 3.0
    assert found.standard_error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert found.count == 4
    assert mean_of(np.array([1.0])).standard_error is None


def test_the_paired_test_is_that_of_related_samples() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(50), rng.random(50)
    assert paired_p_value(ours, theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


@pytest.mark.filterwarnings("error")
def test_no_difference_is_no_evidence_and_a_constant_one_is_certain() -> None:
    values = np.arange(5.0)
    assert paired_p_value(values, values) == 1.0
    assert paired_p_value(values + 1, values) == 0.0
    assert paired_p_value(values[:1], values[1:2]) == 1.0


def test_false_positives_are_as_rare_as_stated() -> None:
    """Under no difference p is uniform: of 2,000 tests some 5 % lie below .05 (4 standard
    errors, .0195)."""
    rng = np.random.default_rng(1)
    p = [paired_p_value(rng.normal(size=30), rng.normal(size=30)) for _ in range(2000)]
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 0.0195


def test_adjusted_by_hand() -> None:
    """n p / rank, made monotone from the largest."""
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert adjusted([]) == []
