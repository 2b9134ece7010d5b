"""Hard items layer by layer, and negatives synthesized from them: what mixers share."""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.contract import LOWEST, Context, Layers, Negatives, Pool
from autosample_tf.samplers.selection import one_hardest, row_weight


def hardest_of_each_layer(context: Context, pool: Pool) -> tf.Tensor:
    """In each layer the allowed candidate that scores best there: items [batch, layers]."""
    layers = context.layers()
    if layers.positives.shape[1] == 1:  # the layer's scores are the model's
        return one_hardest(pool).items
    candidates = tf.stop_gradient(layers.embed(pool.items))  # [batch, n, layers, width]
    queries = tf.stop_gradient(layers.queries)[:, None]  # [batch, 1, layers or 1, width]
    return best_by_layer(pool, tf.reduce_sum(queries * candidates, axis=-1))


def best_by_layer(pool: Pool, merits: tf.Tensor) -> tf.Tensor:
    """In each layer the allowed candidate of the greatest merit: [batch, n, layers] to
    items [batch, layers]."""
    merits = tf.where(pool.allowed[:, :, None], merits, LOWEST)
    best = tf.argmax(merits, axis=1, output_type=tf.int32)  # [batch, layers]
    return tf.gather(pool.items, best, batch_dims=1)


def own_layers(layers: Layers, items: tf.Tensor) -> tf.Tensor:
    """The l-th layer of the l-th item: items [batch, layers] to [batch, layers, width]."""
    each = [layers.embed(items[:, layer])[:, layer] for layer in range(items.shape[1])]
    return tf.stack(each, axis=1)


def synthesized(context: Context, pool: Pool, items: tf.Tensor, mixed: tf.Tensor) -> Negatives:
    """One negative an example, its layers given; it stands for the item of the first.

    Args:
      context: the step.
      pool: that the items are from.
      items: [batch, layers].
      mixed: [batch, layers, width].
    """
    embeddings = context.layers().combine(mixed)[:, None, :]
    return Negatives(items[:, :1], row_weight(pool.allowed), embeddings=embeddings)
