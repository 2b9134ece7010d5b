"""WARP: candidates are tried until one violates, and the number of trials tells the rank.

Weston, Bengio & Usunier, "WSABIE: Scaling Up To Large Vocabulary Image Annotation", IJCAI
2011: the first candidate with s_j > s_p - margin is the negative; if it took n trials the
positive's rank is about floor(unobserved / n), and the loss weighs L(rank) = sum of 1/r up
to it. k-OS (Weston, Yee & Weiss, "Learning to Rank Recommendations with the K-Order
Statistic Loss", RecSys 2013) trains on the k-th best of several positives of the user.

Departures: the loss is the mixture's and not the hinge; L is divided by its largest value,
so that a mixture is not drowned; trials count candidates that are no positives, as do
LightFM's, whose weight is the logarithm of the rank instead. Under k-OS an example counts
only where its positive is the k-th best of itself and drawn others, and then as many times
as there are, shared by those that are equal: in expectation that is choosing the k-th
best, but the pairs of the batch stay what they are.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.ops.lookups import look_up, table
from autosample_tf.ops.rows import RowDraws
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.selection import check_count, check_finite, pick

_POSITIVES = 10


class WARP(Sampler):
    """The first violator among a pool's candidates, with the weight of the estimated rank.

    Args:
      pool: most trials, at least 1. An example without a violator has no negative, and counts as
        masked in the health.
      margin: by how much a positive has to lead.
      k: under k-OS, which of the user's positives is trained on, 1 being the best-scored;
        0: WARP.
      positives: of how many positives, at least k; under k-OS only.
    """

    card = Card(
        name="warp",
        formula="the first of `pool` with s_j > s_p - margin; weight L(unobserved / trials)",
        cost="`pool` look-ups and scores",
        source="Weston et al., IJCAI 2011; k-OS: Weston et al., RecSys 2013",
        defaults={
            "pool": "as dns; LightFM tries 10",
            "margin": "WSABIE",
            "k": "WARP; LightFM's k-OS has 5",
            "positives": "LightFM's k-OS",
        },
    )

    def __init__(
        self, pool: int = 32, margin: float = 1.0, k: int = 0, positives: int = _POSITIVES
    ):
        super().__init__()
        self.pool = check_count("warp", pool)
        self.margin = check_finite("warp's margin", margin)
        if not 0 <= k <= positives:
            raise expected(f"warp's k in [0, {positives}]", received=k, remedy="Change it.")
        if not k and positives != _POSITIVES:
            raise expected(
                "warp's positives with a k of at least 1",
                received=f"positives={positives} without it",
                remedy="Leave them out, or pass k.",
            )
        self.k, self.positives = k, positives
        self.needs_rows = k > 0 and positives > 1

    def build(self, feedback: Feedback, dim: int) -> None:
        train = feedback.train
        self._unobserved = table(train.num_items - train.degrees)
        harmonic = np.cumsum(1.0 / np.arange(1, train.num_items + 1))
        self._weights = tf.constant(harmonic / harmonic[-1], tf.float32)
        if self.needs_rows:
            self._rows = RowDraws(feedback.rows)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        violates = pool.scores > context.positive_scores[:, None] - self.margin
        violates &= pool.allowed
        column = tf.argmax(violates, axis=1, output_type=tf.int32)
        found = tf.reduce_any(violates, axis=1)
        tried = (tf.range(self.pool)[None, :] <= column[:, None]) & pool.allowed
        trials = tf.reduce_sum(tf.cast(tried, tf.int32), axis=1)
        rank = look_up(self._unobserved, context.users) // tf.maximum(trials, 1)
        scale = tf.gather(self._weights, tf.maximum(rank, 1) - 1)
        if self.k:
            share = self._share_of_kth(context)
            found &= share > 0
            scale *= self.positives * share
        weights = tf.cast(found, tf.float32)[:, None]
        items = pick(pool.items, column)
        return Negatives(items, weights, columns=column[:, None], scale=scale)

    def _share_of_kth(self, context: Context) -> tf.Tensor:
        """[batch]: 1/c where, of the batch's positive and the others drawn, the k-th best is
        one of c that are it or score as it does; else 0. Drawn with replacement."""
        if self.positives == 1:
            return tf.ones_like(context.positive_scores)
        uniform = context.draws.uniform(f"{self.spec}/positives", self.positives - 1)
        others, _ = self._rows.draw(context.users, uniform)
        users = context.user_embeddings[:, None, :]
        scores = tf.stop_gradient(context.score(users, context.embed_cached(others)))
        own = context.positive_scores[:, None]
        # By the item as well: its score may be summed in another order here.
        is_equal = (others == context.positives[:, None]) | (scores == own)
        better = tf.reduce_sum(tf.cast((scores > own) & ~is_equal, tf.int32), axis=1)
        equal = 1 + tf.reduce_sum(tf.cast(is_equal, tf.int32), axis=1)
        is_kth = (better < self.k) & (self.k <= better + equal)
        return tf.cast(is_kth, tf.float32) / tf.cast(equal, tf.float32)
