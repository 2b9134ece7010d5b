"""The signal of held-out positives: what a step would do to pairs it was not trained on.

One step of descent on sum_k p_k l_k changes a held-out loss V, to first order in the
learning rate, by -rate * sum_k p_k <grad V, grad l_k>: the one-step-unrolled bilevel
gradient of DARTS (Liu, Simonyan & Yang, ICLR 2019) with samplers in the place of
operations. The inner products are taken at the users' representations, which every pair of
a user shares; on MF they are exactly those of the user table.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.losses import Loss
from autosample_tf.models import Recommender
from autosample_tf.models.contract import step_score, step_score_all
from autosample_tf.replicas import mean_over_batch, over_replicas
from autosample_tf.rows import RowDraws
from autosample_tf.sampled_losses import column_losses
from autosample_tf.sampling import SampledBatch

# The held-out loss reads some this many rows of a batch, against this many shared items:
# enough for a mean over hundreds of steps. More rows would make it steadier, more items hardly.
_ROWS = 256
_ITEMS = 256
_SHARPNESS = 16.0  # of a step from 0 to 1, per standard deviation of a user's scores


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
        model, context = self._model, batch.context
        # A stride, not the first rows: replicas together then read the rows that one would.
        stride = max(1, context.draws.global_batch_size // _ROWS)
        columns, weight = batch.columns(stride), example_weight[::stride]
        uniform = context.draws.uniform("held-out", 1)[::stride]
        items, present = self._held_out.draw(columns.users, uniform)
        items, present = items[:, 0], tf.cast(present[:, 0], tf.float32)
        positives = context.embed_cached(items)
        shared = context.draws.shared_integers("signal", _ITEMS, model.num_items)
        shared = context.embed_cached(shared)

        def held_out_loss(users: tf.Tensor) -> tf.Tensor:
            cosine = self._loss.cosine and not self._ranked  # rankings are by the model's scores
            positive = step_score(model, users, positives, cosine=cosine)
            others = step_score_all(model, users, shared, cosine=cosine)
            if self._ranked:
                losses = log_rank(positive, others, model.num_items)
            else:
                losses = tf.reduce_mean(self._loss.of_pairs(positive, others), axis=1)
            return mean_over_batch(losses, weight * present)

        def losses_of_samplers(users: tf.Tensor) -> tf.Tensor:
            per_sampler = column_losses(model, columns, users, self._loss)
            return mean_over_batch(per_sampler, weight[:, None])

        return alignment(columns.users, columns.user_embeddings, held_out_loss, losses_of_samplers)


def log_rank(positive_scores: tf.Tensor, item_scores: tf.Tensor, num_items: int) -> tf.Tensor:
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
      num_items: the size of the catalogue.

    Returns:
      [batch], at least 0.
    """
    spread = tf.stop_gradient(tf.math.reduce_std(item_scores, axis=1, keepdims=True))
    slope = tf.math.divide_no_nan(_SHARPNESS, spread)
    above = tf.reduce_mean(tf.sigmoid(slope * (item_scores - positive_scores[:, None])), axis=1)
    return tf.math.log1p(num_items * above)


def alignment(
    users: tf.Tensor,
    user_embeddings: tf.Tensor,
    held_out_loss: Callable[[tf.Tensor], tf.Tensor],
    sampler_losses: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """<grad V, grad l_k> for every sampler k, over the rows of the batch's users.

    The gradient of V is one backward pass; its inner products with all samplers'
    gradients are one forward-mode pass along it.

    Args:
      users: [batch] int32; a user's rows count as one row, with the summed gradient.
      user_embeddings: [batch, dim].
      held_out_loss: user_embeddings to V, a scalar.
      sampler_losses: user_embeddings to [num_samplers].

    Returns:
      [num_samplers]: positive where descending on l_k lowers V.
    """
    user_embeddings = tf.stop_gradient(user_embeddings)
    with tf.GradientTape() as tape:
        tape.watch(user_embeddings)
        value = held_out_loss(user_embeddings)
    gradient = _sum_over_rows_of_a_user(users, tape.gradient(value, user_embeddings))
    with tf.autodiff.ForwardAccumulator(user_embeddings, gradient) as accumulator:
        per_sampler = sampler_losses(user_embeddings)
    replicas = tf.distribute.get_replica_context()
    alignments = accumulator.jvp(per_sampler)
    if replicas.num_replicas_in_sync > 1:
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, alignments)
    return alignments


def _sum_over_rows_of_a_user(users: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """[batch, dim]: each row's sum over all rows with the same user, on all replicas.

    By a product with who is the same, some hundreds of rows wide: `tf.unique` would have a GPU
    wait for the CPU to learn how many users there are.
    """
    same = users[:, None] == over_replicas(users)[None, :]  # [batch, rows of all replicas]
    return tf.matmul(tf.cast(same, values.dtype), over_replicas(values))
