"""Bayesian negative sampling: the candidate of the least risk of being a false negative.

Liu & Wang, "Bayesian Negative Sampling for Recommendation", ICDE 2023. A candidate l is
informative as sigma(s_l - s_p); that it is a true negative has the posterior

    unbias(l) = (1 - F)(1 - p) / ((1 - F)(1 - p) + F p),

F its place in the distribution of scores, p the prior that it is a positive, its share of
the train pairs. The pick minimizes info(l) (1 - (1 + weight) unbias(l)).

The authors' code takes F over all of the user's unobserved items (in its MF) or all items
(in its LightGCN); here, as scoring the catalogue each step would cost more than training,
over the pool: F = (number below) / (number allowed in the pool + 1).
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Pool, Sampler
from autosample_tf.samplers.selection import best_of, check_above_0, check_at_least_0, check_count


class BNS(Sampler):
    """The candidate of a pool that minimizes the Bayesian risk.

    Args:
      pool: candidates, at least 1.
      weight: of being informative against being a true negative (the paper's lambda),
        above 0; more is closer to `dns`.
      prior: factor on the popularity prior, at least 0; 0 is `dns`, but where candidates lead the
        positive by so much, some 17, that sigma is 1 for several: the first of these is taken then.
    """

    card = Card(
        name="bns",
        formula="argmin over `pool` candidates of info (1 - (1 + weight) unbias)",
        cost="`pool` look-ups, scores and comparisons of each with each",
        source="Liu & Wang, ICDE 2023",
        defaults={
            "pool": "the authors' code",
            "weight": "the authors' code",
            "prior": "the authors' code",
        },
    )

    def __init__(self, pool: int = 5, weight: float = 5.0, prior: float = 1.0):
        super().__init__()
        self.pool = check_count("bns", pool)
        self.weight = check_above_0("bns's weight", weight, finite=True)
        self.prior = check_at_least_0("bns's prior", prior)

    def build(self, feedback: Feedback, dim: int) -> None:
        train = feedback.train
        share = self.prior * train.popularity / train.num_pairs
        self._priors = tf.constant(share.clip(0.0, 1.0), tf.float32)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        information = tf.sigmoid(pool.scores - context.positive_scores[:, None])
        unbias = true_negative_posterior(below(pool), tf.gather(self._priors, pool.items))
        return best_of(pool, information * ((1.0 + self.weight) * unbias - 1.0))


def below(pool: Pool) -> tf.Tensor:
    """[batch, n] in [0, 1): the share of a row's allowed candidates that score lower."""
    lower = pool.scores[:, None, :] < pool.scores[:, :, None]  # [batch, n, n]
    lower &= pool.allowed[:, None, :]
    count = tf.reduce_sum(tf.cast(pool.allowed, tf.float32), axis=1, keepdims=True)
    return tf.reduce_sum(tf.cast(lower, tf.float32), axis=2) / (count + 1.0)


def true_negative_posterior(cumulative: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
    """The paper's unbias: that a candidate is no positive, given its place and prior.

    Args:
      cumulative: F in [0, 1).
      prior: p in [0, 1], of the same shape.

    Returns:
      In [0, 1]; of F = 0 and p = 1, where it is 0 / 0, it is 0.
    """
    negative = (1.0 - cumulative) * (1.0 - prior)
    return tf.math.divide_no_nan(negative, negative + cumulative * prior)
