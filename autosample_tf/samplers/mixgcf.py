"""MixGCF's positive mixing: negatives synthesized between a hard item and the positive.

Huang et al., "MixGCF: An Improved Training Method for Graph Neural Network-based
Recommender Systems", KDD 2021, positive mixing: every candidate is mixed with the
positive, e' = a e_p + (1 - a) e_c with a ~ U(0, 1), and the hardest is kept. One `a` an
example for all candidates, as in the authors' code: with a dot product the hardest mixed
candidate is then `dns`'s.
"""

from __future__ import annotations

from autosample_tf.samplers.contract import (
    Card,
    Context,
    Negatives,
    Sampler,
    check_pool,
    one_hardest,
)


class MixGCF(Sampler):
    """The best-scored item of a pool, moved towards the positive by a random share.

    Args:
      pool: candidates, at least 1.
    """

    card = Card(
        name="mixgcf",
        rule="a e_p + (1 - a) e_c, c the best-scored of `pool` candidates, a ~ U(0, 1)",
        cost="`pool` look-ups and scores",
        source="positive mixing of Huang et al., KDD 2021; hop mixing is not in yet",
    )

    def __init__(self, pool: int = 32):
        super().__init__()
        self.pool = check_pool("mixgcf", pool)

    def sample(self, context: Context) -> Negatives:
        hardest = one_hardest(context.pool.first(self.pool))
        share = context.draws.uniform(self.spec, 1)[:, :, None]  # [batch, 1, 1]
        positives = context.positive_embeddings[:, None, :]  # [batch, 1, dim]
        mixed = share * positives + (1.0 - share) * context.embed(hardest.items)
        return Negatives(hardest.items, hardest.weights, embeddings=mixed)
