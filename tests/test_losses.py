"""BPR against its formula, and where floats end."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.losses import PAIRWISE, bpr


def test_bpr_is_minus_log_sigmoid_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(size=5), rng.normal(size=(5, 3))
    expected = -np.log(1 / (1 + np.exp(-(positive[:, None] - negative))))
    np.testing.assert_allclose(bpr(tf.constant(positive), tf.constant(negative)), expected)


def test_bpr_of_equal_scores_is_log_2() -> None:
    np.testing.assert_allclose(bpr(tf.zeros(1), tf.zeros([1, 1])), [[np.log(2)]], rtol=1e-6)


def test_the_slope_of_bpr_is_minus_sigmoid_of_the_negatives_lead() -> None:
    """d/dx log(1 + exp(-x)) = -1 / (1 + exp(x)), x being the difference."""
    positive = tf.constant([0.5, -2.0])
    with tf.GradientTape() as tape:
        tape.watch(positive)
        loss = bpr(positive, tf.constant([[1.0], [1.0]]))
    expected = -1 / (1 + np.exp([-0.5, -3.0]))
    np.testing.assert_allclose(tape.gradient(loss, positive), expected, rtol=1e-6)


@pytest.mark.parametrize("gap", [1e2, 1e6, 1e30])
def test_extreme_scores_give_finite_losses_and_gradients(gap: float) -> None:
    """Far apart the loss is the lead of the negative, or 0."""
    positive = tf.constant([-gap, gap])
    negative = tf.constant([[gap], [-gap]])
    with tf.GradientTape() as tape:
        tape.watch([positive, negative])
        loss = bpr(positive, negative)
    np.testing.assert_allclose(loss, [[2 * np.float32(gap)], [0]], rtol=1e-6, atol=1e-30)
    gradients = tape.gradient(loss, [positive, negative])
    np.testing.assert_allclose(gradients[0], [-1, 0], atol=1e-6)
    np.testing.assert_allclose(gradients[1], [[1], [0]], atol=1e-6)


@pytest.mark.parametrize("name", PAIRWISE)
def test_every_pairwise_loss_is_a_non_negative_value_a_pair(name: str) -> None:
    rng = np.random.default_rng(1)
    positive, negative = (tf.constant(rng.normal(size=s), tf.float32) for s in (4, (4, 3)))
    loss = PAIRWISE[name](positive, negative)
    assert loss.shape == (4, 3)
    assert (loss.numpy() >= 0).all()
