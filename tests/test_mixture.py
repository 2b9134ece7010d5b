"""The mixture's functions against NumPy, and the identities between the two mixings."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf import mixture
from autosample_tf.losses.pairwise import bpr

ALL = [True] * 4


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values - values.max())
    return exponentials / exponentials.sum()


def weights_of(logits: list[float], active: list[bool], temperature: float = 1.0) -> np.ndarray:
    return mixture.mixture_weights(tf.constant(logits), tf.constant(active), temperature).numpy()


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_weights_are_the_softmax_over_the_temperature(temperature: float) -> None:
    logits = [0.3, -1.0, 2.0, 0.0]
    expected = softmax(np.array(logits) / temperature)
    np.testing.assert_allclose(weights_of(logits, ALL, temperature), expected, rtol=1e-5)


def test_dropped_samplers_weigh_nothing_and_the_others_share() -> None:
    """Whatever their logits: the softmax of those left, 1/4 and 3/4 here."""
    weights = weights_of([np.log(1.0), 50.0, np.log(3.0), -50.0], [True, False, True, False])
    np.testing.assert_allclose(weights, [0.25, 0, 0.75, 0], rtol=1e-6)


def test_one_left_weighs_all() -> None:
    weights = weights_of([-80.0, 0.0, 80.0, 1.0], [True, False, False, False])
    np.testing.assert_array_equal(weights, [1, 0, 0, 0])


@pytest.mark.parametrize("logits", [[1e30, -1e30, 0.0, 1.0], [-1e38] * 4, [88.0] * 4])
def test_extreme_logits_give_finite_weights_that_sum_to_1(logits: list[float]) -> None:
    weights = weights_of(logits, ALL, temperature=0.5)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


def test_no_gradient_reaches_a_dropped_samplers_logit() -> None:
    logits = tf.constant([0.1, 0.2, 0.3, 0.4])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        weights = mixture.mixture_weights(logits, tf.constant([True, False, True, True]), 0.7)
        value = tf.reduce_sum(weights * [1.0, 2.0, 3.0, 4.0])
    gradient = tape.gradient(value, logits).numpy()
    assert gradient[1] == 0
    assert gradient[[0, 2, 3]].all()
    assert gradient.sum() == pytest.approx(0, abs=1e-6)  # a softmax moves along its simplex


def test_a_sampler_without_a_negative_passes_its_share_to_the_others() -> None:
    available = [[True, True, True], [True, False, True], [False, True, False], [False] * 3]
    shares = mixture.example_weights(tf.constant([0.2, 0.3, 0.5]), tf.constant(available))
    expected = [[0.2, 0.3, 0.5], [0.2 / 0.7, 0, 0.5 / 0.7], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


def test_the_share_of_a_weightless_sampler_that_is_left_alone_is_finite() -> None:
    shares = mixture.example_weights(tf.constant([1.0, 0.0]), tf.constant([[False, True]]))
    np.testing.assert_array_equal(shares, [[0, 0]])


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_no_share_falls_to_samplers_that_are_kept_out(temperature: float) -> None:
    """Of assigned weights of one alone the others have what float32 has next to 0."""
    logits = temperature * np.log(np.maximum([1.0, 0, 0], np.finfo(np.float32).tiny))
    everybody = tf.constant([True] * 3)
    weights = mixture.mixture_weights(tf.constant(logits, tf.float32), everybody, temperature)
    shares = mixture.example_weights(weights, tf.constant([[False, True, True]]))
    np.testing.assert_array_equal(shares, [[0, 0, 0]])


def test_mix_losses_is_the_weighted_sum() -> None:
    losses, weights = tf.constant([[1.0, 10.0], [2.0, 20.0]]), tf.constant([[0.9, 0.1], [0, 1.0]])
    np.testing.assert_allclose(mixture.mix_losses(losses, weights), [1.9, 20.0], rtol=1e-6)


def test_mix_embeddings_is_the_weighted_sum() -> None:
    embeddings = tf.constant([[[1.0, 2.0], [3.0, 6.0]]])
    mixed = mixture.mix_embeddings(embeddings, tf.constant([[0.75, 0.25]]))
    np.testing.assert_allclose(mixed, [[1.5, 3.0]], rtol=1e-6)


BATCH, SAMPLERS, DIM = 200, 5, 6


def a_batch() -> dict[str, np.ndarray]:
    """Users, positives, a negative a sampler, and a mixture a row."""
    rng = np.random.default_rng(0)
    return {
        "users": rng.normal(size=(BATCH, DIM)).astype(np.float32),
        "positives": rng.normal(size=(BATCH, DIM)).astype(np.float32),
        "negatives": rng.normal(size=(BATCH, SAMPLERS, DIM)).astype(np.float32),
        "weights": rng.dirichlet(np.ones(SAMPLERS), BATCH).astype(np.float32),
    }


def mixed_both_ways(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """BPR of dot products: the loss of the mixture, and the mixture of the losses, [batch]."""
    positive = tf.reduce_sum(batch["users"] * batch["positives"], axis=1)
    negative = tf.einsum("bd,bkd->bk", batch["users"], batch["negatives"])
    by_loss = mixture.mix_losses(bpr(positive, negative), batch["weights"])
    mixed = mixture.mix_embeddings(batch["negatives"], batch["weights"])
    score = tf.reduce_sum(batch["users"] * mixed, axis=1)
    return bpr(positive, score[:, None]).numpy()[:, 0], by_loss.numpy()


def test_the_score_of_the_mixture_is_the_mixture_of_the_scores() -> None:
    batch = a_batch()
    mixed = mixture.mix_embeddings(batch["negatives"], batch["weights"])
    scores = np.einsum("bd,bkd->bk", batch["users"], batch["negatives"])
    np.testing.assert_allclose(
        np.sum(batch["users"] * mixed.numpy(), axis=1),
        np.sum(batch["weights"] * scores, axis=1),
        atol=1e-5,
    )


def test_the_loss_of_the_mixture_is_at_most_the_mixture_of_the_losses() -> None:
    """Jensen: BPR is convex in the negative's score, strictly so."""
    by_instance, by_loss = mixed_both_ways(a_batch())
    assert (by_instance < by_loss).all()


def test_the_two_mixings_agree_at_one_hot_weights() -> None:
    batch = a_batch()
    batch["weights"] = np.eye(SAMPLERS, dtype=np.float32)[np.arange(BATCH) % SAMPLERS]
    np.testing.assert_allclose(*mixed_both_ways(batch), rtol=1e-5)


def test_the_two_mixings_agree_where_all_samplers_have_the_same_negative() -> None:
    batch = a_batch()
    batch["negatives"] = np.repeat(batch["negatives"][:, :1], SAMPLERS, axis=1)
    np.testing.assert_allclose(*mixed_both_ways(batch), rtol=1e-5)


def standardized(values: list[float], active: list[bool]) -> np.ndarray:
    return mixture.standardize(tf.constant(values), tf.constant(active)).numpy()


def test_standardize_has_mean_0_and_standard_deviation_1() -> None:
    values = np.array([3.0, -1.0, 10.0, 0.5])
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(standardized(values.tolist(), ALL), expected, rtol=1e-5)


def test_standardize_does_not_look_at_the_dropped() -> None:
    result = standardized([3.0, 1e6, -5.0, 3.0], [True, False, True, False])
    np.testing.assert_allclose(result, [1, 0, -1, 0], rtol=1e-6)


@pytest.mark.parametrize("active", [ALL, [False, True, False, False]])
def test_standardize_of_equal_values_is_zero(active: list[bool]) -> None:
    np.testing.assert_array_equal(standardized([0.5] * 4, active), np.zeros(4))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_standardize_does_not_depend_on_scale_or_origin(scale: float) -> None:
    values = np.array([3.0, -1.0, 10.0, 0.5])
    moved = standardized((scale * (values + 2)).tolist(), ALL)
    np.testing.assert_allclose(moved, standardized(values.tolist(), ALL), rtol=1e-4)
