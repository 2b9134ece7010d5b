"""What the models over the user-item graph share: two tables as layer 0, and their config.

Users come first among the graph's nodes, then items; within a propagation they stand in the order
of `node_order`, tables and ids know nothing of it. L2 falls on layer 0 only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions
from autosample_tf.models.contract import State, half_squared_norm
from autosample_tf.models.graph import Reordering, SymmetricProduct, normalized_adjacency
from autosample_tf.models.mf import MF
from autosample_tf.models.node_order import node_order


class GraphModel(MF):
    """MF's two tables as layer 0, to be propagated over the train graph.

    Args:
      interactions: the train pairs, which are the graph.
      layers: how many times vectors meet their neighbours', at least 1.
      dim: entries of a vector in each layer.
      init_scale: standard deviation of the normal distribution that entries begin with.
      seed: of that beginning.
      dtype: as of `MF`; the propagation is float32 under every policy.

    Attributes:
      width: entries of a vector in each layer.
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
        self.num_layers, self.width = layers, dim
        self._interactions = interactions
        self.num_nodes = interactions.num_users + interactions.num_items
        indices, values = normalized_adjacency(interactions)
        sizes = interactions.num_users, interactions.num_items
        self._reordering = Reordering(node_order(indices, values, sizes))
        matrix = self._reordering.matrix(indices, values)
        self._product = SymmetricProduct(*matrix, self.num_nodes)

    def prepared(self) -> AbstractContextManager[None]:
        """See `contract.Prepared`: the matrix is made once."""
        return self._product.shared()

    def layer_0(self) -> tf.Tensor:
        """[num_users + num_items, width], in the graph's order."""
        return self._reordering.apply(tf.concat([self.user_table, self.item_table], axis=0))

    def rows_of_layers(self, state: State, places: tf.Tensor) -> tf.Tensor:
        """Representations layer by layer, [..., layers, width], of nodes by their places."""
        raise NotImplementedError

    def user_layers(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        return self.rows_of_layers(state, self.user_places(ids))

    def item_layers(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        return self.rows_of_layers(state, self.item_places(ids))

    def user_places(self, ids: tf.Tensor) -> tf.Tensor:
        """The users' rows of a layer."""
        return self._reordering.places(ids)

    def item_places(self, ids: tf.Tensor) -> tf.Tensor:
        """The items' rows of a layer."""
        return self._reordering.places(ids + self.num_users)

    def user_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        return half_squared_norm(tf.gather(self.user_table, ids))

    def item_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        return half_squared_norm(tf.gather(self.item_table, ids))

    def get_config(self) -> dict[str, Any]:
        """The settings and the graph: without its graph it is another model."""
        graph = {
            "offsets": self._interactions.offsets.tolist(),
            "items": self._interactions.items.tolist(),
            "num_items": self.num_items,
        }
        return {
            "interactions": graph,
            "layers": self.num_layers,
            "dim": self.width,
            "init_scale": self.init_scale,
            "seed": self.seed,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GraphModel:
        graph = config["interactions"]
        interactions = Interactions(
            np.asarray(graph["offsets"], np.int64),
            np.asarray(graph["items"], np.int32),
            graph["num_items"],
        )
        return cls(**{**config, "interactions": interactions})
