"""Matrix factorization: a vector a user, a vector an item, their dot product."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from autosample_tf.models.contract import DotProduct
from autosample_tf.ops.randomness import Draws


class Tables(NamedTuple):
    """The representations of everybody and everything.

    Attributes:
      users: [num_users, dim], a variable or a tensor.
      items: [num_items, dim].
    """

    users: tf.Tensor
    items: tf.Tensor


class MF(DotProduct, tf.keras.Model):
    """Matrix factorization without biases, as in BPR-MF (Rendle et al., UAI 2009).

    Args:
      num_users: rows of the user table.
      num_items: rows of the item table.
      dim: entries of a vector.
      init_scale: standard deviation of the normal distribution that entries begin with.
      seed: of that beginning.
      dtype: a Keras dtype policy; None: the global one. Under `mixed_bfloat16` the tables are
        float32 and a training step's scores bfloat16.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        dim: int = 64,
        init_scale: float = 0.01,
        seed: int = 0,
        dtype: Any = None,
    ):
        super().__init__(name=type(self).__name__.lower(), dtype=dtype)
        self.num_users, self.num_items, self.dim = num_users, num_items, dim
        self.init_scale, self.seed = init_scale, seed
        self.user_table, self.item_table = (
            self.add_weight(
                name=name,
                shape=(rows, dim),
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=init_scale, seed=2 * seed + i
                ),
                experimental_autocast=False,  # rows are cast where they are scored, not tables
            )
            for i, (name, rows) in enumerate((("users", num_users), ("items", num_items)))
        )
        self.built = True

    def propagate(self, draws: Draws | None = None) -> Tables:
        return Tables(self.user_table, self.item_table)

    def users(self, state: Tables, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(state.users, ids)

    def items(self, state: Tables, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(state.items, ids)

    def call(self, pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Scores of (users [batch], items [batch]): [batch]."""
        users, items = pair
        state = self.propagate()
        return self.score(self.users(state, users), self.items(state, items))

    def get_config(self) -> dict[str, Any]:
        return {
            "num_users": self.num_users,
            "num_items": self.num_items,
            "dim": self.dim,
            "init_scale": self.init_scale,
            "seed": self.seed,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> MF:
        return cls(**config)
