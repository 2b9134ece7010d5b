"""SRNS: hard items whose likelihood varies, for false negatives are hard and steady.

Ding et al., "Simplify and Robustify Negative Sampling for Implicit Collaborative
Filtering", NeurIPS 2020. Each user has a memory of items; the negative is its

    argmax_k  P(k) + alpha_t std(P(k)),     P(k) = sigma(s_k - s_p),

with alpha_t = alpha min(1, t / warmup), and std over the scores of some earlier times. The
memory is then joined by random items, and as many as it holds are kept, drawn without
replacement in proportion to exp(s / tau).

A lighter form than the authors'. Their code for real data scores 3,000 fixed candidates of
every user after every epoch, remembers places among these, and takes std over five epochs;
since the candidates behind the places are exchanged each epoch, its memory does not outlive
one. Their code for synthetic data keeps items and scores the whole catalogue after each
epoch. Here the memory keeps items, and an item's last `ring` scores are those of the steps
at which its user was in the batch since it came; the positive's score is the present one.
An item's std is 0 until it has been seen twice: with the authors' tau, which renews evenly,
and 8 random items to each remembered, one in nine stays for a second time, and the sampler
is near `dns` with a pool of `memory`. Fewer `random` or a lower `tau` make more of the
variance. The warm-up is a share of the training instead of epochs; of `AutoSample` without
`total_steps` it never ends.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from autosample_tf.samplers.caches import (
    NOTHING,
    initial_cache,
    read_rows,
    renewed,
    scores_of,
    write_rows,
)
from autosample_tf.samplers.contract import (
    Card,
    Context,
    Feedback,
    Negatives,
    Pool,
    Sampler,
    state_variable,
)
from autosample_tf.samplers.selection import (
    best_of,
    check_above_0,
    check_at_least_0,
    check_count,
    check_share,
    warmed_up,
)


class SRNS(Sampler):
    """The item of the user's memory that is likely to be preferred, and variably so.

    Args:
      memory: items a user has in store (S1 in the authors' code), at least 1.
      random: random items that may enter at a step, at least 1; fewer leave items in the
        memory for longer, which is what their variance is known by.
      alpha: weight of the standard deviation, at least 0; 0 is the best-scored of the
        memory.
      tau: temperature of the draw of what is kept, above 0; higher renews evenly.
      warmup: the share of the training, in [0, 1], over which alpha grows from 0.
      ring: how many scores of an item are remembered, at least 2.
    """

    card = Card(
        name="srns",
        formula="argmax sigma(s_k - s_p) + alpha_t std_k over the user's memory",
        cost="`memory` + `random` look-ups and scores, num_users * `memory` * (`ring` + 2) numbers",
        source="Ding et al., NeurIPS 2020",
        defaults={
            "memory": "the authors' run.sh",
            "random": "the authors' run.sh: 8 times the memory",
            "alpha": "the authors' run.sh",
            "tau": "the authors' run.sh",
            "warmup": "the authors' run.sh: 50 of 400 epochs",
            "ring": "the authors' code: the last 5 epochs",
        },
    )
    follows_progress = True
    needs_rows = True

    def __init__(
        self,
        memory: int = 8,
        random: int = 64,
        alpha: float = 5.0,
        tau: float = 10.0,
        warmup: float = 0.125,
        ring: int = 5,
    ):
        super().__init__()
        self.memory = check_count("srns", memory, what="memory")
        self.random = self.pool = check_count("srns", random, what="random")
        self.alpha = check_at_least_0("srns's alpha", alpha)
        self.tau = check_above_0("srns's tau", tau)
        self.warmup = check_share("srns's warmup", warmup)
        self.ring = check_count("srns", ring, at_least=2, what="ring")

    def build(self, feedback: Feedback, dim: int) -> None:
        shape = (feedback.train.num_users, self.memory)
        self._memory = state_variable(initial_cache(feedback.rows, self.memory), "memory")
        self._rings = state_variable(np.zeros((*shape, self.ring), np.float32), "rings")
        self._filled = state_variable(np.zeros(shape, np.int32), "filled")

    def sample(self, context: Context) -> Negatives:
        items = read_rows(context, self._memory)  # [batch, memory]
        scores = scores_of(context, items)
        likelihood = tf.sigmoid(scores - context.positive_scores[:, None])
        spread = spread_of_likelihood(
            tf.gather(self._rings, context.users),
            read_rows(context, self._filled),
            context.positive_scores,
        )
        alpha = self.alpha * warmed_up(context.progress, self.warmup)
        there = Pool(tf.maximum(items, 0), items != NOTHING, scores)
        best = best_of(there, likelihood + alpha * spread)
        return dataclasses.replace(best, columns=None)  # of the memory, not of the step's pool

    def update(self, context: Context, negatives: Negatives) -> None:
        items, pool = read_rows(context, self._memory), context.pool.first(self.random)
        uniform = context.draws.uniform(f"{self.spec}/keep", self.memory + self.random)
        kept, columns, scores = renewed(context, items, pool, self.tau, uniform)
        rings, filled = self._rings_after(context, columns, scores)
        write_rows(context, (self._memory, kept), (self._rings, rings), (self._filled, filled))

    def _rings_after(
        self, context: Context, columns: tf.Tensor, scores: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The kept items' scores with the present one as the last, and how many there are.

        Args:
          context: the step.
          columns: [batch, memory]: the kept of the memory and, behind it, of the new items.
          scores: [batch, memory + random].

        Returns:
          [batch, memory, ring], and [batch, memory] int32.
        """
        place = tf.minimum(columns, self.memory - 1)
        rings = tf.gather(tf.gather(self._rings, context.users), place, batch_dims=1)
        filled = tf.gather(read_rows(context, self._filled), place, batch_dims=1)
        filled = tf.where(columns < self.memory, filled, 0)
        present = tf.gather(scores, columns, batch_dims=1)[:, :, None]
        rings = tf.concat([rings[:, :, 1:], present], axis=2)
        return rings, tf.minimum(filled + 1, self.ring)


def spread_of_likelihood(
    rings: tf.Tensor, filled: tf.Tensor, positive_scores: tf.Tensor
) -> tf.Tensor:
    """Standard deviation of sigma(s - s_p) over an item's remembered scores, 0 for one or none.

    Args:
      rings: [batch, memory, ring], the newest last.
      filled: [batch, memory] int32, how many of the last are an item's scores.
      positive_scores: [batch].

    Returns:
      [batch, memory].
    """
    ring = rings.shape[2]
    known = tf.cast(tf.range(ring) >= ring - filled[:, :, None], tf.float32)
    count = tf.maximum(tf.reduce_sum(known, axis=2, keepdims=True), 1.0)
    likelihood = tf.sigmoid(rings - positive_scores[:, None, None])
    mean = tf.reduce_sum(known * likelihood, axis=2, keepdims=True) / count
    variance = tf.reduce_sum(known * tf.square(likelihood - mean), axis=2) / count[:, :, 0]
    return tf.sqrt(variance)
