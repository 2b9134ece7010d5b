"""Popularity-based negative sampling: items drawn as a power of their train counts.

The power of word2vec's noise distribution (Mikolov et al., "Distributed Representations
of Words and Phrases and their Compositionality", NIPS 2013, section 2.2: 3/4). Counts are
those of the train pairs alone; items without any are never drawn.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions
from autosample_tf.samplers.contract import Card, Context, Negatives, Sampler, first_allowed
from autosample_tf.samplers.uniform import TRIES


class PNS(Sampler):
    """Proportional to popularity^alpha over the user's unobserved items.

    Args:
      alpha: at least 0. 0 is uniform over the items that have a train pair; more draws
        popular items more often, whose scores are higher, and punishes them more.
    """

    card = Card(
        name="pns",
        rule="proportional to train popularity^alpha over the user's unobserved items",
        cost="8 draws by binary search, 8 look-ups",
        source="the noise distribution of Mikolov et al., NIPS 2013",
    )

    def __init__(self, alpha: float = 0.75):
        super().__init__()
        if not 0 <= alpha < np.inf:
            raise expected("pns's finite alpha of at least 0", received=alpha, remedy="Raise it.")
        self.alpha = float(alpha)

    def build(self, train: Interactions, dim: int) -> None:
        popularity = train.popularity.astype(np.float64)
        share = popularity / popularity.max()  # at most 1: no power of it overflows
        mass = np.where(popularity > 0, share**self.alpha, 0.0)
        mass /= mass.sum()
        cumulative = np.cumsum(mass)
        # Rounding must not leave a draw above the last step, nor on a massless item.
        cumulative[np.flatnonzero(mass)[-1] :] = 1.0
        observed = np.bincount(train.users, weights=mass[train.items], minlength=train.num_users)
        self._cumulative = tf.constant(cumulative)  # float64: float32's steps are too coarse
        self._log_mass = tf.constant(np.log(np.maximum(mass, 1e-300)), tf.float32)
        self._log_unobserved = tf.constant(np.log(np.maximum(1 - observed, 1e-12)), tf.float32)

    def sample(self, context: Context) -> Negatives:
        uniform = context.draws.uniform(self.spec, TRIES, dtype=tf.float64)
        drawn = tf.searchsorted(self._cumulative, tf.reshape(uniform, [-1]), side="right")
        items = tf.reshape(drawn, uniform.shape)  # [batch, TRIES]
        negatives = first_allowed(items, ~context.is_positive(context.users, items))
        log_q = tf.gather(self._log_mass, negatives.items)
        log_q -= tf.gather(self._log_unobserved, context.users)[:, None]
        return Negatives(negatives.items, negatives.weights, log_q=log_q)
