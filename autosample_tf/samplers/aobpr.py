"""Adaptive oversampling: a factor by its weight for the user, an item by its rank in it.

Rendle & Freudenthaler, "Improving Pairwise Learning for Item Recommendation from Implicit
Feedback", WSDM 2014. A factor f is drawn with probability proportional to
|e_uf| std_f, std_f over the items; a rank r with probability proportional to
exp(-r / mean_rank); the negative is the item of that rank in factor f, counted from the
other end where e_uf is negative. Approximates a rank-based draw without scoring anything.

The orderings are made anew every items * log2(items) examples, the paper's schedule; that the
logarithm's base is 2 is ours. Before the first step they are random permutations, as those of
random parameters would be.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from autosample_tf.samplers.contract import (
    Card,
    Context,
    Feedback,
    Negatives,
    Sampler,
    state_variable,
)
from autosample_tf.samplers.popularity import enough_tries, power_of_popularity
from autosample_tf.samplers.selection import check_above_0, draw_columns, first_allowed


class AOBPR(Sampler):
    """An item of high rank in a factor that matters to the user.

    Args:
      mean_rank: of the geometric ranks (the paper's lambda), above 0; lower is harder.
    """

    card = Card(
        name="aobpr",
        formula="q(f | u) ~ |e_uf| std_f, q(rank r) ~ exp(-r / mean_rank), item r of factor f",
        cost="1 to 8 draws and look-ups; all factors sorted every items * log2(items) examples",
        source="Rendle & Freudenthaler, WSDM 2014",
        defaults={"mean_rank": "WrapRec's and LibRec's implementations; the paper's was not seen"},
    )

    def __init__(self, mean_rank: float = 500.0):
        super().__init__()
        self.mean_rank = check_above_0("aobpr's mean_rank", mean_rank, finite=True)

    def build(self, feedback: Feedback, dim: int) -> None:
        train = feedback.train
        self._num_items = train.num_items
        # What stands high in a factor that the user likes is about as often the user's as
        # what is drawn by popularity.
        self._tries = enough_tries(
            train, train.row_sums(power_of_popularity(train.popularity, 1.0))
        )
        rng = np.random.default_rng(0)
        orders = np.tile(np.arange(self._num_items, dtype=np.int32), (dim, 1))
        self._orders = state_variable(rng.permuted(orders, axis=1), "orders")
        self._spreads = state_variable(np.ones(dim, np.float32), "spreads")
        self._are_made_up = state_variable(np.array(True), "are_made_up")

    def sample(self, context: Context) -> Negatives:
        users = tf.stop_gradient(context.user_embeddings)
        uniform = context.draws.uniform(f"{self.spec}/factor", self._tries)
        factors = draw_columns(tf.abs(users) * self._spreads, uniform)  # [batch, tries]
        ranks = self._draw_ranks(context)
        reversed_ = tf.gather(users, factors, batch_dims=1) < 0
        places = tf.where(reversed_, self._num_items - 1 - ranks, ranks)
        flat = tf.cast(factors, tf.int64) * self._num_items + tf.cast(places, tf.int64)
        items = tf.gather(tf.reshape(self._orders, [-1]), flat)  # XLA has no `gather_nd` of these
        items = tf.cast(items, tf.int32)
        return first_allowed(items, ~context.is_positive(context.users, items))

    def update(self, context: Context, negatives: Negatives) -> None:
        rows = context.draws.global_batch_size
        every = max(1, round(self._num_items * math.log2(self._num_items) / rows))

        def renew() -> tf.Tensor:
            factors = tf.transpose(
                context.embed_cached(tf.range(self._num_items))
            )  # [dim, num_items]
            orders = tf.argsort(factors, direction="DESCENDING", stable=True)
            self._orders.assign(tf.cast(orders, self._orders.dtype))
            self._spreads.assign(tf.math.reduce_std(factors, axis=1))
            self._are_made_up.assign(False)
            return tf.constant(True)

        # What has only just begun, as a branch has, need not wait with random orders.
        is_due = (context.draws.step % every == 0) | self._are_made_up
        tf.cond(is_due, renew, lambda: tf.constant(False))

    def _draw_ranks(self, context: Context) -> tf.Tensor:
        """[batch, tries] int32 in [0, num_items), geometric: the inverse of their sums."""
        uniform = context.draws.uniform(f"{self.spec}/rank", self._tries)
        within = -math.expm1(-self._num_items / self.mean_rank)
        ranks = -self.mean_rank * tf.math.log1p(-uniform * within)
        return tf.minimum(tf.cast(ranks, tf.int32), self._num_items - 1)
