"""Negatives from the batch: other examples' positives, alone or with uniform items.

Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
RecSys 2019: the other positives of the batch come with their share of the train pairs.
Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in
Recommendations", WWW 2020 companion: uniform items beside them, so that unpopular items
are seen; an item's probability is then the mixture of both.

Train positives of the row's own user are masked, all of them; TensorFlow Recommenders'
`remove_accidental_hits` masks the row's positive only, and clips probabilities at 1e-6 in
some versions, which `log_q` here does not.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.replicas import over_replicas
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.selection import check_count, equal_weights


class InBatch(Sampler):
    """The positives of other examples of the batch, their losses averaged.

    Args:
      n: how many of the others an example is compared with, at least 1; the whole batch
        where it is smaller. Which ones changes from step to step.
    """

    card = Card(
        name="in-batch",
        formula="`n` other positives of the batch, q(j) = share of train pairs",
        cost="`n` look-ups and negatives to train on",
        source="Yi et al., RecSys 2019",
        defaults={"n": "ours: each costs a negative to train on"},
    )
    knows_log_q = True

    def __init__(self, n: int = 32):
        super().__init__()
        self.n = check_count("in-batch", n, what="n")

    def build(self, feedback: Feedback, dim: int) -> None:
        self._shares = popularity_shares(feedback)

    def sample(self, context: Context) -> Negatives:
        items, real = others_of_batch(context, self.spec, self.n)
        allowed = real & ~context.is_positive(context.users, items)
        log_q = tf.math.log(tf.gather(self._shares, items))
        return Negatives(items, equal_weights(allowed), log_q=log_q)


class MNS(Sampler):
    """Positives of other examples of the batch and uniform items, their losses averaged.

    Args:
      batch: how many of the batch's others, at least 1.
      uniform: how many uniform items beside them, at least 1.
    """

    card = Card(
        name="mns",
        formula="q(j) = (B pop_j + B' / items) / (B + B'), B = `batch`, B' = `uniform`",
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
        self._shares = popularity_shares(feedback)

    def sample(self, context: Context) -> Negatives:
        others, real = others_of_batch(context, self.spec, self.batch)
        pool = context.pool.first(self.uniform)
        items = tf.concat([others, pool.items], axis=1)
        allowed = real & ~context.is_positive(context.users, others)
        allowed = tf.concat([allowed, pool.allowed], axis=1)
        popular, num_items = others.shape[1], self._shares.shape[0]
        shares = tf.gather(self._shares, items)
        q = (popular * shares + self.uniform / num_items) / (popular + self.uniform)
        return Negatives(items, equal_weights(allowed), log_q=tf.math.log(q))


def popularity_shares(feedback: Feedback) -> tf.Tensor:
    """[num_items] float32: each item's share of the train pairs; the least float for none,
    which no batch can hold."""
    train = feedback.train
    share = train.popularity / train.num_pairs
    return tf.constant(np.maximum(share, np.finfo(np.float32).tiny), tf.float32)


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
