"""What each sampler's negatives are like, looked at in one step of many.

Scores, masked draws, popularity, false negatives, gradients, variety: what tells a good
sampler from a broken one while it trains. None of it is a choice or changes one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.losses import Loss
from autosample_tf.models import Recommender
from autosample_tf.ops.membership import PairSet
from autosample_tf.ops.replicas import mean_over_batch
from autosample_tf.samplers import Context
from autosample_tf.step.sampled_losses import Positives, column_losses, in_batch_losses
from autosample_tf.step.sampling import Columns, SampledBatch

STATISTICS = {
    "negative_score": "mean score of its negatives",
    "masked": "share of its draws that are masked, in [0, 1]",
    "popularity": "mean popularity percentile of its negatives, in (0, 1); uniform: 0.5",
    "false_negatives": "share of its negatives that are validation positives, in [0, 1]",
    "gradient_norm": "norm of its mean loss's gradient in the users' representations",
    "distinct": "effective number of distinct negatives of a step: (sum c)^2 / sum c^2",
}


class Health(tf.Module):
    """Averages over an epoch's observed steps; over replicas, the mean of each one's rows.

    Args:
      model: what is trained.
      train: whose popularity counts.
      validation: held-out pairs, or None: false negatives are then not told.
      num_samplers: candidates, dropped ones among them.
      loss: the samplers'.
    """

    def __init__(
        self,
        model: Recommender,
        train: Pairs,
        validation: Interactions | None,
        num_samplers: int,
        loss: Loss,
    ):
        super().__init__()
        self._model, self._loss, self._num_items = model, loss, train.num_items
        self._percentiles = tf.constant(popularity_percentiles(train.popularity), tf.float32)
        self._held_out = PairSet(validation) if validation is not None else None
        self.means = tf.keras.metrics.MeanTensor(
            name="health", shape=(num_samplers, len(STATISTICS))
        )
        self.positive_score = tf.keras.metrics.Mean(name="positive_score")

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """What the averages are kept in, for who resets them; a model finds its own alone."""
        return [self.means, self.positive_score]

    def observe(
        self, batch: SampledBatch, active: tuple[int, ...], among: Positives | None = None
    ) -> None:
        """Adds a step to the averages, in the graph.

        Args:
          batch: the step's negatives.
          active: the place of each active sampler among all.
          among: the global batch's positives, of a loss that compares with them.
        """
        values, counted = self._statistics(batch.columns(), batch.context, among)
        places, shape = tf.constant(active)[:, None], tf.shape(self.means.total)
        values = tf.scatter_nd(places, values, shape)
        weights = tf.repeat(counted[:, None], len(STATISTICS), axis=1)
        self.means.update_state(values, sample_weight=tf.scatter_nd(places, weights, shape))
        is_real = tf.cast(batch.context.example_weight > 0, tf.float32)
        self.positive_score.update_state(batch.context.positive_scores, sample_weight=is_real)

    def read(self, specs: list[str], active: tuple[int, ...]) -> dict[str, float]:
        """The averages since the last reset, `statistic/spec`; what was not seen is left out."""
        means, seen = self.means.result().numpy(), self.means.count.numpy()[:, 0] > 0
        told = {
            f"{name}/{specs[k]}": float(means[k, column])
            for column, name in enumerate(STATISTICS)
            for k in active
            if seen[k] and (name != "false_negatives" or self._held_out)
        }
        if self.positive_score.count.numpy() > 0:
            told["positive_score"] = float(self.positive_score.result())
        return told

    def _statistics(
        self, columns: Columns, context: Context, among: Positives | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """[active, statistics], and [active]: 1 where a sampler had any negative, else 0."""
        owners, items = tf.constant(columns.owners), columns.items
        is_real = tf.cast(context.example_weight > 0, tf.float32)[:, None]
        weights = columns.weights * is_real  # [batch, M]
        total = tf.reduce_sum(tf.matmul(weights, owners), axis=0)  # rows with a negative

        def mean(values: tf.Tensor) -> tf.Tensor:
            summed = tf.reduce_sum(tf.matmul(weights * values, owners), axis=0)
            return tf.math.divide_no_nan(summed, total)

        users = tf.stop_gradient(columns.user_embeddings)
        scores = context.score(users[:, None, :], columns.embeddings)

        def losses_at(users: tf.Tensor) -> tf.Tensor:
            if among is not None:
                return in_batch_losses(users, among, self._loss)
            at_users = dataclasses.replace(columns, user_embeddings=users)
            return column_losses(self._model, at_users, self._loss)

        drawn = tf.reduce_sum(is_real) * columns.owners.sum(axis=0)  # each of all its columns
        used = tf.matmul(tf.cast(weights > 0, tf.float32), owners)
        statistics = {
            "negative_score": mean(scores),
            "masked": 1.0 - tf.math.divide_no_nan(tf.reduce_sum(used, axis=0), drawn),
            "popularity": mean(tf.gather(self._percentiles, items)),
            "false_negatives": mean(self._is_held_out(columns.users, items)),
            "gradient_norm": gradient_norms(users, losses_at, context.example_weight),
            "distinct": self._distinct(items, weights, columns.owners),
        }
        values = tf.stack([statistics[name] for name in STATISTICS], axis=1)
        return values, tf.cast(total > 0, tf.float32)

    def _is_held_out(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        if self._held_out is None:
            return tf.zeros(items.shape)
        return tf.cast(self._held_out.contains(users, items), tf.float32)

    def _distinct(self, items: tf.Tensor, weights: tf.Tensor, owners: np.ndarray) -> tf.Tensor:
        """[active]: as many equally often drawn items would be as varied."""
        numbers = []
        for column in owners.T:
            own = np.flatnonzero(column)
            counts = tf.math.unsorted_segment_sum(
                tf.reshape(tf.gather(weights, own, axis=1), [-1]),
                tf.reshape(tf.gather(items, own, axis=1), [-1]),
                self._num_items,
            )
            squares = tf.reduce_sum(tf.square(counts))
            numbers.append(tf.math.divide_no_nan(tf.square(tf.reduce_sum(counts)), squares))
        return tf.stack(numbers)


def gradient_norms(
    users: tf.Tensor, losses_at: Callable[[tf.Tensor], tf.Tensor], example_weight: tf.Tensor
) -> tf.Tensor:
    """[active]: the norm of each sampler's mean loss's gradient in `users` [batch, dim].

    Of several replicas each has its rows alone, whose squared norms are a share of the whole: each
    tells what the whole comes to where shares are alike.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(users)
        means = mean_over_batch(losses_at(users), example_weight[:, None])

    def norm(whose: tf.Tensor) -> tf.Tensor:
        return tf.norm(tape.gradient(means, users, output_gradients=whose)) * replicas**0.5

    # A loop, whose body is traced once: tracing is what takes long, in one step of many it runs.
    return tf.map_fn(norm, tf.eye(means.shape[0]))


def popularity_percentiles(popularity: np.ndarray) -> np.ndarray:
    """[num_items] in (0, 1): the share of items less popular, half of those alike counted."""
    ordered = np.sort(popularity)
    below = np.searchsorted(ordered, popularity, side="left")
    up_to = np.searchsorted(ordered, popularity, side="right")
    return (below + up_to) / (2.0 * len(popularity))
