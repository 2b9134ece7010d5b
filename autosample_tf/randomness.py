"""Stateless random numbers: a function of (seed, stream, step, row of the global batch).

No generator has state, so workers, devices, resumed runs and dropped samplers draw what
one uninterrupted process would have drawn. A replica draws the numbers of the whole
global batch and keeps its own rows: a little work twice, and nothing to agree on.
"""

from __future__ import annotations

import dataclasses
import zlib

import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """The random numbers of one training step.

    Attributes:
      seed: the run's seed.
      positions: [batch] int64, each row's place in the endless sequence of padded
        batches: step * global_batch_size + row.
      global_batch_size: rows of a step over all replicas.
    """

    seed: int
    positions: tf.Tensor
    global_batch_size: int

    def uniform(self, stream: str, n: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """[batch, n], uniform in [0, 1); equal streams give equal numbers."""
        shape = [self.global_batch_size, n]
        return self._own_rows(
            tf.random.stateless_uniform(shape, self._stream_seed(stream), dtype=dtype, alg="philox")
        )

    def integers(self, stream: str, n: int, below: int) -> tf.Tensor:
        """[batch, n] int32, uniform in [0, below)."""
        drawn = tf.random.stateless_uniform(
            [self.global_batch_size, n],
            self._stream_seed(stream),
            minval=0,
            maxval=below,
            dtype=tf.int32,
            alg="philox",
        )
        return self._own_rows(drawn)

    def shared_integers(self, stream: str, n: int, below: int) -> tf.Tensor:
        """[n] int32, uniform in [0, below): the same for every row of the step."""
        return tf.random.stateless_uniform(
            [n],
            self._stream_seed(stream),
            minval=0,
            maxval=below,
            dtype=tf.int32,
            alg="philox",
        )

    def _stream_seed(self, stream: str) -> tf.Tensor:
        stream_number = (self.seed << 32) ^ zlib.crc32(stream.encode())
        step = self.positions[0] // self.global_batch_size
        return tf.stack([tf.constant(_as_int64(stream_number), tf.int64), step])

    def _own_rows(self, drawn: tf.Tensor) -> tf.Tensor:
        if drawn.shape[0] == self.positions.shape[0]:  # one replica: all rows are its own
            return drawn
        return tf.gather(drawn, self.positions % self.global_batch_size)


def _as_int64(number: int) -> int:
    """The signed 64-bit integer with `number`'s low 64 bits."""
    return (number + 2**63) % 2**64 - 2**63
