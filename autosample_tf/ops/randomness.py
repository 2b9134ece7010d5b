"""Stateless random numbers: a function of (seed, stream, step, row of the global batch).

No generator has state, so workers, devices and resumed runs draw what one uninterrupted
process would have drawn. A replica draws the numbers of the whole global batch and keeps
its own rows: a little work twice, and nothing to agree on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_FOR_32_BITS = 2**20  # integers below this come from 32 bits within 2^-12 of equally often


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
        bits = self._rows(self._bits(stream, [self.global_batch_size, n], width))
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
        shape = [self.global_batch_size // block, n]
        return self._rows(self._integers(stream, shape, below), block)

    def shared_integers(self, stream: str, n: int, below: int) -> tf.Tensor:
        """[n] int32, uniform in [0, below): the same for every row of the step."""
        return self._integers(stream, [n], below)

    def shared_chances(self, stream: str, shape: Sequence[int], probability: float) -> tf.Tensor:
        """[*shape] bool, each true with a probability: the same numbers on every replica.

        Of 16 bits each, half of what numbers of their own would cost.

        Args:
          stream: equal streams give equal numbers.
          shape: of the result.
          probability: in [0, 1), taken to the nearest 2^-16 below 1.
        """
        count = math.prod(shape)
        pairs = tf.bitcast(self._bits(stream, [-(-count // 2)], tf.int32), tf.int16)  # [n, 2]
        halves = tf.reshape(tf.reshape(pairs, [-1])[:count], shape)  # uniform in [-2^15, 2^15)
        return halves < min(round((2 * probability - 1) * 2**15), 2**15 - 1)

    def _rows(self, drawn: tf.Tensor, block: int = 1) -> tf.Tensor:
        """This replica's rows of what was drawn for the global batch, once a block."""
        if self.global_batch_size == self.positions.shape[0]:  # one replica: all are its own
            return tf.repeat(drawn, block, axis=0) if block > 1 else drawn
        return tf.gather(drawn, self.positions % self.global_batch_size // block)

    def _integers(self, stream: str, shape: list[int], below: int) -> tf.Tensor:
        # Random bits modulo `below`: of 32 alone the first of many numbers would come more often.
        width = tf.int64 if below > _FOR_32_BITS else tf.int32
        drawn = tf.raw_ops.StatelessRandomUniformIntV2(
            shape=shape,
            **self._philox(stream),
            minval=tf.constant(0, width),
            maxval=tf.constant(below, width),
        )
        return tf.cast(drawn, tf.int32)

    def _bits(self, stream: str, shape: list[int], dtype: tf.DType) -> tf.Tensor:
        return tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=shape, **self._philox(stream), dtype=dtype
        )

    def _philox(self, stream: str) -> dict[str, Any]:
        """Philox's key and counter: one is a number of the run's seed and the stream, the other
        the step's number with 2^64 blocks of numbers to count through.

        `tf.random.stateless_uniform` would hash a seed into them: ten operations a draw
        instead of one, for numbers no more independent (Salmon et al., "Parallel Random
        Numbers: As Easy as 1, 2, 3", SC 2011).
        """
        digest = hashlib.blake2b(f"{self.seed}/{stream}".encode(), digest_size=8).digest()
        key = tf.constant([int.from_bytes(digest, "little")], tf.uint64)
        step = tf.cast(self.step, tf.uint64)
        return {"key": key, "counter": tf.stack([tf.zeros_like(step), step]), "alg": 1}
