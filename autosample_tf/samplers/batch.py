"""Negatives from the batch: other examples' positives, alone or with uniform items.

Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
RecSys 2019: the other positives of the batch come with their share of the train pairs.
Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in
Recommendations", WWW 2020 companion: uniform items beside them, so that unpopular items
are seen; an item's probability is then the mixture of both.

Train positives of the row's own user are masked, all of them, and probabilities are those of
the items that are left: Yi et al. and Yang et al. mask nothing, and TensorFlow Recommenders'
`remove_accidental_hits` the row's positive only, which leaves a user with many pairs too large
a sum. It clips probabilities at 1e-6 in some versions, which `log_q` here does not.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Pairs
from autosample_tf.ops.replicas import over_replicas
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.popularity import UnobservedShares, power_of_popularity
from autosample_tf.samplers.selection import check_count, equal_weights, log_unobserved


class InBatch(Sampler):
    """The positives of other examples of the batch, their losses averaged.

    Args:
      n: how many of the others an example is compared with, at least 1; the whole batch
        where it is smaller. Which ones changes from step to step.
    """

    card = Card(
        name="in-batch",
        formula="`n` other positives of the batch, q(j | u) ~ pop_j over the unobserved",
        cost="`n` look-ups and negatives to train on",
        source="Yi et al., RecSys 2019",
        defaults={"n": "ours: each costs a negative to train on"},
    )
    knows_log_q = True

    def __init__(self, n: int = 32):
        super().__init__()
        self.n = check_count("in-batch", n, what="n")

    def build(self, feedback: Feedback, dim: int) -> None:
        self._shares = shares_of_pairs(feedback.train)

    def sample(self, context: Context) -> Negatives:
        items, real = others_of_batch(context, self.spec, self.n)
        allowed = real & ~context.is_positive(context.users, items)
        log_q = self._shares.log_of(context.users, items)
        return Negatives(items, equal_weights(allowed), log_q=log_q)


class MNS(Sampler):
    """Positives of other examples of the batch and uniform items, their losses averaged.

    In its q, B and B' count those of the two that are not masked, pop_j is an item's share of
    the train pairs of the user's unobserved items, of which there are `items`.

    Args:
      batch: how many of the batch's others, at least 1.
      uniform: how many uniform items beside them, at least 1.
    """

    card = Card(
        name="mns",
        formula="q(j | u) = (B pop_j + B' / items) / (B + B'), of the unobserved and unmasked",
        cost="`batch` + `uniform` look-ups and negatives to train on",
        source="Yang et al., WWW 2020 companion",
        defaults={"batch": "ours", "uniform": "ours: as many as from the batch"},
    )
    knows_log_q = True

    def __init__(self, batch: int = 16, uniform: int = 16):
        super().__init__()
        self.batch = check_count("mns", batch, what="batch")
        self.uniform = self.pool = check_count("mns", uniform, what="uniform")

    def build(self, feedback: Feedback, dim: int) -> None:
        self._shares = shares_of_pairs(feedback.train)
        self._log_unobserved = log_unobserved(feedback.train)

    def sample(self, context: Context) -> Negatives:
        others, real = others_of_batch(context, self.spec, self.batch)
        pool = context.pool.first(self.uniform)
        items = tf.concat([others, pool.items], axis=1)
        from_batch = real & ~context.is_positive(context.users, others)
        allowed = tf.concat([from_batch, pool.allowed], axis=1)
        popular, uniform = (
            tf.reduce_sum(tf.cast(which, tf.float32), axis=1, keepdims=True)
            for which in (from_batch, pool.allowed)
        )
        of_uniform = tf.exp(-tf.gather(self._log_unobserved, context.users))[:, None]
        of_popular = tf.exp(self._shares.log_of(context.users, items))
        sums = popular * of_popular + uniform * of_uniform
        q = tf.math.divide_no_nan(sums, popular + uniform)
        return Negatives(
            items,
            equal_weights(allowed),
            log_q=tf.math.log(tf.maximum(q, np.finfo(np.float32).tiny)),
        )


def shares_of_pairs(train: Pairs) -> UnobservedShares:
    """How likely the positive of another example is which item that its user has not seen."""
    return UnobservedShares(train, power_of_popularity(train.popularity, 1.0))


def others_of_batch(context: Context, stream: str, n: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Positives of n other rows of the global batch, the batch's order being random.

    Args:
      context: the step.
      stream: of the random shift from a row to the first of its others.
      n: how many; fewer in a smaller batch.

    Returns:
      items [batch, n] int32, and [batch, n] bool: false for rows of padding.
    """
    positives, weights = (over_replicas(x) for x in (context.positives, context.example_weight))
    rows = context.draws.global_batch_size
    n = min(n, rows - 1)
    own = tf.cast(context.draws.positions % rows, tf.int32)
    shift = context.draws.shared_integers(stream, 1, max(rows - 1, 1))
    distance = (shift + tf.range(n)) % max(rows - 1, 1) + 1  # [n], from 1 to rows - 1
    places = (own[:, None] + distance[None, :]) % rows
    return tf.gather(positives, places), tf.gather(weights, places) > 0
