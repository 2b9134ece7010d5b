"""Samplers that learn to sample: a generator's parameters, and what moves them.

The generator is a matrix factorization of its own, with item biases: it gives the logits
that negatives are drawn by. A draw cannot be differentiated, so it learns by REINFORCE
(Williams 1992): the gradient of -reward * log p(drawn) is in expectation that of minus the
mean reward. Rewards never have a gradient: nothing here moves the model.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Pairs
from autosample_tf.samplers.selection import draw_column, pick

INITIAL_RANGE = 0.05  # of the uniform distribution that entries begin with, as in IRGAN's code


class Generator(tf.Module):
    """Logits of items for users: dot products plus item biases.

    Args:
      train: whose users and items.
      dim: entries of a vector.
    """

    def __init__(self, train: Pairs, dim: int):
        super().__init__()
        rng = np.random.default_rng(0)

        def table(rows: int) -> tf.Variable:
            entries = rng.uniform(-INITIAL_RANGE, INITIAL_RANGE, (rows, dim))
            return tf.Variable(entries.astype(np.float32))

        self.user_table, self.item_table = table(train.num_users), table(train.num_items)
        self.item_biases = tf.Variable(tf.zeros([train.num_items]))

    def logits(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """[batch, n], of users [batch] and items [batch, n]."""
        rows, candidates = tf.gather(self.user_table, users), tf.gather(self.item_table, items)
        dots = tf.reduce_sum(rows[:, None, :] * candidates, axis=2)
        return dots + tf.gather(self.item_biases, items)

    def all_logits(self, users: tf.Tensor) -> tf.Tensor:
        """[batch, num_items], of users [batch]."""
        rows = tf.gather(self.user_table, users)
        return tf.matmul(rows, self.item_table, transpose_b=True) + self.item_biases


def reinforce(log_probability: tf.Tensor, reward: tf.Tensor) -> tf.Tensor:
    """What makes rewarded draws likelier: [batch], from log p(drawn) and rewards [batch]."""
    return -tf.stop_gradient(reward) * log_probability


def draw_of_many(shares: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """A column of each row in proportion to its share, where there are many columns.

    First a block of columns, then one within it: running sums over the square root of all.

    Args:
      shares: [batch, n], at least 0; a column of 0 is never drawn where another is above.
      uniform: [batch, 2], in [0, 1).

    Returns:
      [batch] int32.
    """
    n = shares.shape[1]
    width = int(np.ceil(np.sqrt(n)))
    blocks = int(np.ceil(n / width))
    padded = tf.pad(shares, [[0, 0], [0, blocks * width - n]])
    padded = tf.reshape(padded, [-1, blocks, width])
    block = draw_column(tf.reduce_sum(padded, axis=2), uniform[:, :1])
    within = draw_column(pick(padded, block)[:, 0], uniform[:, 1:])
    return tf.minimum(block * width + within, n - 1)
