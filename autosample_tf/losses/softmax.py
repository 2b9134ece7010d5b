"""The softmax of a positive among several negatives: those that a sampler answers.

Wu et al., "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", ACM TOIS
2024 (arXiv 2201.02327).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow as tf

from autosample_tf.losses.pairwise import BPR


def softmax(positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
    """The softmax cross-entropy of a positive among its negatives.

    -log(exp(positive) / (exp(positive) + sum_j exp(negative_j))).

    Args:
      positive_scores: [batch].
      negative_scores: [batch, n]; the lowest finite float for none.

    Returns:
      [batch], at least 0.
    """
    if negative_scores.shape[1] == 0:  # the logarithm's derivatives would be no numbers
        return 0.0 * positive_scores
    leads = negative_scores - positive_scores[:, None]
    return tf.nn.softplus(tf.reduce_logsumexp(leads, axis=1))


@dataclasses.dataclass(frozen=True)
class SampledSoftmax(BPR):
    """`softmax` over all negatives of a sampler, scores divided by a temperature.

    Of one negative it is BPR. Where a sampler weighs its negatives unequally, each counts so
    many times in the sum as its weight is of an equal one: ours, who is masked counts 0 times.

    With `log_q` the sum estimates that over all items that the negatives are drawn from: each
    counts with 1 / (n q) instead, q being the probability with which it was drawn, and the
    positive once (Bengio & Senecal, "Adaptive Importance Sampling to Accelerate Training of a
    Neural Probabilistic Language Model", IEEE TNN 2008).

    Attributes:
      temperature: as of `Tempered`.
      cosine: see `Loss`.
      log_q: corrects for how often negatives are drawn; of samplers that know it.
    """

    name: ClassVar[str] = "sampled-softmax"
    compares_several: ClassVar[bool] = True
    log_q: bool = False

    def of_samplers(
        self,
        positive_scores: tf.Tensor,
        negative_scores: tf.Tensor,
        weights: tf.Tensor,
        owners: np.ndarray,
        log_q: tf.Tensor | None = None,
    ) -> tf.Tensor:
        used = weights > 0
        times = weights if self.log_q else weights * _number_of(used, owners)
        log_times = tf.math.log(tf.where(used, times, 1.0))
        if self.log_q:
            log_times -= log_q
        logits = negative_scores / self.temperature + log_times
        logits = tf.where(used, logits, logits.dtype.min)
        positive = positive_scores / self.temperature
        own = [tf.gather(logits, np.flatnonzero(column), axis=1) for column in owners.T]
        return tf.stack([softmax(positive, of_sampler) for of_sampler in own], axis=1)


def _number_of(used: tf.Tensor, owners: np.ndarray) -> tf.Tensor:
    """[batch, M]: how many columns of its sampler's a column's row uses."""
    return tf.matmul(tf.matmul(tf.cast(used, tf.float32), owners), owners.T)
