"""What samplers see of a step: its batch, and the pool of candidates, scored once for all of them.

The pool is drawn, checked and scored at the widest wish. A block of `users_per_pool` rows
shares its items: each row sees uniform draws as before, but a block's scores are one matrix
product, and the gradients of all samplers that take items from the pool meet in its rows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from autosample_tf.losses import Loss
from autosample_tf.models.contract import (
    Featured,
    Layered,
    Recommender,
    State,
    step_score,
    step_score_all,
)
from autosample_tf.ops.membership import TrainPairs
from autosample_tf.ops.randomness import Draws
from autosample_tf.samplers.contract import LOWEST, Context, Layers, Pool


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """What is known of a step besides its batch.

    Attributes:
      train_pairs: the positives.
      draws: the step's random numbers.
      progress: scalar in [0, 1].
      loss: of the mixture; it says which scores the step works with, see `losses`.
      users_per_pool: rows that share a pool's items; the largest divisor of the batch that
        it has in common with this is taken.
    """

    train_pairs: TrainPairs
    draws: Draws
    progress: tf.Tensor
    loss: Loss
    users_per_pool: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
    """The pool's items once a block, with gradient; embedded when somebody asks for it.

    Where samplers choose by a cache and what they chose is looked up, nobody does.

    Attributes:
      items: [blocks, width] int32.
      users: [batch, dim].
      embed_items: items [...] to [..., dim].
      score_all: [blocks, rows, dim] and [blocks, width, dim] to [blocks, rows, width].
    """

    items: tf.Tensor
    users: tf.Tensor
    embed_items: Callable[[tf.Tensor], tf.Tensor]
    score_all: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

    @property
    def batch_size(self) -> int:
        return self.users.shape[0]

    @property
    def rows(self) -> int:
        """How many rows of the batch a block has."""
        return self.batch_size // self.items.shape[0]

    @functools.cached_property
    def embeddings(self) -> tf.Tensor:
        """[blocks, width, dim]."""
        return self.embed_items(self.items)

    @functools.cached_property
    def scores(self) -> tf.Tensor:
        """[batch, width], each row's with the items of its block."""
        return self.score(self.embeddings)

    def score(self, embeddings: tf.Tensor) -> tf.Tensor:
        """Each row's scores with its block's of [blocks, width, dim]: [batch, width]."""
        num_blocks, width, dim = embeddings.shape
        users = tf.reshape(self.users, [num_blocks, self.rows, dim])
        return tf.reshape(self.score_all(users, embeddings), [self.batch_size, width])

    def embed(self, places: tf.Tensor, stride: int = 1) -> tf.Tensor:
        """The items at places in the pool of every stride-th row: [batch / stride, n] int32 to
        [batch / stride, n, dim]."""
        dim = self.users.shape[1]
        if not places.shape[1]:
            return tf.zeros([*places.shape, dim])
        return tf.gather(tf.reshape(self.embeddings, [-1, dim]), self._flat(places, stride))

    def sum_over_rows(self, places: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """What the values [batch, n] of rows' places come to at each item: [blocks, width]."""
        flat, (num_blocks, width) = self._flat(places), self.items.shape
        summed = tf.math.unsorted_segment_sum(
            tf.reshape(values, [-1]), tf.reshape(flat, [-1]), num_blocks * width
        )
        return tf.reshape(summed, [num_blocks, width])

    def _flat(self, places: tf.Tensor, stride: int = 1) -> tf.Tensor:
        """Where rows' places [batch / stride, n] are among the items of all blocks."""
        block = tf.range(0, self.batch_size, stride) // self.rows
        return block[:, None] * self.items.shape[1] + places


def make_context(
    model: Recommender, state: State, data: Mapping[str, tf.Tensor], step: Step, width: int
) -> tuple[Context, Blocks]:
    """What samplers see of a step, its pool of `width` candidates drawn and scored."""
    users, positives = data["user"], data["positive"]
    user_embeddings = model.users(state, users)
    positive_embeddings = model.items(state, positives)

    def embed(items: tf.Tensor) -> tf.Tensor:
        return model.items(state, items)

    def embed_cached(items: tf.Tensor) -> tf.Tensor:
        if isinstance(model, Featured):
            return model.cached_items(items)
        return tf.stop_gradient(embed(items))

    def score(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return step_score(model, users, items, cosine=step.loss.cosine)

    def layers() -> Layers:
        return _layers(model, state, users, positives, user_embeddings, positive_embeddings, blocks)

    pool, blocks = _make_pool(model, users, user_embeddings, embed, step, width)
    context = Context(
        users=users,
        positives=positives,
        example_weight=data["weight"],
        user_embeddings=user_embeddings,
        positive_embeddings=positive_embeddings,
        positive_scores=tf.stop_gradient(score(user_embeddings, positive_embeddings)),
        pool=pool,
        progress=step.progress,
        draws=step.draws,
        is_positive=step.train_pairs.contains,
        embed=embed,
        embed_cached=embed_cached,
        embed_pool=blocks.embed,
        score=score,
        loss=step.loss.of_pairs,
        layers=functools.cache(layers),
    )
    return context, blocks


def _make_pool(
    model: Recommender,
    users: tf.Tensor,
    user_embeddings: tf.Tensor,
    embed: Callable[[tf.Tensor], tf.Tensor],
    step: Step,
    width: int,
) -> tuple[Pool, Blocks]:
    rows = users.shape[0]
    shared = math.gcd(step.draws.global_batch_size, step.users_per_pool)
    items = step.draws.integers("pool", width, model.num_items, block=shared)
    # A replica whose rows are not whole blocks has a block a row, of the same items.
    block = shared if rows % shared == 0 else 1
    block_items = tf.gather(items, tf.range(0, rows, block)) if block > 1 else items
    score_all = functools.partial(step_score_all, model, cosine=step.loss.cosine)
    blocks = Blocks(block_items, user_embeddings, embed, score_all)
    if isinstance(model, Featured):
        scores = blocks.score(model.cached_items(block_items))
    else:
        scores = blocks.scores
    allowed = ~step.train_pairs.contains(users, items)
    seen = tf.where(allowed, tf.stop_gradient(scores), LOWEST)
    return Pool(items, allowed, seen), blocks


def _layers(
    model: Recommender,
    state: State,
    users: tf.Tensor,
    positives: tf.Tensor,
    user_embeddings: tf.Tensor,
    positive_embeddings: tf.Tensor,
    blocks: Blocks,
) -> Layers:
    if isinstance(model, Layered):

        @functools.cache
        def embed_pool(n: int) -> tf.Tensor:
            return model.item_layers(state, blocks.items[:, :n])

        return Layers(
            users=model.user_layers(state, users),
            positives=model.item_layers(state, positives),
            queries=model.layer_queries(user_embeddings),
            embed=lambda items: model.item_layers(state, items),
            embed_pool=embed_pool,
            combine=model.combine,
        )
    alone = tf.expand_dims(user_embeddings, 1)  # unlike an index, no copy in the gradient
    return Layers(
        users=alone,
        positives=tf.expand_dims(positive_embeddings, 1),
        queries=alone,
        embed=lambda items: tf.expand_dims(model.items(state, items), -2),
        embed_pool=lambda n: tf.expand_dims(blocks.embeddings[:, :n], -2),
        combine=lambda one: tf.squeeze(one, -2),
    )
