"""Stateless random numbers: a function of (seed, stream, step, row of the global batch).

No generator has state, so workers, devices and resumed runs draw what one uninterrupted
process would have drawn. A replica draws the numbers of the whole global batch and keeps
its own rows: a little work twice, and nothing to agree on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

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

    @property
    def step(self) -> tf.Tensor:
        """The step's number, from 0: a scalar int64."""
        return self.positions[0] // self.global_batch_size

    def uniform(self, stream: str, n: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """[batch, n], uniform in [0, 1); equal streams give equal numbers.

        Made of random bits here: TensorFlow's own floats are others under XLA.
        """
        width, digits = {tf.float32: (tf.int32, 24), tf.float64: (tf.int64, 53)}[dtype]
        bits = self._rows(stream, n, minval=None, maxval=None, dtype=width)
        kept = tf.bitwise.bitwise_and(bits, 2**digits - 1)
        return tf.cast(kept, dtype) * 2.0**-digits

    def integers(self, stream: str, n: int, below: int, *, block: int = 1) -> tf.Tensor:
        """[batch, n] int32, uniform in [0, below).

        Args:
          stream: equal streams give equal numbers.
          n: how many a row.
          below: more than the largest.
          block: so many rows of the global batch, which it divides, get the same numbers.
        """
        return self._rows(stream, n, block, minval=0, maxval=below, dtype=tf.int32)

    def shared_integers(self, stream: str, n: int, below: int) -> tf.Tensor:
        """[n] int32, uniform in [0, below): the same for every row of the step."""
        return tf.random.stateless_uniform(
            [n], self._seed(stream), minval=0, maxval=below, dtype=tf.int32, alg="philox"
        )

    def _rows(self, stream: str, n: int, block: int = 1, **range_and_type: Any) -> tf.Tensor:
        shape = [self.global_batch_size // block, n]
        drawn = tf.random.stateless_uniform(
            shape, self._seed(stream), alg="philox", **range_and_type
        )
        if self.global_batch_size == self.positions.shape[0]:  # one replica: all are its own
            return tf.repeat(drawn, block, axis=0) if block > 1 else drawn
        return tf.gather(drawn, self.positions % self.global_batch_size // block)

    def _seed(self, stream: str) -> tf.Tensor:
        """[2] int64: a number of the run's seed and the stream, and the step's number."""
        digest = hashlib.blake2b(f"{self.seed}/{stream}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "little", signed=True)
        return tf.stack([tf.constant(number, tf.int64), self.step])
