"""Integers that training steps look up, kept with the device that the steps run on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def table(values: np.ndarray) -> tf.Tensor:
    """A constant of steps to look integers up in.

    int32 while the CPU computes, half as much memory to go through, if it holds them all. On a
    GPU int64: TensorFlow keeps int32 with the CPU, and every step would copy the whole table,
    which may be as large as the data, to the GPU anew.

    Args:
      values: integers, of any shape.
    """
    on_cpu = not tf.config.list_logical_devices("GPU")
    fit = values.max(initial=0) <= tf.int32.max
    return tf.constant(values, tf.int32 if on_cpu and fit else tf.int64)


def look_up(table: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """What stands at `places`, of any shape, in the first dimension of a table: int32."""
    return tf.cast(tf.gather(table, places), tf.int32)
