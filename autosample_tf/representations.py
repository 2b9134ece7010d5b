"""A trained model as rankings and exports need it: vectors that no longer change.

A graph model's propagation is done once, not once a block of users; items can be fewer than
the catalogue's, or stored with less precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from autosample_tf.models import Recommender


@dataclasses.dataclass(frozen=True, eq=False)
class Representations:
    """The vectors of everybody and everything; what `Ranker` reads of a model.

    Attributes:
      user_vectors: [num_users, dim] float32.
      item_vectors: [num_items, dim] float32.
      score_all: the model's: users [b, dim] and items [n, dim] to [b, n].
    """

    user_vectors: tf.Tensor
    item_vectors: tf.Tensor
    score_all: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

    @classmethod
    def of(cls, model: Recommender) -> Representations:
        """Those of a model as its parameters stand."""
        state = model.propagate()
        users = model.users(state, tf.range(model.num_users))
        return cls(users, model.items(state, tf.range(model.num_items)), model.score_all)

    @property
    def num_users(self) -> int:
        return self.user_vectors.shape[0]

    @property
    def num_items(self) -> int:
        return self.item_vectors.shape[0]

    def of_items(self, items: np.ndarray) -> Representations:
        """The same with some items [n] alone, which are then numbered from 0."""
        return self.with_item_vectors(tf.gather(self.item_vectors, items))

    def with_item_vectors(self, vectors: tf.Tensor) -> Representations:
        """The same with other vectors of items [n, dim]."""
        return dataclasses.replace(self, item_vectors=vectors)

    def propagate(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self.user_vectors, self.item_vectors

    def users(self, state: tuple[tf.Tensor, tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(state[0], ids)

    def items(self, state: tuple[tf.Tensor, tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(state[1], ids)
