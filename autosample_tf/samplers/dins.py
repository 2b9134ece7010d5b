"""Dimension-independent mixing: each dimension goes its own way towards the positive.

Wu et al., "Dimension Independent Mixup for Hard Negative Sample in Collaborative
Filtering", CIKM 2023. Of the hardest item h, the positive p and the user q, dimension d
of the negative is (1 - w) p + w h with w = e^(q h) / (e^(q h) + alpha e^(q p)), which is
sigma(q (h - p) - log alpha): dimensions in which the hard item beats the positive stay.
Layer by layer on graph models. As in the authors' code there is a gradient through w.
"""

from __future__ import annotations

import math

import tensorflow as tf

from autosample_tf.samplers.contract import Card, Context, Negatives, Sampler
from autosample_tf.samplers.mixing import hardest_of_each_layer, own_layers, synthesized
from autosample_tf.samplers.selection import check_above_0, check_count


class DINS(Sampler):
    """The hardest item of a pool, mixed with the positive dimension by dimension.

    Args:
      pool: candidates, at least 1.
      alpha: weight of the positive, above 0; towards 0 the negative is `dns`'s item,
        towards infinity the positive, from which nothing is learned.
    """

    card = Card(
        name="dins",
        formula="(1 - w) e_p + w e_h by dimension, w = sigma(e_u (e_h - e_p) - log alpha)",
        cost="`pool` look-ups and scores, in every layer of a graph model",
        source="Wu et al., CIKM 2023",
        defaults={"pool": "the README of the authors' code: 16 to 64", "alpha": "their code"},
    )

    def __init__(self, pool: int = 32, alpha: float = 0.5):
        super().__init__()
        self.pool = check_count("dins", pool)
        self.alpha = check_above_0("dins's alpha", alpha)

    def sample(self, context: Context) -> Negatives:
        pool, layers = context.pool.first(self.pool), context.layers()
        columns = hardest_of_each_layer(context, pool)  # [batch, layers]
        hardest = own_layers(context, pool, columns)
        weight = mixing_weight(layers.queries, hardest, layers.positives, self.alpha)
        mixed = (1.0 - weight) * layers.positives + weight * hardest
        return synthesized(context, pool, columns, mixed)


def mixing_weight(
    queries: tf.Tensor, hardest: tf.Tensor, positives: tf.Tensor, alpha: float
) -> tf.Tensor:
    """The hard item's weight in each dimension, in (0, 1): [batch, layers, width]."""
    return tf.sigmoid(queries * (hardest - positives) - math.log(alpha))
