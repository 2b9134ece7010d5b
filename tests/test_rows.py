"""Draws among a user's own items."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy import stats
from worlds import NUM_USERS, from_dense, toy_held_out

from autosample_tf.ops.randomness import Draws
from autosample_tf.ops.rows import RowDraws


def uniform(rows: int) -> tf.Tensor:
    return Draws(0, tf.range(rows, dtype=tf.int64), rows).uniform("rows", 1)


def test_an_item_is_drawn_uniformly_among_its_users() -> None:
    held_out, rows = toy_held_out(), 20_000
    for user in np.flatnonzero(held_out.degrees):
        items, present = RowDraws(held_out).draw(tf.fill([rows], int(user)), uniform(rows))
        own, counts = np.unique(items.numpy(), return_counts=True)
        np.testing.assert_array_equal(own, held_out.row(user))
        assert stats.chisquare(counts).pvalue > 1e-3
        assert present.numpy().all()


def test_a_user_without_items_is_marked() -> None:
    _, present = RowDraws(toy_held_out()).draw(tf.range(NUM_USERS), uniform(NUM_USERS))
    np.testing.assert_array_equal(present.numpy()[:, 0], toy_held_out().degrees > 0)


def test_the_largest_random_number_stays_in_the_row() -> None:
    """(1 - 2^-24) times a degree above 2^24 would round up to it; here by a number of 1."""
    pairs = from_dense(np.array([[1, 1, 0], [0, 0, 1]], bool))
    items, _ = RowDraws(pairs).draw(tf.constant([0, 1]), tf.ones([2, 1]))
    np.testing.assert_array_equal(items, [[1], [2]])


def test_without_any_pairs_nobody_has_items() -> None:
    _, present = RowDraws(from_dense(np.zeros((2, 3), bool))).draw(tf.range(2), uniform(2))
    assert not present.numpy().any()
