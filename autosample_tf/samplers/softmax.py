"""Pools weighed by a softmax: one item drawn, or all of them used.

Lian, Liu & Chen, "Personalized Ranking with Importance Sampling", WWW 2020: negatives
proportional to exp(score). Shi et al., "On the Theories Behind Hard Negative Sampling for
Recommendation", WWW 2023: the temperature tied to the losses' variance, which makes the
mean a bound of the one-way partial AUC. Sun et al., "RotatE", ICLR 2019: self-adversarial
negatives. Weights never have a gradient, as in the authors' code of the last two.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Pool, Sampler
from autosample_tf.samplers.selection import (
    check_above_0,
    check_at_least_0,
    check_count,
    draw_column,
    equal_weights,
    from_pool,
    log_of_pool,
    log_share,
    log_unobserved,
    softmax_weights,
    whole_pool,
)


class SoftmaxDNS(Sampler):
    """An item of a pool, drawn in proportion to exp(score / temperature).

    The form with the temperature tied to the losses' variance is `softmax-v`.

    Args:
      pool: candidates, at least 1.
      temperature: above 0; towards 0 it is `dns`, towards infinity `rns`.
      relative: temperature in units of the standard deviation of the pool's scores, so
        that it means the same at every scale of a model's scores; otherwise of the score.
    """

    card = Card(
        name="softmax-dns",
        formula="one of `pool` uniform candidates, q(j) ~ exp(s_j / temperature)",
        cost="`pool` look-ups and scores",
        source="Lian et al., WWW 2020, and Shi et al., WWW 2023, over a pool",
        defaults={
            "pool": "as dns",
            "temperature": "Lian et al.'s softmax has none, which is 1",
            "relative": "Lian et al.",
        },
    )
    knows_log_q = True

    def __init__(self, pool: int = 32, temperature: float = 1.0, relative: bool = False):
        super().__init__()
        self.pool = check_count("softmax-dns", pool)
        self.temperature = check_above_0("softmax-dns's temperature", temperature)
        self.relative = relative

    def build(self, feedback: Feedback, dim: int) -> None:
        self._log_unobserved = log_unobserved(feedback.train)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        gaps = pool.scores - tf.reduce_max(pool.scores, axis=1, keepdims=True)  # at most 0
        if self.relative:
            gaps = tf.where(pool.allowed, gaps, 0.0)  # divided, a masked one might be infinite
            gaps = tf.math.divide_no_nan(gaps, spread_of_allowed(pool.scores, pool))
        shares = tf.exp(gaps / self.temperature) * tf.cast(pool.allowed, tf.float32)
        column = draw_column(shares, context.draws.uniform(self.spec, 1))
        of_pool = log_of_pool(pool, tf.gather(self._log_unobserved, context.users))
        return from_pool(pool, column, log_share(shares, column) + of_pool)


class SoftmaxV(Sampler):
    """All of a pool, weighed by exp(loss / temperature), temperature = sqrt(Var(loss) / 2 rho).

    The temperature follows the spread of the losses in each pool. Variance is that of the
    pool's unobserved items (divided by their number; the authors' code divides by one less
    and masks nothing). Where all losses are equal, so are the weights.

    Args:
      pool: candidates, at least 2.
      rho: radius of the divergence ball, above 0; towards 0 all weigh alike.
    """

    card = Card(
        name="softmax-v",
        formula="w_j ~ exp(l_j / t), t = sqrt(Var_j(l) / (2 rho)), over `pool` candidates",
        cost="`pool` look-ups and scores",
        source="Softmax-v of Shi et al., WWW 2023",
        defaults={"pool": "as dns; Shi et al. use 200", "rho": "the README of Shi et al.'s code"},
    )

    def __init__(self, pool: int = 32, rho: float = 1.0):
        super().__init__()
        self.pool = check_count("softmax-v", pool, at_least=2)
        self.rho = check_above_0("softmax-v's rho", rho, finite=True)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        losses = context.loss(context.positive_scores, pool.scores)
        temperature = spread_of_allowed(losses, pool) / (2.0 * self.rho) ** 0.5
        gaps = losses - tf.reduce_max(losses, axis=1, keepdims=True)  # keeps small differences
        logits = tf.math.divide_no_nan(gaps, temperature)
        return whole_pool(pool, softmax_weights(logits, pool.allowed))


class SelfAdversarial(Sampler):
    """All of a pool, weighed by softmax(alpha * score).

    Args:
      pool: candidates, at least 1.
      alpha: at least 0: 0 weighs all alike, more leans to the best-scored.
    """

    card = Card(
        name="self-adversarial",
        formula="w_j ~ exp(alpha s_j) over `pool` uniform candidates",
        cost="`pool` look-ups and scores",
        source="self-adversarial negatives of Sun et al., RotatE, ICLR 2019",
        defaults={"pool": "as dns", "alpha": "RotatE's code, most of its settings"},
    )

    def __init__(self, pool: int = 32, alpha: float = 1.0):
        super().__init__()
        self.pool = check_count("self-adversarial", pool)
        self.alpha = check_at_least_0("self-adversarial's alpha", alpha)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        gaps = pool.scores - tf.reduce_max(pool.scores, axis=1, keepdims=True)  # at most 0
        return whole_pool(pool, softmax_weights(self.alpha * gaps, pool.allowed))


def spread_of_allowed(values: tf.Tensor, pool: Pool) -> tf.Tensor:
    """[batch, 1]: standard deviation of a row's values [batch, n] where allowed; else 0."""
    shares = equal_weights(pool.allowed)
    values = tf.where(pool.allowed, values, 0.0)
    mean = tf.reduce_sum(shares * values, axis=1, keepdims=True)
    return tf.sqrt(tf.reduce_sum(shares * tf.square(values - mean), axis=1, keepdims=True))
