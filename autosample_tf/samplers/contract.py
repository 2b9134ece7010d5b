"""What a negative sampler is given, what it must answer, and when it is asked."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.ops.randomness import Draws

LOWEST = np.finfo(np.float32).min  # a masked candidate's score: finite, so no NaN follows


@dataclasses.dataclass(frozen=True)
class Card:
    """What `autosample-tf samplers` tells of a sampler.

    Attributes:
      name: what it is called in a SPEC.
      formula: which items it draws, in one line.
      cost: what a step pays for it, in scored candidates and look-ups.
      source: the publication.
      defaults: for each option, where its default comes from.
    """

    name: str
    formula: str
    cost: str
    source: str
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Feedback:
    """What samplers may know of the data: nothing of validation or test.

    Attributes:
      train: the positives being trained on, in memory or streamed.
      given: negatives that the data brings along (impressions, dislikes); None: it has none.
    """

    train: Pairs
    given: Interactions | None = None

    @property
    def rows(self) -> Interactions:
        """The positives, each user's at hand.

        Raises:
          InputError: if they are streamed.
        """
        if not isinstance(self.train, Interactions):
            raise expected(
                "data in memory for samplers that look up each user's train pairs",
                received="sharded data, which is streamed",
                remedy="Take samplers that do not; docs/data.md lists them.",
            )
        return self.train


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """Uniform candidates, drawn, checked and scored once for all samplers of a step.

    A block of the batch's rows shares its items (see `step.pool`): for each row they are
    uniform draws, but rows of a block have the same.

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
class Layers:
    """The representations of a graph model before its layers are pooled into one.

    A model without layers has the one, of its ordinary representations.

    Attributes:
      users: [batch, layers, width], with gradient, as are the others.
      positives: [batch, layers, width].
      queries: [batch, layers, width]: what an item's layers are scored against, one by one.
      embed: items [...] to [..., layers, width].
      embed_pool: the first n items of the pool, once for each block of rows that shares them:
        [blocks, n, layers, width], rows / blocks rows of the batch after one another a block.
      combine: [..., layers, width] to [..., dim], the representation.
    """

    users: tf.Tensor
    positives: tf.Tensor
    queries: tf.Tensor
    embed: Callable[[tf.Tensor], tf.Tensor]
    embed_pool: Callable[[int], tf.Tensor]
    combine: Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """One training step, as samplers see it.

    Attributes:
      users: [batch] int32.
      positives: [batch] int32.
      example_weight: [batch] float32, 0 for the padding of an epoch's last batch.
      user_embeddings: [batch, dim], with gradient: for synthesized negatives only.
      positive_embeddings: [batch, dim], likewise.
      positive_scores: [batch], without gradient.
      pool: the shared candidates, as wide as the widest wish of any active sampler.
      progress: scalar in [0, 1], how much of the training is done.
      draws: stateless random numbers; use the own spec as the stream's name.
      is_positive: (users [batch], items [batch, n]) to [batch, n] bool: train positives.
      embed: items [...] to [..., dim], with gradient.
      embed_cached: items [...] to [..., dim], without gradient, to choose among many by:
        where embedding an item costs more than a look-up, as it was some steps before.
      embed_pool: columns of the pool [batch, n] int32 to their items' representations
        [batch, n, dim], with gradient; no look-up.
      score: (users [..., dim], items [..., dim]) to [...], float32 under every precision.
      loss: (positive scores [batch], negative scores [batch, n]) to [batch, n].
      layers: makes the `Layers`; costs look-ups in every layer, once a step.
    """

    users: tf.Tensor
    positives: tf.Tensor
    example_weight: tf.Tensor
    user_embeddings: tf.Tensor
    positive_embeddings: tf.Tensor
    positive_scores: tf.Tensor
    pool: Pool
    progress: tf.Tensor
    draws: Draws
    is_positive: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    embed: Callable[[tf.Tensor], tf.Tensor]
    embed_cached: Callable[[tf.Tensor], tf.Tensor]
    embed_pool: Callable[[tf.Tensor], tf.Tensor]
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    layers: Callable[[], Layers]


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
      columns: [batch, n] int32, where in the step's pool the items stand, if they are from
        it: as they are, they are scored already then, and cost nothing more. None: they
        are looked up. Must agree with `items`; a candidate list of one's own is no pool.
      log_q: [batch, n], log of the probability with which each was drawn, of the user's
        unobserved items; or an estimate of it, see `selection.log_of_pool`. Over a step's
        draws the mean of f / q is in expectation the sum of f over what can be drawn. None:
        unknown.
      auxiliary_loss: a scalar that the sampler trains for itself, a mean over this
        replica's rows (`selection.auxiliary_mean`), which are averaged; None: 0.
    """

    items: tf.Tensor
    weights: tf.Tensor
    embeddings: tf.Tensor | None = None
    columns: tf.Tensor | None = None
    scale: tf.Tensor | None = None
    log_q: tf.Tensor | None = None
    auxiliary_loss: tf.Tensor | None = None


class Sampler(tf.Module):
    """The sampler contract: `sample`, and what surrounds it.

    `sample` runs inside the training step's graph: static shapes, no Python per batch, no
    `py_function`. Constructor arguments are stored under their own names: they are the
    options of the sampler's spec. A sampler's `tf.Variable`s are made in `build`, so that
    they come under the strategy's scope and into the run's checkpoint; `state_variable`
    makes those that `update` assigns. Trainable ones have an optimizer of their own.

    Attributes:
      card: what the command line tells of it; a class outside this package may omit it.
      knows_log_q: whether its answers have `log_q`.
      layer_by_layer: whether the `dim` that `build` is told is a layer's, for variables as wide
        as one; of models without layers and of those that average them it is the same.
      needs_rows: whether `build` reads each user's train pairs, `Feedback.rows`, which
        streamed data has not at hand.
      follows_progress: whether it changes with `Context.progress`, so that it has to be known how
        long training is.
      pool: how many columns of the shared pool it reads.
      is_built: whether an `AutoSample` has it already, whose tables and state it then holds.
    """

    card: ClassVar[Card | None] = None
    knows_log_q: ClassVar[bool] = False
    layer_by_layer: ClassVar[bool] = False
    needs_rows: bool = False
    follows_progress: ClassVar[bool] = False
    pool: int = 0
    is_built: bool = False

    def __init__(self) -> None:
        super().__init__()  # without tf.Module's `name`, which is no option of a sampler

    def check(self, feedback: Feedback) -> None:
        """Raises `InputError` where the data lacks what the sampler draws from.

        Runs ask before they write anything; `build` must raise the same.
        """
        if self.needs_rows:
            _ = feedback.rows

    def build(self, feedback: Feedback, dim: int) -> None:
        """Prepares tables and variables from the train pairs; called once.

        Args:
          feedback: what may be known of the data.
          dim: entries of a representation, or of a layer, see `layer_by_layer`.
        """

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
        """The canonical spec, all options spelled out but switches that are off.

        A class outside this package goes by `module:Class`, whatever its card says: its
        name is in no registry that could lead back to it.
        """
        own = type(self)
        registered = own.card is not None and own.__module__.startswith(__package__ + ".")
        name = own.card.name if registered else f"{own.__module__}:{own.__qualname__}"
        options = ",".join(
            f"{key}={value}" for key, value in self.options().items() if value is not False
        )
        return f"{name}:{options}" if options else name


def state_variable(value: np.ndarray, name: str) -> tf.Variable:
    """A sampler's state: every replica holds and updates a copy of its own, all alike.

    int32 are stored as int64: TensorFlow has no variables of int32 on a GPU, and XLA there
    cannot read one that stays with the CPU.
    """
    return tf.Variable(
        value.astype(np.int64) if value.dtype == np.int32 else value,
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
