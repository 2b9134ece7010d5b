"""LightGCN: matrix factorization whose vectors are smoothed over the user-item graph.

He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", SIGIR 2020: E^(l+1) = A E^(l), and the representation is
the layers' plain mean, alpha_l = 1 / (L + 1). L2 falls on E^(0) only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.graph import SymmetricProduct, normalized_adjacency
from autosample_tf.interactions import Interactions
from autosample_tf.models.contract import half_squared_norm
from autosample_tf.models.mf import MF, Tables


class LightGCN(MF):
    """MF's two tables as layer 0, propagated over the train graph.

    Args:
      interactions: the train pairs, which are the graph.
      layers: how many times vectors are averaged over neighbours, at least 1.
      dim: entries of a vector.
      init_scale: standard deviation of the normal distribution that entries begin with.
      seed: of that beginning.
      dtype: as of `MF`; the propagation is float32 under every policy.
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        layers: int = 3,
        dim: int = 64,
        init_scale: float = 0.01,
        seed: int = 0,
        dtype: Any = None,
    ):
        if layers < 1:
            raise expected("at least one layer", received=layers, remedy="Use mf for none.")
        super().__init__(
            interactions.num_users,
            interactions.num_items,
            dim=dim,
            init_scale=init_scale,
            seed=seed,
            dtype=dtype,
        )
        self._name = "lightgcn"
        self.num_layers = layers
        self._interactions = interactions
        size = interactions.num_users + interactions.num_items
        self._product = SymmetricProduct(*normalized_adjacency(interactions), size)

    def propagate(self) -> Tables:
        layers = [tf.concat([self.user_table, self.item_table], axis=0)]
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

    def user_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        return half_squared_norm(tf.gather(self.user_table, ids))

    def item_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        return half_squared_norm(tf.gather(self.item_table, ids))

    def get_config(self) -> dict[str, Any]:
        """The settings and the graph: a LightGCN without its graph is another model."""
        graph = {
            "offsets": self._interactions.offsets.tolist(),
            "items": self._interactions.items.tolist(),
            "num_items": self.num_items,
        }
        return {
            "interactions": graph,
            "layers": self.num_layers,
            "dim": self.dim,
            "init_scale": self.init_scale,
            "seed": self.seed,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LightGCN:
        graph = config["interactions"]
        interactions = Interactions(
            np.asarray(graph["offsets"], np.int64),
            np.asarray(graph["items"], np.int32),
            graph["num_items"],
        )
        return cls(**{**config, "interactions": interactions})
