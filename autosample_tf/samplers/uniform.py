"""Random negative sampling: every unobserved item of the user is as likely.

Rendle et al., "BPR", UAI 2009 (section 4: bootstrap sampling of triples with a uniform
negative). The first of independent uniform draws that is no positive is exactly uniform
over the unobserved items, so nothing is drawn again.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.samplers.contract import Card, Context, Negatives, Sampler, first_allowed

# Draws an example may use up on positives: a user with a tenth of the catalogue is left
# without a negative in one step of 10^8.
TRIES = 8


class RNS(Sampler):
    """Uniform over the user's unobserved items."""

    card = Card(
        name="rns",
        rule="uniform over the user's unobserved items",
        cost="8 look-ups",
        source="Rendle et al., BPR, UAI 2009",
    )
    pool = TRIES

    def build(self, train: Interactions, dim: int) -> None:
        unobserved = train.num_items - train.degrees
        self._unobserved = tf.constant(unobserved, tf.float32)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(TRIES)
        drawn = first_allowed(pool.items, pool.allowed)
        unobserved = tf.maximum(tf.gather(self._unobserved, context.users), 1.0)
        return Negatives(drawn.items, drawn.weights, log_q=-tf.math.log(unobserved)[:, None])
