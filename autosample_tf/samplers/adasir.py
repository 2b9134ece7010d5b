"""AdaSIR: a pool for each user, resampled by importance from uniform proposals.

Chen et al., "Learning Recommenders for Implicit Feedback with Importance Resampling", WWW
2022. Proposals from q are weighed by w = softmax(s - log q) and resampled by w with
replacement, which gives items distributed nearly as exp(s) over the whole catalogue. They
join the user's pool, in which each place is an old or a new item with probability 1/2, so
that the pool remembers proposals of earlier times. Negatives are uniform draws from it.
Since q is uniform here, log q is the same for all and leaves w.

The authors renew the pools of all users once an epoch, and mask no positives; here those
of the batch's users are renewed after each step, more often for active users, and train
positives are never in a pool. They draw each place with replacement from old and new
together, where the same item may come again; here a place keeps its item or gets a new one.
Their first pools are resampled, here uniform. Several of their samplers also weigh the
negatives' losses; this is the one that doesn't, as resampled items are distributed right.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.caches import NOTHING, initial_cache, read_rows, write_rows
from autosample_tf.samplers.contract import (
    Card,
    Context,
    Feedback,
    Negatives,
    Sampler,
    state_variable,
)
from autosample_tf.samplers.selection import (
    check_count,
    draw_columns,
    equal_weights,
    softmax_weights,
)


class AdaSIR(Sampler):
    """Items of the user's pool, uniformly, their losses averaged.

    Args:
      pool: proposals at a step, at least 1; more are nearer to exp(score).
      resample: items of a user's own pool, at least 1; more remember more.
      n: negatives an example, at least 1; each costs one to train on.
    """

    card = Card(
        name="adasir",
        formula="`n` of the user's pool; the pool: half kept, half resampled with q(j) ~ exp(s_j)",
        cost="`pool` look-ups and scores, `n` negatives, num_users * `resample` integers",
        source="Chen et al., WWW 2022",
        defaults={
            "pool": "as dns: one shared pool; Chen et al.'s code has 200, once an epoch",
            "resample": "ours: a quarter of the proposals, as Chen et al.'s 50 of 200",
            "n": "Chen et al.'s code",
        },
    )
    needs_rows = True

    def __init__(self, pool: int = 32, resample: int = 8, n: int = 5):
        super().__init__()
        self.pool = check_count("adasir", pool)
        self.resample = check_count("adasir", resample, what="resample")
        self.n = check_count("adasir", n, what="n")

    def build(self, feedback: Feedback, dim: int) -> None:
        self._pools = state_variable(initial_cache(feedback.rows, self.resample), "pools")

    def sample(self, context: Context) -> Negatives:
        place = context.draws.integers(self.spec, self.n, self.resample)
        items = tf.gather(read_rows(context, self._pools), place, batch_dims=1)
        return Negatives(tf.maximum(items, 0), equal_weights(items != NOTHING))

    def update(self, context: Context, negatives: Negatives) -> None:
        pool, old = context.pool.first(self.pool), read_rows(context, self._pools)
        shares = softmax_weights(pool.scores, pool.allowed)
        uniform = context.draws.uniform(f"{self.spec}/resample", self.resample)
        new = tf.gather(pool.items, draw_columns(shares, uniform), batch_dims=1)
        is_replaced = context.draws.integers(f"{self.spec}/merge", self.resample, 2) == 1
        is_replaced &= tf.reduce_any(pool.allowed, axis=1, keepdims=True)
        write_rows(context, (self._pools, tf.where(is_replaced, new, old)))
