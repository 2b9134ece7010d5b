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

from typing import Any

import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions
from autosample_tf.models.contract import State
from autosample_tf.models.graph_model import GraphModel
from autosample_tf.randomness import Draws

_SLOPE = 0.2  # of LeakyReLU below 0


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
            sent = dropout(own, self.node_dropout, draws, f"{stream}-nodes", whole_rows=True)
            received = self._product(adjacency, sent)
            mixed = tf.matmul(received + own, self.sum_kernels[layer])
            mixed += tf.matmul(received * own, self.product_kernels[layer])
            mixed = tf.nn.leaky_relu(mixed, _SLOPE)
            layers.append(dropout(mixed, self.message_dropout, draws, f"{stream}-messages"))
        return tuple(layers)

    def users(self, state: tuple[tf.Tensor, ...], ids: tf.Tensor) -> tf.Tensor:
        return self.combine(self.user_layers(state, ids))

    def items(self, state: tuple[tf.Tensor, ...], ids: tf.Tensor) -> tf.Tensor:
        return self.combine(self.item_layers(state, ids))

    def rows_of_layers(self, state: State, places: tf.Tensor) -> tf.Tensor:
        # Scaled after the look-up: a step reads few of the nodes.
        first, *others = (tf.gather(layer, places) for layer in state)
        return tf.stack([first, *(tf.math.l2_normalize(x, axis=-1) for x in others)], axis=-2)

    def combine(self, layers: tf.Tensor) -> tf.Tensor:
        return tf.reshape(layers, [*layers.shape[:-2], self.dim])

    def layer_queries(self, users: tf.Tensor) -> tf.Tensor:
        return tf.reshape(users, [*users.shape[:-1], self.num_layers + 1, self.width])

    def get_config(self) -> dict[str, Any]:
        dropout = {"node_dropout": self.node_dropout, "message_dropout": self.message_dropout}
        return {**super().get_config(), **dropout}


def dropout(
    values: tf.Tensor, share: float, draws: Draws | None, stream: str, *, whole_rows: bool = False
) -> tf.Tensor:
    """Values with a share of them set to 0 and the others scaled up to the same mean.

    Args:
      values: [rows, width].
      share: in [0, 1).
      draws: a step's random numbers; None: the values as they are.
      stream: of the random numbers.
      whole_rows: leave out rows, not single entries.
    """
    if draws is None or not share:
        return values
    shape = [values.shape[0], 1 if whole_rows else values.shape[1]]
    left_out = draws.shared_chances(stream, shape, share)
    return values * tf.where(left_out, 0.0, 1.0 / (1.0 - share))
