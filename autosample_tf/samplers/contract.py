"""What a negative sampler is given, what it must answer, and when it is asked."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions
from autosample_tf.randomness import Draws

LOWEST = np.finfo(np.float32).min  # a masked candidate's score: finite, so no NaN follows


@dataclasses.dataclass(frozen=True)
class Card:
    """What `autosample-tf samplers` tells of a sampler.

    Attributes:
      name: what it is called in a SPEC.
      rule: which items it draws, in one line.
      cost: what a step pays for it, in scored candidates and look-ups.
      source: the publication, and where we differ from it.
    """

    name: str
    rule: str
    cost: str
    source: str


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """Uniform candidates, drawn, checked and scored once for all samplers of a step.

    Attributes:
      items: [batch, n] int32, drawn with replacement from the whole catalogue.
      allowed: [batch, n] bool, false where the item is a train positive of the user.
      scores: [batch, n] float32 without gradient; `LOWEST` where not allowed.
    """

    items: tf.Tensor
    allowed: tf.Tensor
    scores: tf.Tensor

    def first(self, n: int) -> Pool:
        """The first n columns."""
        return Pool(self.items[:, :n], self.allowed[:, :n], self.scores[:, :n])


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """One training step, as samplers see it.

    Attributes:
      users: [batch] int32.
      positives: [batch] int32.
      user_embeddings: [batch, dim], with gradient: for synthesized negatives only.
      positive_embeddings: [batch, dim], likewise.
      positive_scores: [batch], without gradient.
      pool: the shared candidates, as wide as the widest wish of any active sampler.
      draws: stateless random numbers; use the own spec as the stream's name.
      is_positive: (users [batch], items [batch, n]) to [batch, n] bool: train positives.
      embed: items [...] to [..., dim], with gradient.
      score: (users [..., dim], items [..., dim]) to [...].
    """

    users: tf.Tensor
    positives: tf.Tensor
    user_embeddings: tf.Tensor
    positive_embeddings: tf.Tensor
    positive_scores: tf.Tensor
    pool: Pool
    draws: Draws
    is_positive: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    embed: Callable[[tf.Tensor], tf.Tensor]
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Negatives:
    """A sampler's answer for one batch.

    Attributes:
      items: [batch, n] int32; for a synthesized negative, the item it comes from.
      weights: [batch, n] float32 >= 0, used without gradient: 0 is masked, and the
        others sum to 1 over n. A row of zeros: no negative for this example.
      embeddings: [batch, n, dim] of synthesized negatives, with gradient; None: the
        items' own, gathered once for all samplers.
      scale: [batch] factor on the example's loss (WARP's rank weight); None: 1.
      log_q: [batch, n], log of the probability with which each was drawn; None: unknown.
      auxiliary_loss: a scalar that the sampler trains for itself; None: 0.
    """

    items: tf.Tensor
    weights: tf.Tensor
    embeddings: tf.Tensor | None = None
    scale: tf.Tensor | None = None
    log_q: tf.Tensor | None = None
    auxiliary_loss: tf.Tensor | None = None


class Sampler(tf.Module):
    """The sampler contract: `sample`, and what surrounds it.

    `sample` runs inside the training step's graph: static shapes, no Python per batch, no
    `py_function`. Constructor arguments are stored under their own names: they are the
    options of the sampler's spec. A sampler's `tf.Variable`s are made in `build`, so that
    they come under the strategy's scope and into the run's checkpoint.

    Attributes:
      card: what the command line tells of it; a class outside this package may omit it.
      pool: how many columns of the shared pool it reads.
    """

    card: ClassVar[Card | None] = None
    pool: int = 0

    def __init__(self) -> None:
        super().__init__()  # without tf.Module's `name`, which is no option of a sampler

    def build(self, train: Interactions, dim: int) -> None:
        """Prepares tables and variables from the train pairs; called once."""

    def sample(self, context: Context) -> Negatives:
        """Negatives for one batch; none with weight > 0 is a train positive."""
        raise NotImplementedError

    def update(self, context: Context, negatives: Negatives) -> None:
        """Changes state after a step, in the graph."""

    def refresh(self) -> None:
        """Changes state after an epoch."""

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, by name, in the order of its signature."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @property
    def spec(self) -> str:
        """The canonical spec, all options spelled out: `dns:pool=32`.

        A class outside this package goes by `module:Class`, whatever its card says: its
        name is in no registry that could lead back to it.
        """
        own = type(self)
        registered = own.card is not None and own.__module__.startswith(__package__ + ".")
        name = own.card.name if registered else f"{own.__module__}:{own.__qualname__}"
        options = ",".join(f"{key}={value}" for key, value in self.options().items())
        return f"{name}:{options}" if options else name


def check_pool(name: str, pool: int) -> int:
    """The pool, or an `InputError` where a sampler asks for no candidate."""
    if pool < 1:
        raise expected(f"{name}'s pool of at least 1", received=pool, remedy="Raise it.")
    return pool


def pick(candidates: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The chosen column of each row: [batch, n] and [batch] to [batch, 1]."""
    return tf.gather(candidates, columns[:, None], batch_dims=1)


def one_hardest(pool: Pool) -> Negatives:
    """Each row's best-scored allowed candidate, as the only negative."""
    best = tf.argmax(pool.scores, axis=1, output_type=tf.int32)
    return Negatives(items=pick(pool.items, best), weights=row_weight(pool.allowed))


def first_allowed(items: tf.Tensor, allowed: tf.Tensor) -> Negatives:
    """Each row's first allowed candidate: of independent draws, a draw among the allowed.

    Args:
      items: [batch, n] int32, drawn independently.
      allowed: [batch, n] bool.
    """
    first = tf.argmax(tf.cast(allowed, tf.int8), axis=1, output_type=tf.int32)
    return Negatives(items=pick(items, first), weights=row_weight(allowed))


def row_weight(allowed: tf.Tensor) -> tf.Tensor:
    """[batch, 1] float32: 1 where the row has an allowed candidate, else 0."""
    return tf.cast(tf.reduce_any(allowed, axis=1, keepdims=True), tf.float32)
