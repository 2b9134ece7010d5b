"""A batch of users and their positives as a step reads it, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.models.features import check_features, feature_spec
from autosample_tf.ops.replicas import positions

_IDS = ("user", "positive")


def check_batches(spec: Any) -> None:
    """Refuses batches that a model of ids cannot be trained on.

    Args:
      spec: the dataset's `element_spec`.

    Raises:
      InputError: unless they are dictionaries with `user` and `positive`, each [batch_size]
        integers, of one static size; `weight`, if it is there, numbers of that shape; and
        `position`, beside it alone, as `pipeline.training_batches` has it.
    """
    features = feature_spec(spec, "the batches")
    check_features(_IDS, list(features), "a batch")
    for name in _IDS:
        _check_shape(name, features[name], features["user"].shape)
        if not features[name].dtype.is_integer:
            raise expected(
                f"numbers of {name}s from 0 on in a batch",
                received=features[name].dtype.name,
                remedy="Number them as the train pairs do, whose ids dataset.train has.",
            )
    _check_others(features)


def check_parts(spec: Any, replicas: int) -> None:
    """Refuses batches that the replicas cannot have equal parts of.

    Args:
      spec: the dataset's `element_spec`, checked.
      replicas: how many train together.
    """
    sizes = {part.shape[0] for part in tf.nest.flatten(spec) if part.shape.rank}
    for rows in sizes - {None}:
        if rows % replicas:
            raise expected(
                f"a batch size that {replicas} replicas divide",
                received=rows,
                remedy=f"Choose a multiple of {replicas}.",
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
    weight = tf.cast(batch["weight"], tf.float32) if "weight" in batch else tf.ones([rows])
    position = batch["position"] if "position" in batch else positions(step, rows)
    return {**batch, **ids, "weight": weight, "position": position}


def _check_others(features: Mapping[str, tf.TensorSpec]) -> None:
    """Of the names that a step reads besides: a feature of one's own may be called so."""
    if "weight" in features:
        _check_shape("weight", features["weight"], features["user"].shape)
        if not (features["weight"].dtype.is_floating or features["weight"].dtype.is_integer):
            raise expected("numbers as weights of examples", received=features["weight"].dtype.name,
                           remedy="Convert them, or leave them out.")  # fmt: skip
    if "position" in features and (
        features["position"].dtype != tf.int64 or "weight" not in features
    ):
        raise expected(
            "`position` as pipeline.training_batches has it, beside `weight`",
            received=f"{features['position'].dtype.name} among {', '.join(features)}",
            remedy="Leave it out, or call it otherwise: random numbers come from it.",
        )


def _check_shape(name: str, one: tf.TensorSpec, like: tf.TensorShape) -> None:
    if one.shape.rank != 1 or one.shape[0] is None or one.shape != like:
        raise expected(
            f"batches of one size, [batch_size] of each {name}",
            received=f"shape {one.shape}",
            remedy="Use batch(…, drop_remainder=True), or pipeline.training_batches.",
        )
