"""Given negatives: items that the data itself says the user passed over.

Impressions that were not clicked, ratings below the threshold, skips. Users without any
have no negative here, and a mixture passes their share to its other samplers.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.ops.rows import RowDraws
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.selection import first_allowed

_TRIES = 4  # a given negative may be a train positive too: seen twice, clicked once


class Given(Sampler):
    """Uniform over the user's given negatives that are no train positives."""

    card = Card(
        name="given",
        formula="q(j | u) = 1 / |given negatives of u|",
        cost="4 look-ups",
        source="negatives that come with the data",
    )
    needs_rows = True
    knows_log_q = True

    def check(self, feedback: Feedback) -> None:
        super().check(feedback)
        if feedback.given is None or not feedback.given.num_pairs:
            raise expected(
                "data with given negatives for the sampler 'given'",
                received="none",
                remedy="Name the column that tells them with --label-column, and the least "
                "label of a positive with --positive-from, or take other samplers.",
            )

    def build(self, feedback: Feedback, dim: int) -> None:
        self.check(feedback)
        train, given = feedback.rows, feedback.given
        users = given.users[~train.contains(given.users, given.items)]
        self._counts = tf.constant(np.bincount(users, minlength=train.num_users), tf.float32)
        self._rows = RowDraws(given)

    def sample(self, context: Context) -> Negatives:
        users = context.users
        items, present = self._rows.draw(users, context.draws.uniform(self.spec, _TRIES))
        allowed = present & ~context.is_positive(users, items)
        drawn = first_allowed(items, allowed)
        counts = tf.maximum(tf.gather(self._counts, users), 1.0)
        return Negatives(drawn.items, drawn.weights, log_q=-tf.math.log(counts)[:, None])
