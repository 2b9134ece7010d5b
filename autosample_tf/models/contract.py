"""What a model must offer for AutoSample to train it, and what models share."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import tensorflow as tf

from autosample_tf import require_keras_2

require_keras_2()

State = Any  # what one `propagate` hands to the other methods; only the model reads it


@dataclasses.dataclass(frozen=True, eq=False)
class Triples:
    """A batch's ids beside their representations, negatives of all samplers together.

    Attributes:
      users: [batch] int32.
      positives: [batch] int32.
      negatives: [batch, n] int32, the items that negatives are or come from.
      user_embeddings: [batch, dim].
      positive_embeddings: [batch, dim].
      negative_embeddings: [batch, n, dim], of the items in `negatives`.
    """

    users: tf.Tensor
    positives: tf.Tensor
    negatives: tf.Tensor
    user_embeddings: tf.Tensor
    positive_embeddings: tf.Tensor
    negative_embeddings: tf.Tensor


class Recommender(Protocol):
    """The model contract: representations of users and items, and a score of two.

    A training step calls `propagate` once, however many samplers there are, and then the
    other methods with its result. Samplers see representations and `score` only, so a
    score need not be a dot product. An implementation is a `tf.keras.Model` whose
    `trainable_variables` are what the optimizer moves.
    """

    num_users: int
    num_items: int
    dim: int
    trainable_variables: list[tf.Variable]

    def propagate(self) -> State:
        """Whatever is computed once a step from the parameters alone."""

    def users(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        """Representations of users: ids [...] int32 to [..., dim]."""

    def items(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        """Representations of items: ids [...] int32 to [..., dim]."""

    def score(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Scores, broadcasting: users [..., dim] and items [..., dim] to [...]."""

    def score_all(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Scores of every user with every item: [b, dim] and [n, dim] to [b, n]."""

    def regularization(self, triples: Triples, negative_weights: tf.Tensor) -> tf.Tensor:
        """Half the squared norms that L2 weighs, per example: [batch].

        1/2 (|u|^2 + |i|^2 + sum_j w_j |j|^2) of the layer-0 rows, w being
        `negative_weights` [batch, n].
        """


@runtime_checkable
class Layered(Protocol):
    """What a graph model offers besides, for samplers that choose layer by layer."""

    def user_layers(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        """Users before their layers are combined: ids [...] to [..., layers, width]."""

    def item_layers(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        """Items before their layers are combined: ids [...] to [..., layers, width]."""

    def combine(self, layers: tf.Tensor) -> tf.Tensor:
        """Representations of layers: [..., layers, width] to [..., dim]."""

    def layer_queries(self, users: tf.Tensor) -> tf.Tensor:
        """What an item's layers are scored against, layer by layer.

        User representations [..., dim] to [..., layers or 1, width]: where layers are
        averaged the representation itself, where they are concatenated its own layers.
        """


def dot_score(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """The dot product over the last axis, broadcasting over the others."""
    return tf.reduce_sum(users * items, axis=-1)


def dot_score_all(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """All dot products of users [b, dim] with items [n, dim]: [b, n]."""
    return tf.matmul(users, items, transpose_b=True)


def half_squared_norms(
    users: tf.Tensor, positives: tf.Tensor, negatives: tf.Tensor, negative_weights: tf.Tensor
) -> tf.Tensor:
    """1/2 (|u|^2 + |i|^2 + sum_j w_j |j|^2): [batch, dim] twice, [batch, n, dim], [batch, n]."""

    def squared(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square(x), axis=-1)

    weighted = tf.reduce_sum(negative_weights * squared(negatives), axis=-1)
    return 0.5 * (squared(users) + squared(positives) + weighted)
