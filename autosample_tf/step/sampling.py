"""One batch under all samplers: every sampler's negatives, and where their representations are.

What costs is done once however many samplers there are. Items from the pool are scored there
already; negatives from elsewhere are gathered and scored side by side, as columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from autosample_tf.errors import InputError, expected
from autosample_tf.models.contract import Recommender, State
from autosample_tf.ops.membership import TrainPairs
from autosample_tf.samplers.contract import Context, Negatives, Sampler
from autosample_tf.step.pool import Blocks, Step, make_context


@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
    """Negatives of several samplers as columns of representations.

    Attributes:
      users: [batch] int32.
      positives: [batch] int32.
      train_pairs: knows all positives of these users.
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
    positives: tf.Tensor
    train_pairs: TrainPairs
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
      train_pairs: the positives, of the batch's users at least.
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
    train_pairs: TrainPairs
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
            positives=some(self.context.positives),
            train_pairs=self.train_pairs if stride == 1 else self.train_pairs.of_rows(rows),
            user_embeddings=some(self.context.user_embeddings),
            positive_embeddings=some(self.context.positive_embeddings),
            items=some(self.items),
            embeddings=tf.concat([pooled, some(self.looked_up), some(self.synthesized)], axis=1),
            weights=some(self.weights),
            owners=self.owners,
            log_q=None if self.log_q is None else some(self.log_q),
            scale=some(self.scale),
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
    negatives = [_answer(sampler, context) for sampler in samplers]
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
        train_pairs=step.train_pairs,
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


def _answer(sampler: Sampler, context: Context) -> Negatives:
    """What a sampler answers, which may be anybody's.

    Raises:
      InputError: unless it is `Negatives` of items [batch, n] int32, and as many float32 weights.
    """
    answer, rows = sampler.sample(context), context.users.shape[0]
    if not isinstance(answer, Negatives):
        raise _refused(sampler, "Negatives", type(answer).__name__)
    items, weights = answer.items, answer.weights
    if items.dtype != tf.int32 or items.shape.rank != 2 or items.shape[0] != rows:
        wanted = f"items [{rows}, n] int32"
        raise _refused(sampler, wanted, f"{items.dtype.name} of shape {items.shape}")
    if weights.dtype != tf.float32 or weights.shape != items.shape:
        wanted = f"weights {items.shape.as_list()} float32"
        raise _refused(sampler, wanted, f"{weights.dtype.name} of shape {weights.shape}")
    return answer


def _refused(sampler: Sampler, wanted: str, received: str) -> InputError:
    return expected(
        f"{wanted} of the sampler {sampler.spec}",
        received=received,
        remedy="See Negatives in samplers/contract.py.",
    )


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
