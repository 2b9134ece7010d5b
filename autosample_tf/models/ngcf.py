"""NGCF: layers that mix a node's vector with its neighbours', and with their product.

Wang et al., "Neural Graph Collaborative Filtering", SIGIR 2019, equation 7:

    E^(l+1) = LeakyReLU((A + I) E^(l) W_1 + (A E^(l) * E^(l)) W_2)

and the representation is all layers side by side. As in the authors' code, a slope of 0.2
below 0, and every layer but the 0th is scaled to length 1 where it is read, not where the next
one begins; unlike there, one LeakyReLU over the sum, no biases, A as LightGCN's, and L2 on
layer 0 instead of the representations.

While training, dropout: of nodes, whose messages to all neighbours are left out of a layer (the
paper's; the code drops entries of A), and of messages, single entries of a layer. What is left
is scaled up to the same mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions
from autosample_tf.models.contract import State
from autosample_tf.models.graph_model import GraphModel
from autosample_tf.ops.randomness import Draws

_SLOPE = 0.2  # of LeakyReLU below 0


class Mixed(NamedTuple):
    """What a propagation gives, in the graph's order: the last layer is mixed where it is read.

    Attributes:
      layers: [num_nodes, width] each, from layer 0 to the last but one.
      received: [num_nodes, width], from the neighbours, to be mixed into the last one.
      dropped: of that one, see `left_out`.
    """

    layers: tuple[tf.Tensor, ...]
    received: tf.Tensor
    dropped: tuple[tf.Tensor, ...]


class NGCF(GraphModel):
    """Bi-interaction layers, concatenated: `dim` is that of all together.

    Args:
      interactions: the train pairs, which are the graph.
      layers: bi-interaction layers, at least 1.
      dim: entries of a vector in each layer; a representation has (layers + 1) times as many.
      node_dropout: share of nodes that send no messages in a layer and step, in [0, 1).
      message_dropout: share of a layer's entries left out, in [0, 1).
      init_scale: standard deviation of the normal distribution that tables begin with; the
        layers' matrices begin as Glorot & Bengio have it.
      seed: of that beginning.
      dtype: as of `MF`; the propagation is float32 under every policy.

    Raises:
      InputError: for no layer, or a dropout out of range.
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        layers: int = 3,
        dim: int = 64,
        node_dropout: float = 0.1,
        message_dropout: float = 0.1,
        init_scale: float = 0.01,
        seed: int = 0,
        dtype: Any = None,
    ):
        super().__init__(
            interactions,
            layers=layers,
            dim=dim,
            init_scale=init_scale,
            seed=seed,
            dtype=dtype,
        )
        for name, share in (("node_dropout", node_dropout), ("message_dropout", message_dropout)):
            if not 0 <= share < 1:
                raise expected(f"a {name} in [0, 1)", received=share, remedy="Change it.")
        self.node_dropout, self.message_dropout = node_dropout, message_dropout
        self.dim = (layers + 1) * dim
        self.sum_kernels, self.product_kernels = (
            [
                self.add_weight(
                    name=f"{kind}_kernel_{layer}",
                    shape=(dim, dim),
                    initializer=tf.keras.initializers.GlorotUniform(
                        seed=2 * (layers * seed + layer) + i
                    ),
                    experimental_autocast=False,
                )
                for layer in range(layers)
            ]
            for i, kind in enumerate(("sum", "product"))
        )

    def propagate(self, draws: Draws | None = None) -> State:
        layers = [self.layer_0()]
        adjacency = self._product.handle()
        for layer in range(self.num_layers):
            own, stream = layers[-1], f"ngcf-{layer}"
            silent = left_out([self.num_nodes, 1], self.node_dropout, draws, f"{stream}-nodes")
            received = self._product(adjacency, without(silent, own, self.node_dropout))
            dropped = left_out(own.shape, self.message_dropout, draws, f"{stream}-messages")
            if layer < self.num_layers - 1:
                mixed = self._mixed(layer, own, received)
                layers.append(without(dropped, mixed, self.message_dropout))
        return Mixed(tuple(layers), received, dropped)

    def _mixed(self, layer: int, own: tf.Tensor, received: tf.Tensor) -> tf.Tensor:
        """Some nodes' vectors of the layer behind this one, [n, width] each."""
        mixed = tf.matmul(received + own, self.sum_kernels[layer])
        mixed += tf.matmul(received * own, self.product_kernels[layer])
        return tf.nn.leaky_relu(mixed, _SLOPE)

    def users(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        return self.combine(self.user_layers(state, ids))

    def items(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        return self.combine(self.item_layers(state, ids))

    def rows_of_layers(self, state: State, places: tf.Tensor) -> tf.Tensor:
        # The last layer is mixed, and all are scaled, after the look-up: a step reads few nodes.
        nodes = tf.reshape(places, [-1])
        rows = [tf.gather(layer, nodes) for layer in state.layers]
        last = self._mixed(self.num_layers - 1, rows[-1], tf.gather(state.received, nodes))
        dropped = tuple(tf.gather(entries, nodes) for entries in state.dropped)
        first, *others = (*rows, without(dropped, last, self.message_dropout))
        scaled = [first, *(tf.math.l2_normalize(x, axis=-1) for x in others)]
        return tf.reshape(tf.stack(scaled, axis=-2), [*places.shape, len(scaled), self.width])

    def combine(self, layers: tf.Tensor) -> tf.Tensor:
        return tf.reshape(layers, [*layers.shape[:-2], self.dim])

    def layer_queries(self, users: tf.Tensor) -> tf.Tensor:
        return tf.reshape(users, [*users.shape[:-1], self.num_layers + 1, self.width])

    def get_config(self) -> dict[str, Any]:
        dropout = {"node_dropout": self.node_dropout, "message_dropout": self.message_dropout}
        return {**super().get_config(), **dropout}


def left_out(
    shape: Sequence[int], share: float, draws: Draws | None, stream: str
) -> tuple[tf.Tensor, ...]:
    """Which entries drop out, [*shape] bool; none where nothing does.

    Args:
      shape: of what is dropped from, 1 where entries drop out together.
      share: in [0, 1).
      draws: a step's random numbers; None: nothing drops out.
      stream: of the random numbers.
    """
    return (draws.shared_chances(stream, shape, share),) if draws is not None and share else ()


def without(dropped: tuple[tf.Tensor, ...], values: tf.Tensor, share: float) -> tf.Tensor:
    """Values, of what `left_out` tells 0 and of the others scaled up to the same mean."""
    for entries in dropped:
        values *= tf.where(entries, 0.0, 1.0 / (1.0 - share))
    return values
