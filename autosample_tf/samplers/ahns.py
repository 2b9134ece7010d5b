"""Adaptive hardness negative sampling: the better a positive fits, the easier its negative.

Lai et al., "Adaptive Hardness Negative Sampling for Collaborative Filtering", AAAI 2024:
of a pool the item whose score is nearest to beta (s_p + alpha)^(p + 1), with p < 0.

The authors' code leaves s_p + alpha as it is: at 0 the target is infinite and below 0 it
turns negative, the easiest negatives for the worst positives; here it is kept above 0,
and the worst positives have the hardest negatives.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.contract import Card, Context, Negatives, Sampler
from autosample_tf.samplers.selection import best_of, check_above_0, check_count, check_finite

_SMALLEST = 1e-6  # of s_p + alpha


class AHNS(Sampler):
    """The item of a pool whose score is nearest to beta * (s_p + alpha)^(p + 1).

    Args:
      pool: candidates, at least 1.
      alpha: added to the positive's score.
      beta: height of the target, above 0; towards infinity it is `dns`.
      p: how the target falls with the positive's score; under -1 it falls.
    """

    card = Card(
        name="ahns",
        formula="argmin over `pool` candidates of |s_j - beta (s_p + alpha)^(p + 1)|",
        cost="`pool` look-ups and scores",
        source="Lai et al., AAAI 2024",
        defaults={
            "pool": "the README of the authors' code, three of its four datasets",
            "alpha": "likewise, two of four",
            "beta": "likewise, three of four",
            "p": "the authors' code",
        },
    )

    def __init__(self, pool: int = 32, alpha: float = 1.0, beta: float = 0.1, p: float = -2.0):
        super().__init__()
        self.pool = check_count("ahns", pool)
        self.alpha, self.p = check_finite("ahns's alpha", alpha), check_finite("ahns's p", p)
        self.beta = check_above_0("ahns's beta", beta)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        fit = tf.maximum(context.positive_scores + self.alpha, _SMALLEST)
        target = self.beta * tf.pow(fit, self.p + 1.0)
        # To a target above all scores the best one is nearest. Far above them differences
        # would be lost in rounding, and an infinite one is as far from masked candidates.
        target = tf.minimum(target, tf.reduce_max(pool.scores, axis=1))
        return best_of(pool, -tf.abs(pool.scores - target[:, None]))
