"""LightGCN: matrix factorization whose vectors are smoothed over the user-item graph.

He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", SIGIR 2020: E^(l+1) = A E^(l), and the representation is
the layers' plain mean, alpha_l = 1 / (L + 1). L2 falls on E^(0) only.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from autosample_tf.models.contract import State
from autosample_tf.models.graph_model import GraphModel
from autosample_tf.ops.randomness import Draws


class Smoothed(NamedTuple):
    """What a propagation gives, [num_users + num_items, dim] each, in the graph's order.

    Attributes:
      mean: the representations.
      layers: from layer 0 on.
    """

    mean: tf.Tensor
    layers: tuple[tf.Tensor, ...]


class LightGCN(GraphModel):
    """Layers averaged over neighbours, and over each other.

    Args:
      interactions: the train pairs, which are the graph.
      layers: how many times vectors are averaged over neighbours, at least 1.
      dim: entries of a vector.
      init_scale: standard deviation of the normal distribution that entries begin with.
      seed: of that beginning.
      dtype: as of `MF`; the propagation is float32 under every policy.
    """

    def propagate(self, draws: Draws | None = None) -> State:
        layers = [self.layer_0()]
        adjacency = self._product.handle()
        for _ in range(self.num_layers):
            layers.append(self._product(adjacency, layers[-1]))
        return Smoothed(tf.add_n(layers) / len(layers), tuple(layers))

    def users(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(state.mean, self.user_places(ids))

    def items(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(state.mean, self.item_places(ids))

    def rows_of_layers(self, state: State, places: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.gather(layer, places) for layer in state.layers], axis=-2)

    def combine(self, layers: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(layers, axis=-2)

    def layer_queries(self, users: tf.Tensor) -> tf.Tensor:
        return tf.expand_dims(users, -2)
