"""Random members of users' rows, in the graph."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.ops.lookups import look_up, table


class RowDraws:
    """Draws among each user's items of some pairs, uniformly and with replacement."""

    def __init__(self, pairs: Interactions):
        self._first = tf.constant(pairs.offsets[:-1])
        self._degrees = tf.constant(pairs.degrees.astype(np.float32))
        self._items = table(np.append(pairs.items, np.int32(0)))  # never empty

    def draw(self, users: tf.Tensor, uniform: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Items of the users' own rows.

        Args:
          users: [batch] int32.
          uniform: [batch, n] in [0, 1).

        Returns:
          items [batch, n] int32, and [batch, 1] bool: whether the user has any (else the
          items mean nothing).
        """
        degrees = tf.gather(self._degrees, users)[:, None]
        # Of a degree above 2^24 the product can round up to it, the next user's first place.
        place = tf.minimum(tf.floor(uniform * degrees), tf.maximum(degrees - 1.0, 0.0))
        index = tf.gather(self._first, users)[:, None] + tf.cast(place, tf.int64)
        return look_up(self._items, index), degrees > 0
