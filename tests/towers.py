"""Two towers over the toy world, and batches of its features."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from worlds import NEWCOMER, NUM_ITEMS, from_dense, to_dense, toy_train

from autosample_tf.interactions import Interactions
from autosample_tf.models import TwoTower
from autosample_tf.pipeline import EXAMPLE_WEIGHT

DIM = 4
IDS = np.array([f"item {i:02d}" for i in range(NUM_ITEMS)])


def toy_pairs() -> Interactions:
    """The toy world's train pairs without the user who has none: whom examples tell of."""
    return from_dense(to_dense(toy_train())[:NEWCOMER])


def toy_candidates() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(
        {"movie_id": IDS, "year": np.linspace(-1, 1, NUM_ITEMS, dtype=np.float32)}
    )


def features_of(users: Any, items: Any) -> dict[str, np.ndarray]:
    """By name the features of examples; `hour` changes from row to row."""
    users, items = np.asarray(users), np.asarray(items)
    hours = np.sin(np.arange(len(users), dtype=np.float32))
    return {"user_id": users.astype(np.int64), "hour": hours, "movie_id": IDS[items]}


def toy_examples() -> tf.data.Dataset:
    pairs = toy_pairs()
    return tf.data.Dataset.from_tensor_slices(features_of(pairs.users, pairs.items))


def feature_batch(users: Any, items: Any, weights: Any = None) -> dict[str, tf.Tensor]:
    batch = {name: tf.constant(values) for name, values in features_of(users, items).items()}
    if weights is not None:
        batch[EXAMPLE_WEIGHT] = tf.constant(weights, tf.float32)
    return batch


def look_up(vocabulary: Any, dim: int = DIM, seed: int = 0) -> tf.keras.Model:
    """A tower of a table, as in TFRS's tutorial; the first row is of what is not known."""
    text = np.asarray(vocabulary).dtype.kind == "U"
    layer = tf.keras.layers.StringLookup if text else tf.keras.layers.IntegerLookup
    initializer = tf.keras.initializers.RandomNormal(stddev=0.7, seed=seed)
    return tf.keras.Sequential(
        [
            layer(vocabulary=np.asarray(vocabulary).tolist(), mask_token=None),
            tf.keras.layers.Embedding(len(vocabulary) + 1, dim, initializer),
        ]
    )


def table_towers(**settings: Any) -> TwoTower:
    """Towers that are MF's two tables."""
    settings = {
        "train": toy_examples(),
        "query_id": "user_id",
        "query_features": "user_id",
        "candidate_features": "movie_id",
        **settings,
    }
    queries = look_up(np.arange(toy_pairs().num_users), seed=1)
    return TwoTower(queries, look_up(IDS, seed=2), toy_candidates(), **settings)


def tables_of(towers: TwoTower) -> list[np.ndarray]:
    """Of users and of items, without the row of the unknown."""
    return [variable.numpy()[1:] for variable in towers.trainable_variables]
