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
    candidates = tf.stop_gradient(layers.embed_pool(pool.items.shape[1]))
    return best_by_layer(pool, _merits(tf.stop_gradient(layers.queries), candidates))


def _merits(queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Each row's inner products with its block's candidates, layer by layer: queries [batch, layers
    or 1, width] and [blocks, n, layers, width] to [batch, n, layers]."""
    num_blocks, n, layers, _ = candidates.shape
    own = tf.reshape(queries, [num_blocks, -1, *queries.shape[1:]])
    products = tf.matmul(  # [blocks, layers, rows, n]
        tf.transpose(own, (0, 2, 1, 3)), tf.transpose(candidates, (0, 2, 1, 3)), transpose_b=True
    )
    return tf.reshape(tf.transpose(products, (0, 2, 3, 1)), [-1, n, layers])


def best_by_layer(pool: Pool, merits: tf.Tensor) -> tf.Tensor:
    """In each layer the allowed candidate of the greatest merit: [batch, n, layers] to
    columns [batch, layers]."""
    merits = tf.where(pool.allowed[:, :, None], merits, LOWEST)
    return tf.argmax(merits, axis=1, output_type=tf.int32)


def own_layers(context: Context, pool: Pool, columns: tf.Tensor) -> tf.Tensor:
    """The l-th layer of the item in the l-th column: [batch, layers] to [batch, layers, width]."""
    if columns.shape[1] == 1:
        return context.embed_pool(columns)
    candidates = context.layers().embed_pool(pool.items.shape[1])
    num_blocks, n, layers, width = candidates.shape
    places = tf.reshape(columns * layers + tf.range(layers), [num_blocks, -1])
    flat = tf.reshape(candidates, [num_blocks, n * layers, width])
    return tf.reshape(tf.gather(flat, places, batch_dims=1), [*columns.shape, width])


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
