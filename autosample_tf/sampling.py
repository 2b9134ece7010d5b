"""One batch under all samplers: the shared pool, every sampler's negatives, their losses.

What costs is done once however many samplers there are. The pool is drawn, checked and
scored once, at the widest wish. A block of `users_per_pool` rows shares its items: each row
sees uniform draws as before, but a block's scores are one matrix product, and the gradients
of all samplers that take items from the pool meet in its rows. Negatives from elsewhere are
gathered and scored side by side, as columns.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.losses import InBatchSoftmax, Loss
from autosample_tf.membership import BatchRows, PairSet
from autosample_tf.models.contract import (
    Featured,
    Layered,
    Recommender,
    State,
    step_score,
    step_score_all,
)
from autosample_tf.randomness import Draws
from autosample_tf.replicas import global_rows, mean_over_batch, over_replicas
from autosample_tf.samplers.batch import InBatch
from autosample_tf.samplers.contract import LOWEST, Context, Layers, Negatives, Pool, Sampler


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

    train_pairs: PairSet | BatchRows
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


@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
    """Negatives of several samplers as columns of representations.

    Attributes:
      users: [batch] int32.
      user_embeddings: [batch, dim].
      positive_embeddings: [batch, dim].
      items: [batch, M] int32.
      embeddings: [batch, M, dim].
      weights: [batch, M], each sampler's summing to 1 or to 0, without gradient.
      owners: [M, num_samplers] float32, one-hot: whose column it is.
      log_q: [batch, M], log of the probability with which each was drawn, without gradient;
        None where the loss does not need it.
      scale: [batch, num_samplers], without gradient.
    """

    users: tf.Tensor
    user_embeddings: tf.Tensor
    positive_embeddings: tf.Tensor
    items: tf.Tensor
    embeddings: tf.Tensor
    weights: tf.Tensor
    owners: np.ndarray
    log_q: tf.Tensor | None
    scale: tf.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class SampledBatch:
    """All samplers' negatives: those from the pool, then those looked up, then synthesized.

    Attributes:
      context: what the samplers saw.
      blocks: the pool's items.
      negatives: each sampler's answer, in the samplers' order.
      places: [batch, P] int32, where in the pool the first P columns stand.
      items: [batch, M] int32, those of all columns, P + L + S.
      looked_up: [batch, L, dim], the next columns' items.
      synthesized: [batch, S, dim], the last columns' representations.
      source_places: [batch, Q] int32, where in the pool the items stand that the first Q of
        those come from.
      sources: [batch, S - Q, dim], of the items that the others come from.
      weights: [batch, M], each sampler's summing to 1 or to 0, without gradient.
      owners: [M, num_samplers] float32, one-hot: whose column it is.
      log_q: [batch, M], see `Columns`.
      available: [batch, num_samplers] bool: has a negative for the example.
      scale: [batch, num_samplers], without gradient.
      auxiliary_losses: [num_samplers].
    """

    context: Context
    blocks: Blocks
    negatives: list[Negatives]
    places: tf.Tensor
    items: tf.Tensor
    looked_up: tf.Tensor
    synthesized: tf.Tensor
    source_places: tf.Tensor
    sources: tf.Tensor
    weights: tf.Tensor
    owners: np.ndarray
    log_q: tf.Tensor | None
    available: tf.Tensor
    scale: tf.Tensor
    auxiliary_losses: tf.Tensor

    def columns(self, stride: int = 1) -> Columns:
        """Every stride-th row with representations in all columns.

        Costs a copy of each pool item that is a negative, which `negative_scores` does
        without.
        """
        rows = tf.range(0, self.items.shape[0], stride)

        def some(values: tf.Tensor) -> tf.Tensor:  # a strided slice copies far more slowly
            return values if stride == 1 else tf.gather(values, rows)

        pooled = self.blocks.embed(some(self.places), stride)
        return Columns(
            users=some(self.context.users),
            user_embeddings=some(self.context.user_embeddings),
            positive_embeddings=some(self.context.positive_embeddings),
            items=some(self.items),
            embeddings=tf.concat([pooled, some(self.looked_up), some(self.synthesized)], axis=1),
            weights=some(self.weights),
            owners=self.owners,
            log_q=None if self.log_q is None else some(self.log_q),
            scale=some(self.scale),
        )


def check_together(
    loss: Loss, mixing: str, samplers: Sequence[Sampler], by_dot_product: bool
) -> None:
    """Raises `InputError` where a loss and a mixing, samplers or a model do not go together.

    Args:
      loss: of the model.
      mixing: of the samplers.
      samplers: the candidates.
      by_dot_product: whether the model's score is one.
    """
    if isinstance(loss, InBatchSoftmax) and not by_dot_product:
        raise expected(
            f"a model that derives from models.contract.DotProduct, which {loss.name} computes",
            received="a model that scores in another way",
            remedy="Choose sampled-softmax, or another model, such as mf.",
        )
    if mixing == "instance" and loss.compares_several:
        raise expected(
            f"a pairwise loss with --mixing instance, which leaves {loss.name} one negative",
            received=loss.name,
            remedy="Choose bpr, or --mixing loss.",
        )
    specs = [sampler.spec for sampler in samplers]
    if isinstance(loss, InBatchSoftmax) and [type(sampler) for sampler in samplers] != [InBatch]:
        raise expected(
            f"the sampler in-batch alone, as {loss.name} compares with the batch",
            received=", ".join(specs),
            remedy="Pass --sampler in-batch:n=1; sampled-softmax is for other samplers.",
        )
    unknown_q = [sampler.spec for sampler in samplers if not sampler.knows_log_q]
    if loss.log_q and unknown_q:
        raise expected(
            f"samplers that know how often they draw an item, for {loss.name} with log_q",
            received=", ".join(unknown_q),
            remedy="Leave them or log_q out.",
        )


def sample_batch(
    model: Recommender,
    state: State,
    samplers: Sequence[Sampler],
    data: Mapping[str, tf.Tensor],
    step: Step,
) -> SampledBatch:
    """Negatives of every sampler for a batch of `pipeline.training_batches`; `state` is what
    the model propagated."""
    context, blocks = make_context(model, state, data, step, _width(samplers))
    negatives = [sampler.sample(context) for sampler in samplers]
    kinds = _kinds(negatives, blocks)
    order = sorted(range(len(samplers)), key=lambda k: kinds[k])
    columns = [negatives[k] for k in order]
    pooled, looked_up, from_pool, from_elsewhere = (
        [answer for answer, kind in zip(negatives, kinds, strict=True) if kind == wanted]
        for wanted in (_POOLED, _LOOKED_UP, _FROM_POOL, _FROM_ELSEWHERE)
    )
    synthesized = [answer.embeddings for answer in (*from_pool, *from_elsewhere)]
    owners = np.repeat(
        np.eye(len(samplers), dtype=np.float32)[order],
        [answer.items.shape[1] for answer in columns],
        axis=0,
    )
    rows, dim = context.user_embeddings.shape
    weights = tf.stop_gradient(tf.concat([answer.weights for answer in columns], axis=1))
    ones = tf.ones_like(context.positive_scores)
    scales = [ones if answer.scale is None else answer.scale for answer in negatives]
    auxiliary = [
        tf.constant(0.0) if answer.auxiliary_loss is None else answer.auxiliary_loss
        for answer in negatives
    ]
    return SampledBatch(
        context=context,
        blocks=blocks,
        negatives=negatives,
        places=_side_by_side([rows, 0], [answer.columns for answer in pooled], tf.int32),
        items=_side_by_side([rows, 0], [answer.items for answer in columns], tf.int32),
        looked_up=_embedded(context, looked_up),
        synthesized=_side_by_side([rows, 0, dim], synthesized),
        source_places=_side_by_side([rows, 0], [answer.columns for answer in from_pool], tf.int32),
        sources=_embedded(context, from_elsewhere),
        weights=weights,
        owners=owners,
        log_q=_log_q(columns) if step.loss.log_q else None,
        available=tf.matmul(weights, owners) > 0,
        scale=tf.stop_gradient(tf.stack(scales, axis=1)),
        auxiliary_losses=tf.stack(auxiliary),
    )


class Answers(NamedTuple):
    """What `Sampler.update` is told of a step.

    Attributes:
      context: what the samplers saw.
      negatives: each sampler's answer; None of those that have no `update`.
    """

    context: Context
    negatives: list[Negatives | None]


def answers_for_updates(
    model: Recommender,
    state: State,
    samplers: Sequence[Sampler],
    data: Mapping[str, tf.Tensor],
    step: Step,
) -> Answers:
    """What `sample_batch` has of them, where the rest of it stays inside XLA.

    Random numbers have no state: these are the compiled step's. The graph computes as much of
    it as is read.
    """
    context, _ = make_context(model, state, data, step, _width(samplers))
    negatives = [
        None if type(sampler).update is Sampler.update else sampler.sample(context)
        for sampler in samplers
    ]
    return Answers(context, negatives)


def _width(samplers: Sequence[Sampler]) -> int:
    """Columns of the pool: the widest wish."""
    return max(1, *(sampler.pool for sampler in samplers))


_POOLED, _LOOKED_UP, _FROM_POOL, _FROM_ELSEWHERE = range(4)  # the last two are synthesized


def _kinds(negatives: Sequence[Negatives], blocks: Blocks) -> list[int]:
    """How each sampler's negatives come to their representations.

    Items from the pool are looked up all the same where that is fewer rows than the pool
    has: its rows then need no gradient.
    """
    in_pool = [each for each in negatives if each.columns is not None and each.embeddings is None]
    chosen = sum(answer.items.shape[1] for answer in in_pool) * blocks.batch_size
    fewest = _LOOKED_UP if chosen < blocks.items.shape[0] * blocks.items.shape[1] else _POOLED

    def kind(answer: Negatives) -> int:
        if answer.embeddings is not None:
            return _FROM_ELSEWHERE if answer.columns is None else _FROM_POOL
        return _LOOKED_UP if answer.columns is None else fewest

    return [kind(answer) for answer in negatives]


def _side_by_side(
    none: list[int], tensors: Sequence[tf.Tensor], dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """The columns of all tensors; of no tensor, none: a tensor of the shape `none`."""
    if not tensors:
        return tf.zeros(none, dtype)
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=1)


def _log_q(answers: Sequence[Negatives]) -> tf.Tensor:
    """[batch, M], of samplers that all know it, see `check_together`."""
    return tf.stop_gradient(tf.concat([answer.log_q for answer in answers], axis=1))


def _embedded(context: Context, answers: Sequence[Negatives]) -> tf.Tensor:
    rows, dim = context.user_embeddings.shape
    if not answers:
        return tf.zeros([rows, 0, dim])
    return context.embed(_side_by_side([rows, 0], [each.items for each in answers], tf.int32))


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
        return _layers(model, state, users, positives, user_embeddings, positive_embeddings)

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
) -> Layers:
    if isinstance(model, Layered):
        return Layers(
            users=model.user_layers(state, users),
            positives=model.item_layers(state, positives),
            queries=model.layer_queries(user_embeddings),
            embed=lambda items: model.item_layers(state, items),
            combine=model.combine,
        )
    alone = tf.expand_dims(user_embeddings, 1)  # unlike an index, no copy in the gradient
    return Layers(
        users=alone,
        positives=tf.expand_dims(positive_embeddings, 1),
        queries=alone,
        embed=lambda items: tf.expand_dims(model.items(state, items), -2),
        combine=lambda one: tf.squeeze(one, -2),
    )


def negative_scores(batch: SampledBatch) -> tf.Tensor:
    """The scores of all columns [batch, M], with gradient."""
    users = tf.expand_dims(batch.context.user_embeddings, 1)
    scores = [
        batch.context.score(users, embeddings)
        for embeddings in (batch.looked_up, batch.synthesized)
        if embeddings.shape[1]
    ]
    if batch.places.shape[1]:
        scores.insert(0, tf.gather(batch.blocks.scores, batch.places, batch_dims=1))
    return _side_by_side([], scores)


def sampler_losses(
    batch: SampledBatch | Columns,
    positive_scores: tf.Tensor,
    negative_scores: tf.Tensor,
    loss: Loss,
) -> tf.Tensor:
    """Each sampler's loss on each example, times its `scale`.

    Args:
      batch: weights, owners and scales.
      positive_scores: [batch].
      negative_scores: [batch, M].
      loss: what the negatives of a sampler cost.

    Returns:
      [batch, num_samplers]; 0 where the sampler has no negative.
    """
    each = loss.of_samplers(
        positive_scores, negative_scores, batch.weights, batch.owners, batch.log_q
    )
    return each * batch.scale


def in_batch_losses(context: Context, loss: InBatchSoftmax) -> tf.Tensor:
    """What each example costs among the positives of the global batch: [batch]."""
    rows = context.draws.global_batch_size
    first = tf.cast(context.draws.positions[0] % rows, tf.int32)

    def own_first(values: tf.Tensor) -> tf.Tensor:
        return tf.roll(over_replicas(values), -first, axis=0)

    return loss.of_batch(
        context.user_embeddings,
        own_first(context.positive_embeddings),
        own_first(context.positives),
        own_first(context.example_weight) > 0,
    )


def column_losses(
    model: Recommender, columns: Columns, user_embeddings: tf.Tensor, loss: Loss
) -> tf.Tensor:
    """`sampler_losses` at the given user representations: [batch, num_samplers]."""
    score = functools.partial(step_score, model, cosine=loss.cosine)
    positive_scores = score(user_embeddings, columns.positive_embeddings)
    scores = score(tf.expand_dims(user_embeddings, 1), columns.embeddings)
    return sampler_losses(columns, positive_scores, scores, loss)


def sampler_embeddings(columns: Columns) -> tf.Tensor:
    """Each sampler's negative, the `weights`-mean of its several: [batch, samplers, dim]."""
    shares = columns.weights[:, :, None] * columns.owners[None, :, :]  # [batch, M, samplers]
    return tf.matmul(shares, columns.embeddings, transpose_a=True)


def mean_penalty(
    model: Recommender, batch: SampledBatch, column_weights: tf.Tensor, row_weights: tf.Tensor
) -> tf.Tensor:
    """1/2 (|u|^2 + |i|^2 + sum_j w_j |j|^2) of layer 0, `mean_over_batch`.

    Args:
      model: whose penalties.
      batch: the negatives.
      column_weights: [batch, M], w.
      row_weights: [batch].
    """
    context = batch.context
    kinds = (batch.places, batch.looked_up, batch.source_places, batch.sources)
    widths = [values.shape[1] for values in kinds]
    items, weights = (tf.split(x, widths, axis=1) for x in (batch.items, column_weights))
    penalty = model.user_penalty(context.users, context.user_embeddings)
    penalty += model.item_penalty(context.positives, context.positive_embeddings)
    for place, embeddings in ((1, batch.looked_up), (3, batch.sources)):
        if widths[place]:
            of_items = model.item_penalty(items[place], embeddings)
            penalty += tf.reduce_sum(weights[place] * of_items, axis=1)
    mean = mean_over_batch(penalty, row_weights)
    if not widths[0] + widths[2]:
        return mean
    of_pool = model.item_penalty(batch.blocks.items, batch.blocks.embeddings)
    places = tf.concat([batch.places, batch.source_places], axis=1)
    of_places = tf.concat([weights[0], weights[2]], axis=1) * row_weights[:, None]
    in_blocks = batch.blocks.sum_over_rows(places, of_places)
    return mean + tf.reduce_sum(in_blocks * of_pool) / global_rows(context.users.shape[0])
