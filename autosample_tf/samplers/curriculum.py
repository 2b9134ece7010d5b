"""Curriculum negative sampling: dynamic sampling whose pool changes as training goes on.

The curriculum baseline in the code of AHNS (Lai et al., AAAI 2024): the hardest of a
prefix of the pool, which shrinks linearly from the whole pool to one candidate, from hard
to easy. Progress there is that of the epochs configured; here of the stage's steps, or of
`AutoSample`'s `total_steps`, without which there is none.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.contract import LOWEST, Card, Context, Negatives, Pool, Sampler
from autosample_tf.samplers.selection import check_count, one_hardest


class Curriculum(Sampler):
    """The best-scored of the first (1 - progress) * pool candidates.

    Args:
      pool: candidates at the hard end, at least 1.
      rising: from easy to hard instead: the first progress * pool candidates.
    """

    card = Card(
        name="curriculum",
        formula="argmax of the scores of the first max(1, (1 - progress) pool) candidates",
        cost="`pool` look-ups and scores",
        source="the curriculum baseline in the code of Lai et al., AHNS, AAAI 2024",
        defaults={"pool": "AHNS's code", "rising": "AHNS's code: hard to easy"},
    )

    follows_progress = True

    def __init__(self, pool: int = 32, rising: bool = False):
        super().__init__()
        self.pool = check_count("curriculum", pool)
        self.rising = rising

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        share = context.progress if self.rising else 1.0 - context.progress
        width = tf.maximum(1, tf.cast(share * self.pool, tf.int32))
        allowed = pool.allowed & (tf.range(self.pool) < width)[None, :]
        return one_hardest(Pool(pool.items, allowed, tf.where(allowed, pool.scores, LOWEST)))
