"""KBGAN: a generator learns which candidates of a pool the model finds hard.

Cai & Wang, "KBGAN: Adversarial Learning for Knowledge Graph Embeddings", NAACL 2018. The
generator's softmax over a pool of uniform candidates draws the negative. Its reward R is
the model's score of the item drawn, and the generator descends on

    -(R - b) log p(drawn),

b being a mean of rewards, which changes no expectation and calms the gradient.

Written for triples: the authors' generator is DistMult or ComplEx, pretrained, their model
TransE or TransD, and R minus the distance; here it is a matrix factorization that begins
at random. Their b is the mean reward of the epoch before, 0 in the first; here it follows
the steps' means. They sum over the batch, which under their Adam is the same as the mean
here, decay the generator's weights, and leave known positives among the candidates.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.ops.replicas import over_replicas
from autosample_tf.samplers.contract import (
    LOWEST,
    Card,
    Context,
    Feedback,
    Negatives,
    Pool,
    Sampler,
    state_variable,
)
from autosample_tf.samplers.generator import Generator, reinforce
from autosample_tf.samplers.selection import (
    auxiliary_mean,
    check_count,
    draw_column,
    from_pool,
    log_of_pool,
    log_unobserved,
    pick,
    softmax_weights,
)


class KBGAN(Sampler):
    """An item of a pool, drawn by a generator that is rewarded with the item's score.

    Args:
      pool: candidates, at least 1.
      dim: entries of the generator's vectors, at least 1.
      rate: by which share of the difference the baseline moves to a step's mean reward, in
        (0, 1]; lower is calmer and later.
    """

    card = Card(
        name="kbgan",
        formula="q(j) ~ exp(g_uj) over `pool` uniform candidates, g rewarded with s_j",
        cost="`pool` look-ups in the generator's tables, and their training",
        source="Cai & Wang, NAACL 2018",
        defaults={
            "pool": "as dns; Cai & Wang use 20",
            "dim": "ours: half the model's; Cai & Wang's is as wide as the model",
            "rate": "ours: about a hundred steps; Cai & Wang use the epoch before",
        },
    )
    knows_log_q = True

    def __init__(self, pool: int = 32, dim: int = 32, rate: float = 0.01):
        super().__init__()
        self.pool = check_count("kbgan", pool)
        self.dim = check_count("kbgan", dim, what="dim")
        if not 0 < rate <= 1:
            raise expected("kbgan's rate in (0, 1]", received=rate, remedy="Change it.")
        self.rate = float(rate)

    def build(self, feedback: Feedback, dim: int) -> None:
        self._log_unobserved = log_unobserved(feedback.train)
        self._generator = Generator(feedback.train, self.dim)
        self._baseline = state_variable(np.float32(0.0), "baseline")

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(self.pool)
        logits = self._generator.logits(context.users, pool.items)
        logits = tf.where(pool.allowed, logits, LOWEST)
        shares = softmax_weights(logits, pool.allowed)
        column = draw_column(shares, context.draws.uniform(self.spec, 1))
        log_probability = pick(tf.nn.log_softmax(logits, axis=1), column)[:, 0]
        of_pool = log_of_pool(pool, tf.gather(self._log_unobserved, context.users))
        drawn = from_pool(pool, column, tf.stop_gradient(log_probability)[:, None] + of_pool)
        rewards, is_one = rewards_of(pool, drawn)
        losses = reinforce(log_probability, rewards - self._baseline)
        auxiliary = auxiliary_mean(context, losses, is_one)
        return dataclasses.replace(drawn, auxiliary_loss=auxiliary)

    def update(self, context: Context, negatives: Negatives) -> None:
        rewards, is_one = rewards_of(context.pool, negatives)
        counts = over_replicas(context.example_weight * is_one)
        total = tf.reduce_sum(counts * over_replicas(rewards))
        mean = tf.math.divide_no_nan(total, tf.reduce_sum(counts))
        rate = tf.where(tf.reduce_any(counts > 0), self.rate, 0.0)
        self._baseline.assign(self._baseline + rate * (mean - self._baseline))


def rewards_of(pool: Pool, drawn: Negatives) -> tuple[tf.Tensor, tf.Tensor]:
    """The scores of what was drawn from the pool, and whether it is a negative: both [batch]
    float32, 0 where it is not."""
    is_one = drawn.weights[:, 0]
    scores = pick(pool.scores, drawn.columns[:, 0])[:, 0]
    return tf.where(is_one > 0, scores, 0.0), is_one
