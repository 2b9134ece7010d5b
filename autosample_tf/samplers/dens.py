"""DENS: negatives chosen by what in them is irrelevant to the user, told apart by gates.

Lai et al., "Disentangled Negative Sampling for Collaborative Filtering", WSDM 2023. Gates
split the positive p and a candidate n, layer by layer, into parts that matter for the user
u and parts that don't:

    p_r = p * sigma(W_item p + b_item + W_user u + b_user),         p_ir = p - p_r
    n_r = n * sigma(W_neg n + b_neg + W_pos p_r + b_pos),           n_ir = n - n_r

In each layer the candidate of the greatest <u, (1 - a) n - n_r> is chosen, where a grows
from 0 to 1 over a warm-up; the negative is its raw layer, and the layers, perhaps of
several items, are combined. What makes the gates is a loss of their own, gamma / 4 times

    sp(S_p_ir - S_p_r) + sp(S_n_r - S_n_ir) + sp(S_n_r - S_p_r) + sp(S_p_ir - S_n_ir)

with sp the softplus and S the user's score of a part's combined layers: the positive is to
be liked for its relevant part, the negative to be left for its irrelevant one. Representations
learn from it too.

This is the authors' code, whose gates are shared by all layers and whose a is epoch / 100
in 1,000 epochs with early stopping; here it is a share of the training, and stays 0 where
training never progresses. They choose among 6 candidates unless told otherwise, and may
repeat the choice for several negatives, here one. Initial gates are those of PyTorch's
`Linear`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from autosample_tf.samplers.contract import (
    Card,
    Context,
    Feedback,
    Layers,
    Negatives,
    Pool,
    Sampler,
)
from autosample_tf.samplers.mixing import best_by_layer, own_layers, synthesized
from autosample_tf.samplers.selection import (
    auxiliary_mean,
    check_at_least_0,
    check_count,
    check_share,
    row_weight,
    warmed_up,
)


class Gate(tf.Module):
    """An affine map of the last axis, from `width` entries to as many."""

    def __init__(self, width: int, rng: np.random.Generator):
        super().__init__()
        bound = width**-0.5
        self.kernel = tf.Variable(rng.uniform(-bound, bound, (width, width)).astype(np.float32))
        self.bias = tf.Variable(rng.uniform(-bound, bound, width).astype(np.float32))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(x, self.kernel, axes=1) + self.bias


class DENS(Sampler):
    """The candidate that stands out by its irrelevant part, in each layer.

    Args:
      pool: candidates, at least 1.
      warmup: the share of the training, in [0, 1], over which the choice turns from the
        greatest irrelevant part to the smallest relevant one; 0: the latter at once.
      gamma: weight of the gates' own loss, at least 0; at 0 they stay what they began as.
    """

    card = Card(
        name="dens",
        formula="in each layer argmax <e_u, (1 - a) e_c - relevant part of e_c> over `pool`",
        cost="`pool` look-ups and two products with a square matrix, in every layer",
        source="Lai et al., WSDM 2023",
        defaults={
            "pool": "as dns; Lai et al. tune it for each dataset",
            "warmup": "the authors' code: 100 of 1,000 epochs",
            "gamma": "the authors' code",
        },
    )

    layer_by_layer = True
    follows_progress = True

    def __init__(self, pool: int = 32, warmup: float = 0.1, gamma: float = 0.3):
        super().__init__()
        self.pool = check_count("dens", pool)
        self.warmup = check_share("dens's warmup", warmup)
        self.gamma = check_at_least_0("dens's gamma", gamma)

    def build(self, feedback: Feedback, dim: int) -> None:
        rng = np.random.default_rng(0)
        self._item, self._user, self._negative, self._positive = (Gate(dim, rng) for _ in range(4))

    def sample(self, context: Context) -> Negatives:
        pool, layers = context.pool.first(self.pool), context.layers()
        columns = self._choose(context, pool, layers)  # [batch, layers]
        chosen = own_layers(context, pool, columns)
        contrast = self._contrast(context, layers, chosen)
        has_negative = row_weight(pool.allowed)[:, 0]
        auxiliary = self.gamma * auxiliary_mean(context, contrast, has_negative)
        answer = synthesized(context, pool, columns, chosen)
        return dataclasses.replace(answer, auxiliary_loss=auxiliary)

    def _choose(self, context: Context, pool: Pool, layers: Layers) -> tf.Tensor:
        """In each layer the candidate chosen: columns [batch, layers]."""
        users, positives = tf.stop_gradient(layers.users), tf.stop_gradient(layers.positives)
        candidates = tf.stop_gradient(layers.embed_pool(self.pool))

        def by_block(values: tf.Tensor) -> tf.Tensor:  # [blocks, rows, 1, layers, width]
            return tf.reshape(values, [candidates.shape[0], -1, 1, *values.shape[1:]])

        relevant = self._relevant_in_positives(users, positives)
        gates = self._negative(candidates)[:, None] + by_block(self._positive(relevant))
        advance = warmed_up(context.progress, self.warmup)  # the a of the choice
        kept = candidates[:, None] * (1.0 - advance - tf.sigmoid(gates))
        merits = tf.reduce_sum(by_block(users) * kept, axis=-1)  # [blocks, rows, n, layers]
        return best_by_layer(pool, tf.reshape(merits, [-1, *merits.shape[2:]]))

    def _contrast(self, context: Context, layers: Layers, negatives: tf.Tensor) -> tf.Tensor:
        """What the gates learn from, on each example: [batch]."""
        liked = self._relevant_in_positives(layers.users, layers.positives)
        disliked = self._relevant_in_negatives(negatives, liked)
        parts = (liked, layers.positives - liked, disliked, negatives - disliked)
        users = context.user_embeddings
        scores = (context.score(users, layers.combine(part)) for part in parts)
        return contrastive_loss(*scores)

    def _relevant_in_positives(self, users: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
        return positives * tf.sigmoid(self._item(positives) + self._user(users))

    def _relevant_in_negatives(self, negatives: tf.Tensor, relevant: tf.Tensor) -> tf.Tensor:
        return negatives * tf.sigmoid(self._negative(negatives) + self._positive(relevant))


def contrastive_loss(
    relevant_positive: tf.Tensor,
    irrelevant_positive: tf.Tensor,
    relevant_negative: tf.Tensor,
    irrelevant_negative: tf.Tensor,
) -> tf.Tensor:
    """The mean of the four pairwise losses between the parts' scores [batch]: [batch]."""
    lower_and_higher = (
        (irrelevant_positive, relevant_positive),
        (relevant_negative, irrelevant_negative),
        (relevant_negative, relevant_positive),
        (irrelevant_positive, irrelevant_negative),
    )
    return tf.add_n([tf.nn.softplus(low - high) for low, high in lower_and_higher]) / 4.0
