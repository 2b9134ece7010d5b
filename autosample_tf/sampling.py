"""One batch under all samplers: the shared pool, every sampler's negatives, their losses.

What costs is done once however many samplers there are: the pool is drawn, checked and
scored once, at the widest wish, and the negatives of all samplers are gathered and scored
side by side, as columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from autosample_tf.membership import PairSet
from autosample_tf.models.contract import Recommender, State, Triples
from autosample_tf.randomness import Draws
from autosample_tf.samplers.contract import LOWEST, Context, Negatives, Pool, Sampler


@dataclasses.dataclass(frozen=True, eq=False)
class SampledBatch:
    """All samplers' negatives side by side, M columns in all.

    Attributes:
      context: what the samplers saw.
      negatives: each sampler's answer, as it came.
      triples: the batch with its negatives [batch, M] and all items' own representations.
      embeddings: [batch, M, dim] of the negatives: the items' own, or synthesized from them.
      weights: [batch, M], each sampler's summing to 1 or to 0, without gradient.
      owners: [M, num_samplers] float32, one-hot: whose column it is.
      available: [batch, num_samplers] bool: has a negative for the example.
      scale: [batch, num_samplers], without gradient.
      auxiliary_losses: [num_samplers].
    """

    context: Context
    negatives: list[Negatives]
    triples: Triples
    embeddings: tf.Tensor
    weights: tf.Tensor
    owners: np.ndarray
    available: tf.Tensor
    scale: tf.Tensor
    auxiliary_losses: tf.Tensor

    def every(self, stride: int) -> SampledBatch:
        """Every stride-th row; `context` and `negatives` stay the whole batch's."""
        fields = {
            field.name: getattr(self.triples, field.name)[::stride]
            for field in dataclasses.fields(self.triples)
        }
        return dataclasses.replace(
            self,
            triples=Triples(**fields),
            embeddings=self.embeddings[::stride],
            weights=self.weights[::stride],
            available=self.available[::stride],
            scale=self.scale[::stride],
        )


def sample_batch(
    model: Recommender,
    samplers: Sequence[Sampler],
    *,
    users: tf.Tensor,
    positives: tf.Tensor,
    train_pairs: PairSet,
    draws: Draws,
) -> SampledBatch:
    """Negatives of every sampler for a batch: users [batch], positives [batch]."""
    state = model.propagate()
    width = max(1, *(sampler.pool for sampler in samplers))
    context = make_context(model, state, users, positives, train_pairs, draws, width)
    negatives = [sampler.sample(context) for sampler in samplers]
    items = tf.concat([answer.items for answer in negatives], axis=1)
    weights = tf.stop_gradient(tf.concat([answer.weights for answer in negatives], axis=1))
    owners = np.repeat(
        np.eye(len(samplers), dtype=np.float32),
        [answer.items.shape[1] for answer in negatives],
        axis=0,
    )
    triples = Triples(
        users=users,
        positives=positives,
        negatives=items,
        user_embeddings=context.user_embeddings,
        positive_embeddings=context.positive_embeddings,
        negative_embeddings=context.embed(items),
    )
    ones = tf.ones_like(context.positive_scores)
    scales = [ones if answer.scale is None else answer.scale for answer in negatives]
    auxiliary = [
        tf.constant(0.0) if answer.auxiliary_loss is None else answer.auxiliary_loss
        for answer in negatives
    ]
    return SampledBatch(
        context=context,
        negatives=negatives,
        triples=triples,
        embeddings=_with_synthesized(triples.negative_embeddings, negatives),
        weights=weights,
        owners=owners,
        available=tf.matmul(weights, owners) > 0,
        scale=tf.stop_gradient(tf.stack(scales, axis=1)),
        auxiliary_losses=tf.stack(auxiliary),
    )


def make_context(
    model: Recommender,
    state: State,
    users: tf.Tensor,
    positives: tf.Tensor,
    train_pairs: PairSet,
    draws: Draws,
    width: int,
) -> Context:
    """What samplers see of a step, its pool of `width` candidates drawn and scored."""
    user_embeddings = model.users(state, users)
    positive_embeddings = model.items(state, positives)
    fixed_users = tf.stop_gradient(user_embeddings)

    def embed(items: tf.Tensor) -> tf.Tensor:
        return model.items(state, items)

    items = draws.integers("pool", width, model.num_items)
    allowed = ~train_pairs.contains(users, items)
    scores = model.score(fixed_users[:, None, :], tf.stop_gradient(embed(items)))
    return Context(
        users=users,
        positives=positives,
        user_embeddings=user_embeddings,
        positive_embeddings=positive_embeddings,
        positive_scores=model.score(fixed_users, tf.stop_gradient(positive_embeddings)),
        pool=Pool(items, allowed, tf.where(allowed, scores, LOWEST)),
        draws=draws,
        is_positive=train_pairs.contains,
        embed=embed,
        score=model.score,
    )


def _with_synthesized(own: tf.Tensor, negatives: list[Negatives]) -> tf.Tensor:
    """The items' own embeddings [batch, M, dim] with the synthesized ones in their place."""
    if all(answer.embeddings is None for answer in negatives):
        return own
    widths = [answer.items.shape[1] for answer in negatives]
    columns = [
        gathered if answer.embeddings is None else answer.embeddings
        for gathered, answer in zip(tf.split(own, widths, axis=1), negatives, strict=True)
    ]
    return tf.concat(columns, axis=1)


PairwiseLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def sampler_losses(
    model: Recommender, batch: SampledBatch, user_embeddings: tf.Tensor, loss: PairwiseLoss
) -> tf.Tensor:
    """Each sampler's loss on each example, at the given user representations.

    A sampler with several negatives answers for their `weights`-mean, times its `scale`.

    Returns:
      [batch, num_samplers]; 0 where the sampler has no negative.
    """
    triples = batch.triples
    positive_scores = model.score(user_embeddings, triples.positive_embeddings)
    negative_scores = model.score(user_embeddings[:, None, :], batch.embeddings)
    pairs = loss(positive_scores, negative_scores)  # [batch, M]
    return tf.matmul(pairs * batch.weights, batch.owners) * batch.scale


def sampler_embeddings(batch: SampledBatch) -> tf.Tensor:
    """Each sampler's negative, the `weights`-mean of its several: [batch, samplers, dim]."""
    shares = batch.weights[:, :, None] * batch.owners[None, :, :]  # [batch, M, samplers]
    return tf.matmul(shares, batch.embeddings, transpose_a=True)


def mean_over_batch(values: tf.Tensor, example_weight: tf.Tensor) -> tf.Tensor:
    """Mean over the rows of the global batch of values times weights, this replica's share.

    Args:
      values: [batch, …], this replica's rows.
      example_weight: [batch, …], see `pipeline.training_batches`.
    """
    rows = values.shape[0] * tf.distribute.get_strategy().num_replicas_in_sync
    return tf.reduce_sum(values * example_weight, axis=0) / rows
