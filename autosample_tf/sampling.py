"""One batch under all samplers: the shared pool, every sampler's negatives, their losses.

What costs is done once however many samplers there are: the pool is drawn, checked and
scored once, at the widest wish, and the negatives of all samplers are gathered and scored
side by side, as columns.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from autosample_tf.membership import PairSet
from autosample_tf.models.contract import Layered, Recommender, State, Triples
from autosample_tf.randomness import Draws
from autosample_tf.samplers.contract import LOWEST, Context, Layers, Negatives, Pool, Sampler

PairwiseLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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
        rows = tf.range(
            0, self.weights.shape[0], stride
        )  # a gather copies whole rows: `[::n]` does not

        def some(values: tf.Tensor) -> tf.Tensor:
            return tf.gather(values, rows)

        fields = {
            field.name: some(getattr(self.triples, field.name))
            for field in dataclasses.fields(self.triples)
        }
        return dataclasses.replace(
            self,
            triples=Triples(**fields),
            embeddings=some(self.embeddings),
            weights=some(self.weights),
            available=some(self.available),
            scale=some(self.scale),
        )


def sample_batch(
    model: Recommender,
    samplers: Sequence[Sampler],
    data: Mapping[str, tf.Tensor],
    step: Step,
) -> SampledBatch:
    """Negatives of every sampler for a batch of `pipeline.training_batches`."""
    width = max(1, *(sampler.pool for sampler in samplers))
    context = make_context(model, model.propagate(), data, step, width)
    negatives = [sampler.sample(context) for sampler in samplers]
    items = tf.concat([answer.items for answer in negatives], axis=1)
    weights = tf.stop_gradient(tf.concat([answer.weights for answer in negatives], axis=1))
    owners = np.repeat(
        np.eye(len(samplers), dtype=np.float32),
        [answer.items.shape[1] for answer in negatives],
        axis=0,
    )
    triples = Triples(
        users=context.users,
        positives=context.positives,
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


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """What samplers are told of a step besides its batch.

    Attributes:
      train_pairs: the positives.
      draws: the step's random numbers.
      progress: scalar in [0, 1].
      loss: of the mixture.
    """

    train_pairs: PairSet
    draws: Draws
    progress: tf.Tensor
    loss: PairwiseLoss


def make_context(
    model: Recommender, state: State, data: Mapping[str, tf.Tensor], step: Step, width: int
) -> Context:
    """What samplers see of a step, its pool of `width` candidates drawn and scored."""
    users, positives = data["user"], data["positive"]
    user_embeddings = model.users(state, users)
    positive_embeddings = model.items(state, positives)
    fixed_users = tf.stop_gradient(user_embeddings)

    def embed(items: tf.Tensor) -> tf.Tensor:
        return model.items(state, items)

    def layers() -> Layers:
        if not isinstance(model, Layered):
            users_alone = user_embeddings[:, None, :]
            return Layers(
                users=users_alone,
                positives=positive_embeddings[:, None, :],
                queries=users_alone,
                embed=lambda items: embed(items)[..., None, :],
                combine=lambda one: one[..., 0, :],
            )
        return Layers(
            users=model.user_layers(state, users),
            positives=model.item_layers(state, positives),
            queries=model.layer_queries(user_embeddings),
            embed=lambda items: model.item_layers(state, items),
            combine=model.combine,
        )

    items = step.draws.integers("pool", width, model.num_items)
    allowed = ~step.train_pairs.contains(users, items)
    scores = model.score(fixed_users[:, None, :], tf.stop_gradient(embed(items)))
    return Context(
        users=users,
        positives=positives,
        example_weight=data["weight"],
        user_embeddings=user_embeddings,
        positive_embeddings=positive_embeddings,
        positive_scores=model.score(fixed_users, tf.stop_gradient(positive_embeddings)),
        pool=Pool(items, allowed, tf.where(allowed, scores, LOWEST)),
        progress=step.progress,
        draws=step.draws,
        is_positive=step.train_pairs.contains,
        embed=embed,
        score=model.score,
        loss=step.loss,
        layers=functools.cache(layers),
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
