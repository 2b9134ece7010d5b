"""Hard items layer by layer, and negatives synthesized from them: what mixers share."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from autosample_tf.samplers.contract import LOWEST, Context, Negatives, Pool
from autosample_tf.samplers.selection import from_pool, one_hardest


def hardest_of_each_layer(context: Context, pool: Pool) -> tf.Tensor:
    """In each layer the allowed candidate that scores best there: columns [batch, layers]."""
    layers = context.layers()
    if layers.positives.shape[1] == 1:  # the layer's scores are the model's
        return one_hardest(pool).columns
    candidates = tf.stop_gradient(layers.embed(pool.items))  # [batch, n, layers, width]
    queries = tf.stop_gradient(layers.queries)[:, None]  # [batch, 1, layers or 1, width]
    return best_by_layer(pool, tf.reduce_sum(queries * candidates, axis=-1))


def best_by_layer(pool: Pool, merits: tf.Tensor) -> tf.Tensor:
    """In each layer the allowed candidate of the greatest merit: [batch, n, layers] to
    columns [batch, layers]."""
    merits = tf.where(pool.allowed[:, :, None], merits, LOWEST)
    return tf.argmax(merits, axis=1, output_type=tf.int32)


def own_layers(context: Context, pool: Pool, columns: tf.Tensor) -> tf.Tensor:
    """The l-th layer of the item in the l-th column: [batch, layers] to [batch, layers, width]."""
    layers, num_layers = context.layers(), columns.shape[1]
    if num_layers == 1:
        return context.embed_pool(columns)
    items = tf.gather(pool.items, columns, batch_dims=1)
    each = [layers.embed(items[:, layer])[:, layer] for layer in range(num_layers)]
    return tf.stack(each, axis=1)


def synthesized(context: Context, pool: Pool, columns: tf.Tensor, mixed: tf.Tensor) -> Negatives:
    """One negative an example, its layers given; it stands for the item of the first.

    Args:
      context: the step.
      pool: that the items are from.
      columns: [batch, layers].
      mixed: [batch, layers, width].
    """
    embeddings = tf.expand_dims(context.layers().combine(mixed), 1)
    return dataclasses.replace(from_pool(pool, columns[:, 0]), embeddings=embeddings)
