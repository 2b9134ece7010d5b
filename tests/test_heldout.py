"""The held-out signal against finite differences, and laws of the loss that it follows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from worlds import to_dense, toy_model, toy_train

from autosample_tf.autosample import AutoSample
from autosample_tf.pipeline import training_batches
from autosample_tf.step.heldout import Rows, alignment, counts, log_rank


def test_alignment_is_what_one_step_on_both_tables_takes_off_the_held_out_loss() -> None:
    """In float64 with repeated users and items. The central difference of a smooth V is exact to
    O(rate^2) = 1e-8, and rounding to 1e-12: 1e-6 is ample."""
    rng = np.random.default_rng(0)
    users = np.array([0, 1, 0, 2, 0, 1])  # user 3 is not in the batch
    held_out, others = np.array([3, 6, 3, 7, 5, 0]), np.array([1, 3, 2, 6, 2])
    positives, negatives = np.array([0, 3, 4, 3, 0, 8]), rng.integers(0, 8, (2, 6))
    tables = rng.normal(size=(4, 3)), rng.normal(size=(9, 3))

    def by_numpy(user_table: np.ndarray, item_table: np.ndarray) -> float:
        rows = user_table[users]
        scores = np.concatenate([(rows * item_table[held_out]).sum(1)[:, None],
                                 rows @ item_table[others].T], axis=1)  # fmt: skip
        return float(np.mean(np.log(np.exp(scores).sum(1)) - scores[:, 0]))

    def by_tensorflow(rows: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        own = tf.reduce_sum(rows * items[:6], axis=1)
        scores = tf.concat([own[:, None], tf.matmul(rows, items[6:], transpose_b=True)], axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(scores, axis=1) - own)

    def losses(rows: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        positive, *negative = tf.split(items, 3)
        gaps = tf.stack([each - positive for each in negative])
        return tf.reduce_mean(tf.nn.softplus(tf.reduce_sum(rows * gaps, axis=2)), axis=1)

    def rows_of(items: np.ndarray) -> Rows:
        user_embeddings, item_embeddings = tables[0][users], tables[1][items]
        return Rows(*(tf.constant(x) for x in (users, user_embeddings, items, item_embeddings)))

    read = rows_of(np.concatenate([held_out, others]))
    moved = rows_of(np.concatenate([positives, *negatives]))
    measured = alignment(read, moved, by_tensorflow, losses)
    for k in range(2):
        gaps = tables[1][negatives[k]] - tables[1][positives]
        slopes = 1 / (1 + np.exp(-(tables[0][users] * gaps).sum(1)))[:, None] / len(users)
        gradients = np.zeros_like(tables[0]), np.zeros_like(tables[1])
        np.add.at(gradients[0], users, slopes * gaps)
        np.add.at(gradients[1], negatives[k], slopes * tables[0][users])
        np.add.at(gradients[1], positives, -slopes * tables[0][users])
        ahead, behind = (
            by_numpy(*(table - h * g for table, g in zip(tables, gradients, strict=True)))
            for h in (1e-4, -1e-4)
        )
        np.testing.assert_allclose(measured[k], (behind - ahead) / 2e-4, rtol=1e-6)


def scores_of(seed: int, items: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """A held-out positive's scores [4] and those of sampled items [4, items]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=4).astype(np.float32), rng.normal(size=(4, items)).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 3])
def test_what_a_rows_user_has_seen_counts_half(stride: int) -> None:
    batch = next(iter(training_batches(toy_train(), 12, seed=0)))
    autosample = AutoSample(toy_model("mf"), toy_train(), samplers=["rns"], objective="uniform")
    columns = autosample.sample(batch).columns(stride)
    items = np.array([0, 3, 4, 4, 9, 13], np.int32)
    seen = to_dense(toy_train())[batch["user"].numpy()[::stride]][:, items]
    assert 0 < seen.sum() < seen.size
    np.testing.assert_array_equal(counts(columns, tf.constant(items)), np.where(seen, 0.5, 1.0))


def all_count(items: np.ndarray) -> np.ndarray:
    return np.ones_like(items)


def test_log_rank_lies_between_the_first_rank_and_the_last() -> None:
    _, items = scores_of(0)
    far, counted = np.full(4, 100.0, np.float32), all_count(items)
    np.testing.assert_allclose(log_rank(far, items, counted, 1000), np.zeros(4), atol=1e-5)
    last = np.full(4, np.log(1001))
    np.testing.assert_allclose(log_rank(-far, items, counted, 1000), last, rtol=1e-5)


def test_log_rank_estimates_the_rank_within_the_catalogue() -> None:
    """A positive above all but a fifth of the sample: about the 200th of 1,000."""
    items = np.arange(50, dtype=np.float32)[None, :]
    positive = np.array([39.5], np.float32)
    rank = np.exp(log_rank(positive, items, all_count(items), 1000).numpy()) - 1
    np.testing.assert_allclose(rank, [200], rtol=0.02)


def test_log_rank_counts_items_as_much_as_is_said() -> None:
    """In the rank as in the spread that the sigmoids' width follows."""
    positives, items = scores_of(3)
    counted = np.random.default_rng(4).choice([0.0, 0.5, 1.0], items.shape).astype(np.float32)
    measured = log_rank(positives, items, counted, 1000)
    for row in range(4):
        mean = np.average(items[row], weights=counted[row])
        spread = np.sqrt(np.average((items[row] - mean) ** 2, weights=counted[row]))
        gaps = 16 * (items[row] - positives[row]) / spread
        rank = 1000 * (counted[row] / (1 + np.exp(-gaps))).sum() / items.shape[1]
        np.testing.assert_allclose(measured[row], np.log1p(rank), rtol=1e-5)


def test_log_rank_where_nothing_counts_is_that_of_the_first_with_a_finite_gradient() -> None:
    positives, items = scores_of(5)
    with tf.GradientTape() as tape:
        tape.watch(scores := tf.constant(positives))
        value = log_rank(scores, items, np.zeros_like(items), 1000)
    np.testing.assert_array_equal(value, np.zeros(4))
    np.testing.assert_array_equal(tape.gradient(value, scores), np.zeros(4))


def test_log_rank_falls_as_the_positive_rises() -> None:
    positives, items = scores_of(1)
    with tf.GradientTape() as tape:
        tape.watch(scores := tf.constant(positives))
        value = tf.reduce_sum(log_rank(scores, items, all_count(items), 1000))
    assert (tape.gradient(value, scores).numpy() < 0).all()


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e3])
def test_log_rank_does_not_depend_on_the_scale_or_the_origin_of_scores(scale: float) -> None:
    positives, items = scores_of(2)
    counted = all_count(items)
    moved = log_rank(scale * (positives + 3), scale * (items + 3), counted, 1000)
    np.testing.assert_allclose(moved, log_rank(positives, items, counted, 1000), rtol=1e-3)


def test_log_rank_of_equal_scores_is_finite_with_a_finite_gradient() -> None:
    with tf.GradientTape() as tape:
        tape.watch(scores := tf.zeros([2]))
        value = log_rank(scores, tf.zeros([2, 5]), tf.ones([2, 5]), 1000)
    np.testing.assert_allclose(value, np.full(2, np.log(501)), rtol=1e-5)
    assert np.isfinite(tape.gradient(value, scores).numpy()).all()
