"""The held-out signal against finite differences, and laws of the loss that it follows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.heldout import alignment, log_rank


def finite_difference_alignment(
    table: np.ndarray,
    held_out_loss: Callable[[np.ndarray], float],
    table_gradient: np.ndarray,
    rate: float,
) -> float:
    """-d/d rate of V(table - rate * grad l) at 0: what a step of descent on l takes off V."""
    ahead, behind = (held_out_loss(table - h * table_gradient) for h in (rate, -rate))
    return (behind - ahead) / (2 * rate)


def test_alignment_is_what_one_step_on_the_user_table_takes_off_the_held_out_loss() -> None:
    """In float64 with repeated users. The central difference of a smooth V is exact to
    O(rate^2) = 1e-8, and rounding to 1e-12: 1e-6 is ample."""
    rng = np.random.default_rng(0)
    users = np.array([0, 1, 0, 2, 0, 1])
    table = rng.normal(size=(4, 3))  # user 3 is not in the batch
    held_out, others = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    gaps = rng.normal(size=(2, 6, 3))  # e_k - p of two samplers

    def by_numpy(table: np.ndarray) -> float:
        scores = np.concatenate([(table[users] * held_out).sum(1)[:, None],
                                 table[users] @ others.T], axis=1)  # fmt: skip
        return float(np.mean(np.log(np.exp(scores).sum(1)) - scores[:, 0]))

    def by_tensorflow(rows: tf.Tensor) -> tf.Tensor:
        own = tf.reduce_sum(rows * held_out, axis=1)
        scores = tf.concat([own[:, None], tf.matmul(rows, others.T)], axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(scores, axis=1) - own)

    def losses(rows: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.nn.softplus(tf.reduce_sum(rows * gaps, axis=2)), axis=1)

    measured = alignment(tf.constant(users), tf.constant(table[users]), by_tensorflow, losses)
    for k in range(2):
        slopes = 1 / (1 + np.exp(-(table[users] * gaps[k]).sum(1))) / len(users)
        gradient = np.zeros_like(table)
        np.add.at(gradient, users, slopes[:, None] * gaps[k])
        expected = finite_difference_alignment(table, by_numpy, gradient, 1e-4)
        np.testing.assert_allclose(measured[k], expected, rtol=1e-6)


def scores_of(seed: int, items: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """A held-out positive's scores [4] and those of sampled items [4, items]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=4).astype(np.float32), rng.normal(size=(4, items)).astype(np.float32)


def test_log_rank_lies_between_the_first_rank_and_the_last() -> None:
    _, items = scores_of(0)
    far = np.full(4, 100.0, np.float32)
    np.testing.assert_allclose(log_rank(far, items, 1000), np.zeros(4), atol=1e-5)
    np.testing.assert_allclose(log_rank(-far, items, 1000), np.full(4, np.log(1001)), rtol=1e-5)


def test_log_rank_estimates_the_rank_within_the_catalogue() -> None:
    """A positive above all but a fifth of the sample: about the 200th of 1,000."""
    items = np.arange(50, dtype=np.float32)[None, :]
    rank = np.exp(log_rank(np.array([39.5], np.float32), items, 1000).numpy()) - 1
    np.testing.assert_allclose(rank, [200], rtol=0.02)


def test_log_rank_falls_as_the_positive_rises() -> None:
    positives, items = scores_of(1)
    with tf.GradientTape() as tape:
        tape.watch(scores := tf.constant(positives))
        value = tf.reduce_sum(log_rank(scores, items, 1000))
    assert (tape.gradient(value, scores).numpy() < 0).all()


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e3])
def test_log_rank_does_not_depend_on_the_scale_or_the_origin_of_scores(scale: float) -> None:
    positives, items = scores_of(2)
    moved = log_rank(scale * (positives + 3), scale * (items + 3), 1000)
    np.testing.assert_allclose(moved, log_rank(positives, items, 1000), rtol=1e-3)


def test_log_rank_of_equal_scores_is_finite_with_a_finite_gradient() -> None:
    with tf.GradientTape() as tape:
        tape.watch(scores := tf.zeros([2]))
        value = log_rank(scores, tf.zeros([2, 5]), 1000)
    np.testing.assert_allclose(value, np.full(2, np.log(501)), rtol=1e-5)
    assert np.isfinite(tape.gradient(value, scores).numpy()).all()
