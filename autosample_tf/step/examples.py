"""A batch of users and their positives as a step reads it, whoever made it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.models.features import check_features, feature_spec
from autosample_tf.ops.replicas import global_rows, rows_in_step

_IDS = ("user", "positive")


def check_batches(spec: Any) -> None:
    """Refuses batches that a model of ids cannot be trained on.

    Args:
      spec: the dataset's `element_spec`.

    Raises:
      InputError: unless they are dictionaries with `user` and `positive`, each [batch_size]
        integers, of one static size.
    """
    features = feature_spec(spec, "the batches")
    check_features(_IDS, list(features), "a batch")
    for name in _IDS:
        one = features[name]
        if not one.dtype.is_integer:
            raise expected(
                f"numbers of {name}s from 0 on in a batch",
                received=one.dtype.name,
                remedy="Number them as the train pairs do, whose ids dataset.train has.",
            )
        if one.shape.rank != 1 or one.shape[0] is None:
            raise expected(
                f"batches of one size, [batch_size] of each {name}",
                received=f"shape {one.shape}",
                remedy="Use batch(…, drop_remainder=True), or pipeline.training_batches.",
            )


def completed(batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
    """The batch with all that `pipeline.training_batches` gives one.

    Args:
      batch: what was given.
      step: how many there were before, scalar: where the random numbers of one without
        `position` come from.
    """
    rows = batch["user"].shape[0]
    ids = {name: tf.cast(batch[name], tf.int32) for name in _IDS}
    weight = batch["weight"] if "weight" in batch else tf.ones([rows])
    if "position" in batch:
        position = batch["position"]
    else:
        position = tf.cast(step, tf.int64) * global_rows(rows) + rows_in_step(rows)
    return {**batch, **ids, "weight": weight, "position": position}
