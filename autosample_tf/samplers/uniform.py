"""Random negative sampling: every unobserved item of the user is as likely.

Rendle et al., "BPR", UAI 2009 (section 4: bootstrap sampling of triples with a uniform
negative). Two ways to the same law. The exact one rejects nothing: it draws a rank among
the unobserved items and finds the item of that rank by binary search in the user's
positives. Where other samplers have made the step a pool, its candidates are uniform draws
that cost nothing more: the negative is one of those that is no positive. Rows that share
their candidates look at different ones first.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.ops.lookups import look_up, table
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Pool, Sampler
from autosample_tf.samplers.selection import first_column, from_pool, log_unobserved, pick

# Candidates that an example may use up on positives: a user with half of the catalogue is
# left without a negative in one step of 10^9.
_ENOUGH = 32


class RNS(Sampler):
    """Uniform over the user's unobserved items.

    Args:
      exact: draw by rank even where the step has a pool of at least 32 candidates, so that
        no two examples share a draw.
    """

    card = Card(
        name="rns",
        formula="q(j | u) = 1 / |unobserved by u|",
        cost="none beside samplers with a pool; else log2(most positives of a user) look-ups",
        source="Rendle et al., BPR, UAI 2009",
        defaults={"exact": "ours: the same law at less cost"},
    )
    knows_log_q = True

    def __init__(self, exact: bool = False):
        super().__init__()
        self.exact = self.needs_rows = exact

    def build(self, feedback: Feedback, dim: int) -> None:
        train = feedback.train
        self._counts = table(train.num_items - train.degrees)
        self._log_unobserved = log_unobserved(train)
        if self.exact or isinstance(train, Interactions):
            self._unobserved = Unobserved(feedback.rows)
        else:
            self.pool = _ENOUGH  # draws by rank look up users' rows

    def sample(self, context: Context) -> Negatives:
        log_q = -tf.gather(self._log_unobserved, context.users)[:, None]
        if not self.exact and context.pool.items.shape[1] >= _ENOUGH:
            return from_pool(context.pool, _any_allowed(context.pool, context), log_q)
        counts = look_up(self._counts, context.users)
        uniform = context.draws.uniform(self.spec, 1, dtype=tf.float64)[:, 0]
        ranks = tf.cast(uniform * tf.cast(counts, tf.float64), tf.int32)
        items = self._unobserved.item_of_rank(context.users, ranks)[:, None]
        return Negatives(items, tf.cast(counts > 0, tf.float32)[:, None], log_q=log_q)


def _any_allowed(pool: Pool, context: Context) -> tf.Tensor:
    """[batch] int32: the row's own column if it is allowed, else the first that is; or 0.

    Candidates are independent uniform draws, so in whatever order they are looked at, the
    first that is allowed is uniform over the unobserved items.
    """
    own = tf.cast(context.draws.positions % pool.items.shape[1], tf.int32)
    return tf.where(pick(pool.allowed, own)[:, 0], own, first_column(pool.allowed))


class Unobserved:
    """Each user's unobserved items in ascending order, without storing them."""

    def __init__(self, train: Interactions):
        self._offsets = tf.constant(train.offsets)
        self._positives = table(np.append(train.items, np.int32(0)))  # never empty
        self._num_items = train.num_items
        self._halvings = int(train.degrees.max(initial=0)).bit_length()

    def item_of_rank(self, users: tf.Tensor, ranks: tf.Tensor) -> tf.Tensor:
        """The unobserved item with `ranks` unobserved ones before it.

        Item p_k, the user's k-th positive from 0, has p_k - k unobserved items before it,
        which never falls in k: the number m of positives with p_k - k <= rank is found by
        bisection, and the item is rank + m.

        Args:
          users: [batch] int32.
          ranks: [batch] int32 in [0, how many the user has).

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
            is_below = look_up(self._positives, place) - middle <= ranks
            low, high = (
                tf.where((low < high) & is_below, middle + 1, low),
                tf.where((low < high) & ~is_below, middle, high),
            )
        return tf.minimum(ranks + low, self._num_items - 1)
