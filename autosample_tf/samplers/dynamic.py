"""Dynamic negative sampling: hard negatives, picked by score from a uniform pool.

Zhang et al., "Optimizing Top-N Collaborative Filtering via Dynamic Negative Item
Sampling", SIGIR 2013, takes the hardest of the pool; Shi et al., "On the Theories Behind
Hard Negative Sampling for Recommendation", WWW 2023, one of the M hardest (DNS(M, N)).
Pools are drawn with replacement, and no train positive of the user is chosen from them.
The code of Shi et al. sums the losses of all M hardest and masks nothing; here one of them
is drawn, the same in expectation but for the factor M.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.samplers.contract import Card, Context, Negatives, Sampler
from autosample_tf.samplers.selection import check_count, from_pool, one_hardest, pick


class DNS(Sampler):
    """The best-scored item of a pool.

    Args:
      pool: candidates, at least 1; more are harder and more often false negatives.
    """

    card = Card(
        name="dns",
        formula="argmax of the scores of `pool` uniform candidates",
        cost="`pool` look-ups and scores",
        source="Zhang et al., SIGIR 2013",
        defaults={"pool": "the README of AHNS's code, three of its four datasets"},
    )

    def __init__(self, pool: int = 32):
        super().__init__()
        self.pool = check_count("dns", pool)

    def sample(self, context: Context) -> Negatives:
        return one_hardest(context.pool.first(self.pool))


class DNSMN(Sampler):
    """One of the best-scored items of a pool, each of them as likely.

    Args:
      pool: candidates (the paper's N), at least 1.
      top: how many of the hardest to choose among (the paper's M), in [1, pool]: 1 is
        `dns`, `pool` is `rns`. Fewer where fewer candidates are unobserved.
    """

    card = Card(
        name="dns-mn",
        formula="one of the `top` best-scored of `pool` uniform candidates, uniformly",
        cost="`pool` look-ups and scores, a partial sort",
        source="DNS(M, N) of Shi et al., WWW 2023",
        defaults={
            "pool": "as dns; Shi et al. use 200",
            "top": "ours: between Shi et al.'s 2 of 200 and all",
        },
    )

    def __init__(self, pool: int = 32, top: int = 5):
        super().__init__()
        self.pool = check_count("dns-mn", pool)
        if not 1 <= top <= pool:
            raise expected(f"dns-mn's top in [1, {pool}]", received=top, remedy="Change it.")
        self.top = top

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        hardest = tf.math.top_k(pool.scores, self.top).indices  # [batch, top]
        allowed = tf.reduce_sum(tf.cast(pool.allowed, tf.int32), axis=1)
        choices = tf.cast(tf.minimum(allowed, self.top), tf.float32)
        rank = tf.cast(context.draws.uniform(self.spec, 1)[:, 0] * choices, tf.int32)
        column = pick(hardest, rank)[:, 0]
        return from_pool(pool, column)
