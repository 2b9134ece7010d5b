"""Losses of positives against negatives: pure functions of scores.

A pairwise loss gives one value a (positive, negative) pair; how the pairs of one sampler,
and then the samplers, are averaged is `mixture`'s business.
"""

from __future__ import annotations

import tensorflow as tf


def bpr(positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
    """Bayesian personalized ranking: -log sigmoid(positive - negative).

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009,
    BPR-Opt without its regularization, which is the model's.

    Args:
      positive_scores: [batch].
      negative_scores: [batch, n].

    Returns:
      [batch, n], at least 0.
    """
    return tf.nn.softplus(negative_scores - positive_scores[:, None])


PAIRWISE = {"bpr": bpr}
