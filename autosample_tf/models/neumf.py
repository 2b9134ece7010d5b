"""NeuMF: a weighted product of factors beside a perceptron over both; no dot product.

He et al., "Neural Collaborative Filtering", WWW 2017, section 3.4: the score is
h^T [p_g * q_g ; MLP([p_m ; q_m])], the two parts having vectors of their own, and the
perceptron's ReLU layers each half as wide as the one below. Here a representation is
[g ; m], so that its halves are the parts' vectors, and instance mixing mixes those.

Departures: no sigmoid at the end, which the loss has or has not; nothing is pretrained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.models.contract import dot_score, dot_score_all
from autosample_tf.models.mf import MF

_ITEMS_AT_ONCE = 256  # the first layer's outputs for a user of each are there at a time


class _Side(NamedTuple):
    """What a score needs of users or of items, before they meet.

    The perceptron's first layer is linear in [p_m ; q_m], so each side passes through its own
    half of the kernel once, and not once a pair.

    Attributes:
      factors: [..., dim / 2], of the product, the user's times h.
      hidden: [..., dim / 2], of the perceptron's first layer, the user's with its bias.
    """

    factors: tf.Tensor
    hidden: tf.Tensor


def check_layers(dim: int, layers: int) -> None:
    """Raises `InputError` where a perceptron's layers cannot halve so often."""
    if layers < 1 or dim % 2**layers:
        raise expected(
            "at least one layer of neumf, and a dim that halves as often as it has layers",
            received=f"{layers} layers and a dim of {dim}",
            remedy="Take fewer --layers, or a --dim that is a multiple of 2^layers.",
        )


class NeuMF(MF):
    """MF's two tables, scored by a learned function of both rows.

    L2 falls on the tables' rows only.

    Args:
      num_users: rows of the user table.
      num_items: rows of the item table.
      layers: of the perceptron, at least 1; the l-th has dim / 2^l outputs.
      dim: entries of a vector, half of them for the product and half for the perceptron; a
        multiple of 2^layers.
      init_scale: standard deviation of the normal distribution that entries begin with.
      seed: of that beginning, and of the layers' (Glorot uniform).
      dtype: as of `MF`.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        layers: int = 3,
        dim: int = 64,
        init_scale: float = 0.01,
        seed: int = 0,
        dtype: Any = None,
    ):
        check_layers(dim, layers)
        super().__init__(
            num_users, num_items, dim=dim, init_scale=init_scale, seed=seed, dtype=dtype
        )
        self.num_layers = layers
        widths = [dim // 2**layer for layer in range(layers + 1)]
        seeds = np.random.SeedSequence([seed, 1]).generate_state(layers + 1) >> 1

        def glorot(name: str, rows: int, columns: int, place: int) -> tf.Variable:
            initializer = tf.keras.initializers.GlorotUniform(int(seeds[place]))
            return self._layer_weight(name, (rows, columns), initializer)

        self.kernels = [
            glorot(f"kernel_{layer}", widths[layer], widths[layer + 1], layer)
            for layer in range(layers)
        ]
        self.biases = [
            self._layer_weight(f"bias_{layer}", (width,), "zeros")
            for layer, width in enumerate(widths[1:])
        ]
        self.output_weights = glorot("output", dim // 2 + widths[-1], 1, layers)  # h

    def _layer_weight(self, name: str, shape: tuple[int, ...], initializer: Any) -> tf.Variable:
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, experimental_autocast=False
        )

    def score(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        of_users, of_items = self._user_side(users), self._item_side(items)
        product = dot_score(of_users.factors, of_items.factors)
        return product + self._upper_layers(of_users.hidden + of_items.hidden)

    def score_all(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Of a whole catalogue a part at a time: a pair takes dim / 2 numbers while it lasts."""
        of_users, of_items = self._user_side(users), self._item_side(items)
        product = dot_score_all(of_users.factors, of_items.factors)
        hidden = of_users.hidden[..., :, None, :]  # [..., b, 1, dim / 2]

        def perceptron(items: tf.Tensor) -> tf.Tensor:
            return self._upper_layers(hidden + items[..., None, :, :])

        if items.shape.rank == 2 and items.shape[0] > _ITEMS_AT_ONCE:
            return product + _in_blocks_of_items(perceptron, of_items.hidden)
        return product + perceptron(of_items.hidden)

    def _user_side(self, users: tf.Tensor) -> _Side:
        factors, rows = tf.split(users, 2, axis=-1)
        kernel = tf.cast(self.kernels[0][: self.dim // 2], users.dtype)
        bias, weights = (tf.cast(x, users.dtype) for x in (self.biases[0], self.output_weights))
        return _Side(factors * weights[: self.dim // 2, 0], tf.tensordot(rows, kernel, 1) + bias)

    def _item_side(self, items: tf.Tensor) -> _Side:
        factors, rows = tf.split(items, 2, axis=-1)
        kernel = tf.cast(self.kernels[0][self.dim // 2 :], items.dtype)
        return _Side(factors, tf.tensordot(rows, kernel, 1))

    def _upper_layers(self, hidden: tf.Tensor) -> tf.Tensor:
        """What the perceptron adds to scores, from its first layer before ReLU: [..., dim / 2]
        to [...]."""
        for kernel, bias in zip(self.kernels[1:], self.biases[1:], strict=True):
            kernel, bias = tf.cast(kernel, hidden.dtype), tf.cast(bias, hidden.dtype)
            hidden = tf.tensordot(tf.nn.relu(hidden), kernel, 1) + bias
        weights = tf.cast(self.output_weights[self.dim // 2 :], hidden.dtype)
        return tf.squeeze(tf.tensordot(tf.nn.relu(hidden), weights, 1), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layers": self.num_layers}


def _in_blocks_of_items(score: Callable[[tf.Tensor], tf.Tensor], items: tf.Tensor) -> tf.Tensor:
    """`score` [m, width] to [b, m], some m rows of [n, width] after others: [b, n]."""
    n, width = items.shape
    padded = tf.pad(items, [[0, -n % _ITEMS_AT_ONCE], [0, 0]])
    scores = tf.map_fn(
        score,
        tf.reshape(padded, [-1, _ITEMS_AT_ONCE, width]),
        fn_output_signature=tf.TensorSpec([None, _ITEMS_AT_ONCE], items.dtype),
        parallel_iterations=1,  # of memory for one block
    )  # [blocks, b, items]
    return tf.reshape(tf.transpose(scores, [1, 0, 2]), [tf.shape(scores)[1], -1])[:, :n]
