"""What a model must offer for AutoSample to train it, and what models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import tensorflow as tf

from autosample_tf import require_keras_2
from autosample_tf.interactions import Interactions
from autosample_tf.ops.randomness import Draws

require_keras_2()

State = Any  # what one `propagate` hands to the other methods; only the model reads it


class Recommender(Protocol):
    """The model contract: representations of users and items, and a score of two.

    A training step calls `propagate` once, however many samplers there are, and then the
    other methods with its result. Samplers see representations and `score` only, so a
    score need not be a dot product. An implementation is a `tf.keras.Model` whose
    `trainable_variables` are what the optimizer moves, and whose dtype policy is that of
    Keras' mixed precision: see `step_score`.
    """

    num_users: int
    num_items: int
    dim: int
    built: bool
    compute_dtype: str
    trainable_variables: list[tf.Variable]
    variables: list[tf.Variable]
    losses: list[tf.Tensor]  # of its layers' regularizers, and what they added; for training

    def propagate(self, draws: Draws | None = None) -> State:
        """Whatever is computed once a step from the parameters alone.

        Args:
          draws: a training step's random numbers, for dropout; None: nothing is dropped.
        """

    def users(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        """Representations of users: ids [...] int32 to [..., dim]."""

    def items(self, state: State, ids: tf.Tensor) -> tf.Tensor:
        """Representations of items: ids [...] int32 to [..., dim]."""

    def score(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Scores, broadcasting: users [..., dim] and items [..., dim] to [...], in the dtype
        of what they are of, as are those of `score_all`."""

    def score_all(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Scores of every user with every item: [..., b, dim] and [..., n, dim] to
        [..., b, n], of blocks of users with items of their own as well."""

    def user_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        """What L2 weighs of users: half the squared norms of their layer-0 rows.

        Args:
          ids: [...] int32.
          embeddings: [..., dim], their representations, which a model without layers has
            its rows in already.

        Returns:
          [...].
        """

    def item_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        """Likewise of items."""


@runtime_checkable
class Layered(Protocol):
    """What a graph model offers besides, for samplers that choose layer by layer.

    Attributes:
      width: entries of a vector in a layer.
    """

    width: int

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


def layer_width(model: Recommender) -> int:
    """Entries of a layer's vector: of a model without layers, of a representation."""
    return model.width if isinstance(model, Layered) else model.dim


@runtime_checkable
class Prepared(Protocol):
    """What a model offers besides whose propagation begins with what no step changes."""

    def prepared(self) -> AbstractContextManager[None]:
        """While it lasts, propagations of one graph, in its loops too, share that beginning."""


@runtime_checkable
class Featured(Protocol):
    """What a model of features offers besides: one whose queries are no rows of a table.

    It is trained on batches of features. Its `users`, given the state of a batch, are that
    batch's queries. To embed an item costs more than a look-up there, so that what is only
    chosen among comes from a cache of the catalogue.

    Attributes:
      train: the pairs being trained on.
      staleness: how far items had moved since they were cached, where the cache was renewed:
        the distance over the length, averaged over the catalogue.
    """

    train: Interactions
    staleness: tf.keras.metrics.Metric

    def check_batches(self, spec: Any) -> None:
        """Refuses a dataset's `element_spec` that it cannot be trained on, with an `InputError`."""

    def examples(self, features: Mapping[str, tf.Tensor], step: tf.Tensor) -> dict[str, Any]:
        """A batch of features as one of `pipeline.training_batches`, `features` among it.

        Args:
          features: [batch, …] each.
          step: a scalar int64, from 0.
        """

    def propagate_batch(self, features: Mapping[str, tf.Tensor], *, training: bool) -> State:
        """The state of a step on a batch of features.

        It has an `added`, a scalar: what the layers that embed queries added to the loss.
        """

    def cached_items(self, ids: tf.Tensor) -> tf.Tensor:
        """Items as the cache has them, without gradient: ids [...] to [..., dim]."""

    def renew_cache(self, step: tf.Tensor) -> None:
        """Embeds the whole catalogue anew in steps in which that is due, in the graph."""


def step_score(
    model: Recommender, users: tf.Tensor, items: tf.Tensor, *, cosine: bool = False
) -> tf.Tensor:
    """`model.score` as a training step reads it: computed in the model's compute dtype.

    Under the policy `mixed_bfloat16` the products of representations, and their gradients,
    are bfloat16; what goes in and comes out is float32, as are tables, propagation, losses
    and optimizers. Evaluation asks the model itself, which scores what it is given.

    Args:
      model: whose score.
      users: [..., dim].
      items: [..., dim], broadcasting against users.
      cosine: score representations of length 1, whose inner products are cosines.

    Returns:
      [...], in the dtype of `users`.
    """
    return _computed(model.score, model.compute_dtype, users, items, cosine)


def step_score_all(
    model: Recommender, users: tf.Tensor, items: tf.Tensor, *, cosine: bool = False
) -> tf.Tensor:
    """`model.score_all`, likewise: [..., b, dim] and [..., n, dim] to [..., b, n]."""
    return _computed(model.score_all, model.compute_dtype, users, items, cosine)


def _computed(
    score: Callable[..., tf.Tensor], dtype: str, users: tf.Tensor, items: tf.Tensor, cosine: bool
) -> tf.Tensor:
    """A score in another dtype; where it is the same one, `tf.cast` adds nothing."""
    if cosine:
        users, items = (tf.math.l2_normalize(rows, axis=-1) for rows in (users, items))
    return tf.cast(score(tf.cast(users, dtype), tf.cast(items, dtype)), users.dtype)


def dot_score(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """The dot product over the last axis, broadcasting over the others."""
    return tf.reduce_sum(users * items, axis=-1)


def dot_score_all(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """All dot products of users [..., b, dim] with items [..., n, dim]: [..., b, n]."""
    return tf.matmul(users, items, transpose_b=True)


class DotProduct:
    """What models have in common whose score is the dot product of representations, which L2
    weighs."""

    def score(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return dot_score(users, items)

    def score_all(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return dot_score_all(users, items)

    def user_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        return half_squared_norm(embeddings)

    def item_penalty(self, ids: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
        return half_squared_norm(embeddings)


def is_dot_product(kind: type) -> bool:
    """Whether a model's class says, by deriving from `DotProduct`, that its score is one."""
    return getattr(kind, "score", None) is DotProduct.score


def half_squared_norm(rows: tf.Tensor) -> tf.Tensor:
    """[..., dim] to [...]."""
    return 0.5 * tf.reduce_sum(tf.square(rows), axis=-1)
