"""Tables of item vectors with fewer bits: smaller files and less memory, coarser scores.

`bfloat16` keeps float32's range with 8 significant bits and halves a table. `int8` keeps
each vector as whole numbers in [-127, 127] and one float32 scale, the vector's largest
absolute entry being 127, and makes a table of 64 dimensions 3.8 times smaller. Both are
turned back into float32 before they are scored, by every request.
"""

from __future__ import annotations

import tensorflow as tf

_LARGEST = 127.0


class ItemTable(tf.Module):
    """Item vectors as they are stored.

    Args:
      vectors: [num_items, dim] float32.
      quantize: bfloat16, int8, or None: float32.
    """

    def __init__(self, vectors: tf.Tensor, quantize: str | None = None):
        super().__init__(name="items")
        codes, self._scales = vectors, None
        if quantize == "int8":
            scales = tf.reduce_max(tf.abs(vectors), axis=1, keepdims=True) / _LARGEST
            codes = tf.cast(tf.round(tf.math.divide_no_nan(vectors, scales)), tf.int8)
            self._scales = tf.Variable(scales, trainable=False, name="scales")
        elif quantize == "bfloat16":
            codes = tf.cast(vectors, tf.bfloat16)
        self._codes = tf.Variable(codes, trainable=False, name="codes")

    def rows(self, items: tf.Tensor) -> tf.Tensor:
        """The vectors of items: [...] to [..., dim] float32."""
        rows = tf.cast(tf.gather(self._codes, items), tf.float32)
        return rows if self._scales is None else rows * tf.gather(self._scales, items)

    def all(self) -> tf.Tensor:
        """Every vector: [num_items, dim] float32."""
        rows = tf.cast(self._codes, tf.float32)
        return rows if self._scales is None else rows * self._scales
