"""MixGCF: negatives synthesized between hard items and the positive, layer by layer.

Huang et al., "MixGCF: An Improved Training Method for Graph Neural Network-based
Recommender Systems", KDD 2021. Positive mixing: every candidate's layers are mixed with
the positive's, e' = a e_p + (1 - a) e_c, a ~ U(0, 1). Hop mixing: in each layer the
hardest mixed candidate is kept, and the layers, perhaps of several items, are combined.
A model without layers has positive mixing only.

`a` is one number an example and layer for all candidates, as in the authors' code (the
paper's differs from candidate to candidate): mixing then shifts and shrinks all scores
alike, and the hardest mixed candidate is the hardest one, `dns`'s. The authors decay the
mixed vector of layer 0; here L2 falls on the row of the item it comes from.
"""

from __future__ import annotations

from autosample_tf.samplers.contract import Card, Context, Negatives, Sampler
from autosample_tf.samplers.mixing import hardest_of_each_layer, own_layers, synthesized
from autosample_tf.samplers.selection import check_count


class MixGCF(Sampler):
    """The best-scored item of a pool in each layer, moved towards the positive at random.

    Args:
      pool: candidates, at least 1.
    """

    card = Card(
        name="mixgcf",
        formula="in each layer a e_p + (1 - a) e_c, c the best-scored of `pool`, a ~ U(0, 1)",
        cost="`pool` look-ups and scores, in every layer of a graph model",
        source="Huang et al., KDD 2021",
        defaults={"pool": "the README of the authors' code: 16 to 64"},
    )

    def __init__(self, pool: int = 32):
        super().__init__()
        self.pool = check_count("mixgcf", pool)

    def sample(self, context: Context) -> Negatives:
        pool, layers = context.pool.first(self.pool), context.layers()
        columns = hardest_of_each_layer(context, pool)  # [batch, layers]
        share = context.draws.uniform(self.spec, columns.shape[1])[:, :, None]
        hardest = own_layers(context, pool, columns)
        mixed = hardest + share * (layers.positives - hardest)
        return synthesized(context, pool, columns, mixed)
