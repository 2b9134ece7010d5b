"""LightGCN: matrix factorization whose vectors are smoothed over the user-item graph.

He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", SIGIR 2020: E^(l+1) = A E^(l), and the representation is
the layers' plain mean, alpha_l = 1 / (L + 1). L2 falls on E^(0) only.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.models.graph_model import GraphModel
from autosample_tf.models.mf import Tables
from autosample_tf.randomness import Draws


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

    def propagate(self, draws: Draws | None = None) -> Tables:
        layers = [self.layer_0()]
        adjacency = self._product.handle()
        for _ in range(self.num_layers):
            layers.append(self._product(adjacency, layers[-1]))
        mean = tf.add_n(layers) / len(layers)
        return Tables(mean[: self.num_users], mean[self.num_users :], tuple(layers))

    def user_layers(self, state: Tables, ids: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.gather(layer, ids) for layer in state.layers], axis=-2)

    def item_layers(self, state: Tables, ids: tf.Tensor) -> tf.Tensor:
        return self.user_layers(state, ids + self.num_users)

    def combine(self, layers: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(layers, axis=-2)

    def layer_queries(self, users: tf.Tensor) -> tf.Tensor:
        return tf.expand_dims(users, -2)
