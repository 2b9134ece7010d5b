"""Mixing samplers: softmax weights, loss and instance mixing.

Pure functions. That a sampler's losses, weighted by a softmax over trainable logits and
summed, can be learned end to end is AutoSample's loss-to-instance approximation (Lyu et
al., arXiv 2311.03526, abstract). The paper's equations were not at hand: what follows is
this project's own reading.
"""

from __future__ import annotations

import tensorflow as tf

# A weight that counts as none: samplers are kept out of a mixture by float32's least number, which
# rounding may leave above 0.
_NOTHING = 1e-30


def mixture_weights(logits: tf.Tensor, active: tf.Tensor, temperature: float) -> tf.Tensor:
    """softmax(logits / temperature) over the active samplers, 0 for the dropped ones.

    Args:
      logits: [num_samplers].
      active: [num_samplers] bool, true for at least one.
      temperature: above 0; lower is nearer to choosing one.

    Returns:
      [num_samplers], at least 0, summing to 1.
    """
    scaled = tf.where(active, logits / temperature, logits.dtype.min)
    return tf.where(active, tf.nn.softmax(scaled), 0.0)


def example_weights(weights: tf.Tensor, available: tf.Tensor) -> tf.Tensor:
    """Each example's weights: a sampler without a negative passes its share to the others.

    Args:
      weights: [num_samplers], summing to 1; where one is as good as 0, as of a sampler that has to
        stay out, no share falls to it.
      available: [batch, num_samplers] bool.

    Returns:
      [batch, num_samplers], rows summing to 1, or to 0 where no sampler is available.
    """
    shares = tf.where(available & (weights > _NOTHING), weights[None, :], 0.0)
    return tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=1, keepdims=True))


def mix_losses(losses: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Loss mixing, sum_k p_k l_k: [batch, num_samplers] twice to [batch]."""
    return tf.reduce_sum(losses * weights, axis=1)


def mix_embeddings(embeddings: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Instance mixing, sum_k p_k e_k: the one negative whose loss is then taken.

    For a convex loss of a dot product its loss is at most the mixed losses (Jensen), and
    equal at a one-hot weight.

    Args:
      embeddings: [batch, num_samplers, dim].
      weights: [batch, num_samplers].

    Returns:
      [batch, dim].
    """
    return tf.reduce_sum(embeddings * weights[:, :, None], axis=1)


def standardize(values: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Values of the active samplers with mean 0 and standard deviation 1; else 0.

    Args:
      values: [num_samplers].
      active: [num_samplers] bool.
    """
    mask = tf.cast(active, values.dtype)
    count = tf.reduce_sum(mask)
    centred = mask * (values - tf.reduce_sum(mask * values) / count)
    deviation = tf.sqrt(tf.reduce_sum(tf.square(centred)) / count)
    return tf.math.divide_no_nan(centred, deviation)
