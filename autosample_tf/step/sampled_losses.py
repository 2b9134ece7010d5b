"""What the negatives of a batch cost: each sampler's loss on each example, and their penalty."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.losses import Loss
from autosample_tf.models.contract import Recommender, step_score
from autosample_tf.ops.replicas import global_rows, mean_over_batch, over_replicas
from autosample_tf.samplers.batch import InBatch
from autosample_tf.samplers.contract import Context, Sampler
from autosample_tf.step.sampling import Columns, SampledBatch


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
    if loss.compares_batch and not by_dot_product:
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
    if loss.compares_batch and [type(sampler) for sampler in samplers] != [InBatch]:
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


def losses_of_samplers(batch: SampledBatch, loss: Loss) -> tf.Tensor:
    """What the samplers of a batch cost: [batch, num_samplers]; 0 where one has no negative."""
    context = batch.context
    if loss.compares_batch:
        return in_batch_losses(context.user_embeddings, positives_of_batch(context), loss)
    positive = context.score(context.user_embeddings, context.positive_embeddings)
    return sampler_losses(batch, positive, negative_scores(batch), loss)


def has_loss(batch: SampledBatch, loss: Loss) -> tf.Tensor:
    """[batch, num_samplers] bool: whether a sampler's loss of an example is one of any negative."""
    if loss.compares_batch:  # an example has the batch, whatever it drew
        return tf.ones_like(batch.available)
    return batch.available


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
    return tf.concat(scores, axis=1) if scores else tf.zeros(batch.items.shape)


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


class Positives(NamedTuple):
    """Those of the whole global batch, this replica's first.

    Attributes:
      embeddings: [rows, dim].
      items: [rows] int32.
      is_real: [rows] bool; false for padding.
    """

    embeddings: tf.Tensor
    items: tf.Tensor
    is_real: tf.Tensor


def positives_of_batch(context: Context) -> Positives:
    """What a loss that compares the batch compares with. It asks the other replicas, which must
    not be within a branch of the graph."""
    rows = context.draws.global_batch_size
    first = tf.cast(context.draws.positions[0] % rows, tf.int32)

    def own_first(values: tf.Tensor) -> tf.Tensor:
        return tf.roll(over_replicas(values), -first, axis=0)

    return Positives(
        own_first(context.positive_embeddings),
        own_first(context.positives),
        own_first(context.example_weight) > 0,
    )


def in_batch_losses(user_embeddings: tf.Tensor, positives: Positives, loss: Loss) -> tf.Tensor:
    """What each example of users [batch, dim] costs among the batch's positives: [batch, 1]."""
    return loss.of_batch(user_embeddings, *positives)[:, None]


def column_losses(model: Recommender, columns: Columns, loss: Loss) -> tf.Tensor:
    """`sampler_losses` of representations in columns: [batch, num_samplers]."""
    score = functools.partial(step_score, model, cosine=loss.cosine)
    positive_scores = score(columns.user_embeddings, columns.positive_embeddings)
    scores = score(tf.expand_dims(columns.user_embeddings, 1), columns.embeddings)
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
