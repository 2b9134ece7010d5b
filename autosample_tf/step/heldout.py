"""The signal of held-out positives: what a step would do to pairs it was not trained on.

One step of descent on sum_k p_k l_k changes a held-out loss V, to first order in the
learning rate, by -rate * sum_k p_k <grad V, grad l_k>: the one-step-unrolled bilevel
gradient of DARTS (Liu, Simonyan & Yang, ICLR 2019) with samplers in the place of
operations. The inner products are taken at the representations of users and of items, on MF
those of both tables: what a step does to a user, and what it does, through the items that it
moves, to all other users. Two liberties: V reads the batch's own users, so that every step
tells what it does to them, which weighs that side by more than their share of all users; and a
synthesized negative moves as the item that it comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.losses import Loss
from autosample_tf.models import Recommender
from autosample_tf.models.contract import step_score, step_score_all
from autosample_tf.ops.replicas import mean_over_batch, over_replicas
from autosample_tf.ops.rows import RowDraws
from autosample_tf.samplers.contract import Context
from autosample_tf.step.sampled_losses import column_losses
from autosample_tf.step.sampling import Columns, SampledBatch

# The held-out loss reads some this many rows of a batch, against this many shared items:
# enough for a mean over hundreds of steps. More rows would make it steadier, more items hardly.
_ROWS = 256
_ITEMS = 256
_SEEN_COUNTS = 0.5
_SHARPNESS = 16.0  # of a step from 0 to 1, per standard deviation of a user's scores


class Rows(NamedTuple):
    """Representations and whose they are.

    Attributes:
      users: [n] int32.
      user_embeddings: [n, dim].
      items: [m] int32.
      item_embeddings: [m, dim].
    """

    users: tf.Tensor
    user_embeddings: tf.Tensor
    items: tf.Tensor
    item_embeddings: tf.Tensor


LossAt = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # of user and item embeddings


class ValidationSignal:
    """How much each sampler's gradient helps held-out positives of the batch's users.

    Args:
      model: what is trained.
      held_out: the positives to help.
      loss: the samplers'.
      ranked: whether the held-out loss is the positives' `log_rank`; else the mean of
        `loss` against the items.
    """

    def __init__(
        self,
        model: Recommender,
        held_out: Interactions,
        loss: Loss,
        *,
        ranked: bool = True,
    ):
        self._model, self._loss, self._ranked = model, loss, ranked
        self._held_out = RowDraws(held_out)

    def alignments(self, batch: SampledBatch, example_weight: tf.Tensor) -> tf.Tensor:
        """<grad V, grad l_k> of each sampler of `batch`, V being the held-out loss.

        Args:
          batch: a step's negatives.
          example_weight: [batch].

        Returns:
          [num_samplers].
        """
        # A stride, not the first rows: replicas together then read the rows that one would.
        stride = max(1, batch.context.draws.global_batch_size // _ROWS)
        columns, weight = batch.columns(stride), example_weight[::stride]
        read, held_out_loss = self._held_out_loss(batch.context, columns, weight, stride)
        moved, losses_of_samplers = self._losses_of_samplers(columns, weight)
        return alignment(read, moved, held_out_loss, losses_of_samplers)

    def _held_out_loss(
        self, context: Context, columns: Columns, weight: tf.Tensor, stride: int
    ) -> tuple[Rows, LossAt]:
        """What V reads, a held-out positive a row and then the items for all, and V."""
        model, rows = self._model, weight.shape[0]
        uniform = context.draws.uniform("held-out", 1)[::stride]
        positives, present = self._held_out.draw(columns.users, uniform)
        weight *= tf.cast(present[:, 0], tf.float32)
        shared = context.draws.shared_integers("signal", _ITEMS, model.num_items)
        items = tf.concat([positives[:, 0], shared], axis=0)
        cosine = self._loss.cosine and not self._ranked  # rankings are by the model's scores

        def held_out_loss(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
            positive = step_score(model, users, items[:rows], cosine=cosine)
            others = step_score_all(model, users, items[rows:], cosine=cosine)
            if self._ranked:
                losses = log_rank(positive, others, counts(columns, shared), model.num_items)
            else:
                losses = tf.reduce_mean(self._loss.of_pairs(positive, others), axis=1)
            return mean_over_batch(losses, weight)

        read = Rows(columns.users, columns.user_embeddings, items, context.embed_cached(items))
        return read, held_out_loss

    def _losses_of_samplers(self, columns: Columns, weight: tf.Tensor) -> tuple[Rows, LossAt]:
        """What a step moves, a row's train positive before its negatives, and its losses."""
        items = tf.concat([columns.positives[:, None], columns.items], axis=1)
        embeddings = tf.concat(
            [columns.positive_embeddings[:, None], columns.embeddings], axis=1
        )  # [rows, 1 + M, dim]

        def losses_of_samplers(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
            items = tf.reshape(items, embeddings.shape)
            at = dataclasses.replace(
                columns,
                user_embeddings=users,
                positive_embeddings=items[:, 0],
                embeddings=items[:, 1:],
            )
            per_sampler = column_losses(self._model, at, self._loss)
            return mean_over_batch(per_sampler, weight[:, None])

        moved = Rows(
            columns.users,
            columns.user_embeddings,
            tf.reshape(items, [-1]),
            tf.reshape(embeddings, [-1, embeddings.shape[2]]),
        )
        return moved, losses_of_samplers


def counts(columns: Columns, items: tf.Tensor) -> tf.Tensor:
    """How much items count that a row's held-out positive is ranked among.

    A ranking leaves out what a user has seen, and where much has been these items, which are
    ahead of nearly all, hide whether a step helps. But that a step takes held-out positives
    away from the train positives that they are like is how false negatives show. So they
    count half, by evidence: docs/choosing.md.

    Args:
      columns: of the rows.
      items: [m] int32.

    Returns:
      [batch, m]: 1 for an item that the row's user has not seen, else a half.
    """
    items = tf.tile(items[None, :], [columns.users.shape[0], 1])
    seen = columns.train_pairs.contains(columns.users, items)
    return tf.where(seen, _SEEN_COUNTS, 1.0)


def log_rank(
    positive_scores: tf.Tensor, item_scores: tf.Tensor, counted: tf.Tensor, num_items: int
) -> tf.Tensor:
    """log(1 + rank) of a held-out positive, its rank estimated from sampled items.

    The rank is ApproxNDCG's (Qin, Liu & Li 2010, "A general approximation framework for
    direct optimization of information retrieval measures"): a sum of sigmoids of score
    differences, here over m uniform items that stand for all. Its logarithm, and not their
    NDCG, because a positive far down the list, as most are for long, must count too. The
    sigmoids' width follows the spread of the scores, so that the scale of a model's scores
    does not matter.

    Args:
      positive_scores: [batch].
      item_scores: [batch, m].
      counted: [batch, m], from 0 to 1: how much an item counts, see `counts`.
      num_items: the size of the catalogue.

    Returns:
      [batch], at least 0.
    """
    scores = tf.stop_gradient(item_scores)
    variance = _mean_of(tf.square(scores - _mean_of(scores, counted)), counted)
    slope = tf.math.divide_no_nan(_SHARPNESS, tf.sqrt(variance))
    above = tf.sigmoid(slope * (item_scores - positive_scores[:, None]))
    return tf.math.log1p(num_items * tf.reduce_mean(counted * above, axis=1))


def _mean_of(values: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """[batch, 1]: each row's mean, of as much of a value as counts; 0 where nothing does."""
    total = tf.reduce_sum(counted * values, axis=1, keepdims=True)
    return tf.math.divide_no_nan(total, tf.reduce_sum(counted, axis=1, keepdims=True))


def alignment(read: Rows, moved: Rows, held_out_loss: LossAt, sampler_losses: LossAt) -> tf.Tensor:
    """<grad V, grad l_k> for every sampler k, over the rows of the user and the item table.

    The gradient of V is one backward pass; its inner products with all samplers'
    gradients are one forward-mode pass along it.

    Args:
      read: by V. A user's rows, or an item's, count as one row, with the summed gradient.
      moved: by the samplers' steps.
      held_out_loss: the embeddings of `read` to V, a scalar.
      sampler_losses: the embeddings of `moved` to [num_samplers].

    Returns:
      [num_samplers]: positive where descending on l_k lowers V.
    """
    sources = [tf.stop_gradient(x) for x in (read.user_embeddings, read.item_embeddings)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        value = held_out_loss(*sources)
    of_users, of_items = tape.gradient(value, sources)
    tangents = [
        _sums_at(moved.users, read.users, of_users),
        _sums_at(moved.items, read.items, of_items),
    ]
    targets = [tf.stop_gradient(x) for x in (moved.user_embeddings, moved.item_embeddings)]
    with tf.autodiff.ForwardAccumulator(targets, tangents) as accumulator:
        per_sampler = sampler_losses(*targets)
    replicas = tf.distribute.get_replica_context()
    alignments = accumulator.jvp(per_sampler)
    if replicas.num_replicas_in_sync > 1:
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, alignments)
    return alignments


def _sums_at(asked: tf.Tensor, ids: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """[n, dim]: the sum of the values [m, dim] whose ids [m], on all replicas, are the asked [n].

    By sorting, with static shapes: `tf.unique` would have a GPU wait for the CPU to learn how
    many there are.
    """
    ids, values = over_replicas(ids), over_replicas(values)
    ordered = tf.sort(ids)
    first = tf.searchsorted(ordered, ids)  # one place for all rows of an id
    sums = tf.math.unsorted_segment_sum(values, first, ids.shape[0])
    place = tf.minimum(tf.searchsorted(ordered, asked), ids.shape[0] - 1)
    is_there = tf.gather(ordered, place) == asked
    return tf.where(is_there[:, None], tf.gather(sums, place), 0.0)
