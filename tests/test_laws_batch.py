"""Negatives of the batch: `in-batch` and `mns`, whose log q corrects what sampling bends.

The law of both: over batches that are drawn in proportion to popularity, the mean over all
n drawn columns of exp(s_j) / q(j), the masked counting as 0, is in expectation the sum of
exp(s_j) over the items that are not masked, the partition function of a softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf
from laws import assert_frequencies, standard_errors
from worlds import from_dense

from autosample_tf.interactions import Interactions
from autosample_tf.losses.pairwise import BPR
from autosample_tf.membership import PairSet
from autosample_tf.models import MF
from autosample_tf.pool import Step, make_context
from autosample_tf.randomness import Draws
from autosample_tf.samplers import build_sampler
from autosample_tf.samplers.contract import Feedback

POPULARITY = np.array([40, 25, 12, 12, 6, 3, 1, 1, 0])  # of 9 items; the last has no pair
SHARES = POPULARITY / POPULARITY.sum()
MINE = [1, 4, 6]  # user 0's, whose are all examples here
DIFFERENT = [8, 7, 6, 3, 2, 0]  # positives of six rows, by which to tell the rows apart

Draw = Callable[..., tuple[np.ndarray, ...]]


def popular_world() -> Interactions:
    """`POPULARITY`, user 0 having `MINE`."""
    liked = np.zeros((41, 9), bool)
    for item, count in enumerate(POPULARITY):
        liked[1 : 1 + count, item] = True
    for item in MINE:
        liked[[0, POPULARITY[item]], item] = True, False
    train = from_dense(liked)
    np.testing.assert_array_equal(train.popularity, POPULARITY)
    return train


def model() -> MF:
    return MF(41, 9, dim=4, init_scale=0.7)


def drawing(spec: str, rows: int) -> Draw:
    """(positives [rows], step, example weights) to the answer's items, weights and log q."""
    train, own = popular_world(), model()
    sampler, pairs = build_sampler(spec), PairSet(train)
    sampler.build(Feedback(train), 4)

    @tf.function
    def draw(positives: tf.Tensor, step: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        batch = {"user": tf.zeros([rows], tf.int32), "positive": positives, "weight": weights}
        positions = step * rows + tf.range(rows, dtype=tf.int64)
        told = Step(pairs, Draws(0, positions, rows), tf.constant(0.0), BPR())
        context, _ = make_context(own, own.propagate(), batch, told, max(sampler.pool, 1))
        answer = sampler.sample(context)
        return answer.items, answer.weights, answer.log_q

    def call(
        positives: Sequence[int], step: int = 0, weights: Sequence[float] | None = None
    ) -> tuple[np.ndarray, ...]:
        found = draw(
            tf.constant(positives, tf.int32),
            tf.constant(step, tf.int64),
            tf.constant([1.0] * rows if weights is None else weights, tf.float32),
        )
        return tuple(x.numpy() for x in found)

    return call


@pytest.mark.parametrize("n", [1, 3, 5, 50])
def test_the_others_of_a_row_are_different_rows_of_the_batch(n: int) -> None:
    """n of six rows, or all 5 others where n is more; never the row itself."""
    draw = drawing(f"in-batch:n={n}", rows=6)
    for step in range(20):
        items = draw(DIFFERENT, step)[0]
        assert items.shape == (6, min(n, 5))
        for own, others in zip(DIFFERENT, items.tolist(), strict=True):
            assert len(set(others)) == len(others)
            assert set(others) <= set(DIFFERENT) - {own}


def test_over_the_steps_every_other_row_is_as_likely() -> None:
    draw = drawing("in-batch:n=2", rows=6)
    items = np.array([draw(DIFFERENT, step)[0][2] for step in range(1500)])  # of row 2, item 6
    for column in range(2):
        assert_frequencies(items[:, column], np.array([8, 7, 3, 2, 0]), np.ones(5))


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("spec", ["in-batch:n=4", "mns:batch=4,uniform=3"])
def test_padding_and_own_positives_are_masked(spec: str, step: int) -> None:
    """Rows 1 and 4, of items 7 and 2, are padding; item 6 is the user's own. Of an `mns`
    the uniform columns may hold items 7 and 2 as well."""
    items, weights, _ = drawing(spec, rows=6)(DIFFERENT, step, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    allowed = ~np.isin(items, MINE)
    allowed[:, :4] &= ~np.isin(items[:, :4], [7, 2])
    expected = allowed / np.maximum(allowed.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert not allowed.all()


def test_an_accidental_hit_is_masked_wherever_it_comes_from() -> None:
    """All examples have the same positive, which is the user's: there is no negative."""
    items, weights, _ = drawing("in-batch:n=3", rows=5)([4] * 5)
    np.testing.assert_array_equal(items, np.full((5, 3), 4))
    np.testing.assert_array_equal(weights, np.zeros((5, 3)))


def test_the_q_of_in_batch_is_the_share_of_train_pairs() -> None:
    """0.01, of an item with 1 pair of 100, is not clipped to anything."""
    positives = [7, 6, 3, 2, 0]
    items, _, log_q = drawing("in-batch:n=4", rows=5)(positives)
    np.testing.assert_allclose(log_q, np.log(SHARES[items]), rtol=1e-6)
    assert np.exp(log_q).min() == pytest.approx(0.01)


@pytest.mark.parametrize(("rows", "batch"), [(6, 3), (3, 2), (2, 1)])
def test_the_q_of_mns_is_the_mixture_of_both(rows: int, batch: int) -> None:
    """(B pop_j + B' / 9) / (B + B') in columns of either kind, B = 3 or what others there
    are, B' = 2; of item 8, which has no pair, as well."""
    for step in range(5):
        items, _, log_q = drawing("mns:batch=3,uniform=2", rows)(DIFFERENT[:rows], step)
        assert items.shape == (rows, batch + 2)
        q = (batch * SHARES[items] + 2 / 9) / (batch + 2)
        np.testing.assert_allclose(log_q, np.log(q), rtol=1e-6)
    assert (items == 8).any()


def test_a_batch_of_one_has_no_others() -> None:
    items, weights, log_q = drawing("in-batch:n=4", rows=1)([0])
    assert items.shape == weights.shape == log_q.shape == (1, 0)
    items, weights, log_q = drawing("mns:batch=4,uniform=3", rows=1)([0])
    np.testing.assert_allclose(log_q, np.full((1, 3), -np.log(9)), rtol=1e-6)
    np.testing.assert_array_equal(weights > 0, ~np.isin(items, MINE))


def exponentials() -> np.ndarray:
    """[9]: exp of user 0's scores."""
    own = model()
    return np.exp(own.item_table.numpy().astype(float) @ own.user_table.numpy()[0])


NOT_MINE = np.setdiff1d(np.arange(9), MINE)


def many_batches(spec: str) -> tuple[np.ndarray, ...]:
    """Items, weights and log q of 1,000 batches of 16: [1000, 16, n]."""
    draw, rng = drawing(spec, rows=16), np.random.default_rng(0)
    drawn = [draw(rng.choice(9, 16, p=SHARES), step) for step in range(1000)]
    return tuple(np.stack(each).astype(float) for each in zip(*drawn, strict=True))


def partitions(items: np.ndarray, weights: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The estimate of each batch, which are independent: [batches]."""
    return ((weights > 0) * exponentials()[items.astype(int)] / q).mean(axis=(1, 2))


def test_the_corrected_in_batch_estimate_is_unbiased() -> None:
    """Item 8, which no batch can hold, is no part of what is estimated."""
    items, weights, log_q = many_batches("in-batch:n=5")
    expected = exponentials()[NOT_MINE[:-1]].sum()
    assert standard_errors(partitions(items, weights, np.exp(log_q)), expected) < 3.5
    uniform = np.full(items.shape, 1 / 8)
    assert standard_errors(partitions(items, weights, uniform), expected) > 20


@pytest.mark.parametrize(("batch", "uniform"), [(2, 6), (6, 2), (3, 3)])
def test_the_corrected_mns_estimate_is_unbiased(batch: int, uniform: int) -> None:
    """Item 8 is drawn uniformly alone, and counts. Unequal parts the wrong way round fail."""
    items, weights, log_q = many_batches(f"mns:batch={batch},uniform={uniform}")
    expected = exponentials()[NOT_MINE].sum()
    assert standard_errors(partitions(items, weights, np.exp(log_q)), expected) < 3.5
    swapped = (uniform * SHARES[items.astype(int)] + batch / 9) / (batch + uniform)
    off = standard_errors(partitions(items, weights, swapped), expected)
    assert off < 3.5 if batch == uniform else off > 20
