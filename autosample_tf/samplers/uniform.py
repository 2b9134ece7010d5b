"""Random negative sampling: every unobserved item of the user is as likely.

Rendle et al., "BPR", UAI 2009 (section 4: bootstrap sampling of triples with a uniform
negative). Two forms of the same law. The exact one rejects nothing: it draws a rank among
the unobserved items and finds the item of that rank by binary search in the user's
positives. The pooled one takes the first of the step's shared candidates that is no
positive, which is uniform over the unobserved items, too; once in a while all are positives,
and rows of a block then mostly have the same negative.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.selection import first_column, from_pool

# Candidates an example may use up on positives: a user with a tenth of the catalogue is
# left without a negative in one step of 10^8.
_POOL = 8


class RNS(Sampler):
    """Uniform over the user's unobserved items.

    Args:
      pooled: take the first of 8 shared candidates that is no positive, instead of an item
        by its rank: nothing to look up where other samplers have a pool anyway, but less
        varied.
    """

    card = Card(
        name="rns",
        formula="q(j | u) = 1 / |unobserved by u|",
        cost="log2(most positives of a user) look-ups; pooled: 8",
        source="Rendle et al., BPR, UAI 2009",
        defaults={"pooled": "ours: more varied"},
    )

    def __init__(self, pooled: bool = False):
        super().__init__()
        self.pooled = pooled
        self.pool = _POOL if pooled else 0

    def build(self, feedback: Feedback, dim: int) -> None:
        self._unobserved = Unobserved(feedback.train)

    def sample(self, context: Context) -> Negatives:
        counts = tf.gather(self._unobserved.counts, context.users)
        log_q = -tf.math.log(tf.cast(tf.maximum(counts, 1), tf.float32))[:, None]
        if self.pooled:
            pool = context.pool.first(_POOL)
            return from_pool(pool, first_column(pool.allowed), log_q)
        uniform = context.draws.uniform(self.spec, 1, dtype=tf.float64)[:, 0]
        ranks = tf.cast(uniform * tf.cast(counts, tf.float64), tf.int32)
        items = self._unobserved.item_of_rank(context.users, ranks)[:, None]
        return Negatives(items, tf.cast(counts > 0, tf.float32)[:, None], log_q=log_q)


class Unobserved:
    """Each user's unobserved items in ascending order, without storing them.

    Attributes:
      counts: [num_users] int32, how many items each user has not.
    """

    def __init__(self, train: Interactions):
        self._offsets = tf.constant(train.offsets)
        self._positives = tf.constant(np.append(train.items, np.int32(0)))  # never empty
        self._num_items = train.num_items
        self._halvings = int(train.degrees.max(initial=0)).bit_length()
        self.counts = tf.constant(train.num_items - train.degrees, tf.int32)

    def item_of_rank(self, users: tf.Tensor, ranks: tf.Tensor) -> tf.Tensor:
        """The unobserved item with `ranks` unobserved ones before it.

        Item p_k, the user's k-th positive from 0, has p_k - k unobserved items before it,
        which never falls in k: the number m of positives with p_k - k <= rank is found by
        bisection, and the item is rank + m.

        Args:
          users: [batch] int32.
          ranks: [batch] int32 in [0, counts of the user).

        Returns:
          [batch] int32; of a user without unobserved items any item.
        """
        first = tf.gather(self._offsets, users)
        low = tf.zeros_like(users)
        high = tf.cast(tf.gather(self._offsets, users + 1) - first, tf.int32)
        last = self._positives.shape[0] - 1
        for _ in range(self._halvings):
            middle = (low + high) // 2
            place = tf.minimum(first + tf.cast(middle, tf.int64), last)
            is_below = tf.gather(self._positives, place) - middle <= ranks
            low, high = (
                tf.where((low < high) & is_below, middle + 1, low),
                tf.where((low < high) & ~is_below, middle, high),
            )
        return tf.minimum(ranks + low, self._num_items - 1)
