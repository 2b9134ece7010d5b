"""What a step's replicas share: rows of the whole global batch, and means over them."""

from __future__ import annotations

import tensorflow as tf


def global_rows(rows: int) -> int:
    """How many rows a step has over all replicas of so many each."""
    return rows * tf.distribute.get_strategy().num_replicas_in_sync


def rows_in_step(rows: int) -> tf.Tensor:
    """[rows] int64: where this replica's rows stand among those of the global batch."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.cast(replica, tf.int64) * rows + tf.range(rows, dtype=tf.int64)


def positions(step: tf.Tensor, rows: int) -> tf.Tensor:
    """[rows] int64: where this replica's rows stand in the endless sequence of all steps' rows.

    Args:
      step: how many there were before, scalar.
      rows: of a replica's share of a batch.
    """
    return tf.cast(step, tf.int64) * global_rows(rows) + rows_in_step(rows)


def mean_over_batch(values: tf.Tensor, example_weight: tf.Tensor) -> tf.Tensor:
    """Mean over the rows of the global batch of values times weights, this replica's share.

    Args:
      values: [batch, …], this replica's rows.
      example_weight: [batch, …], see `pipeline.training_batches`.
    """
    return tf.reduce_sum(values * example_weight, axis=0) / global_rows(values.shape[0])


def over_replicas(rows: tf.Tensor) -> tf.Tensor:
    """The rows of the whole global batch: this replica's [batch, …] with the others'."""
    replicas = tf.distribute.get_replica_context()
    if replicas.num_replicas_in_sync == 1:
        return rows
    shape = [global_rows(rows.shape[0]), *rows.shape[1:]]
    return tf.ensure_shape(replicas.all_gather(rows, axis=0), shape)
