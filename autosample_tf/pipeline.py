"""The training batches: an endless tf.data of (user, positive), a permutation an epoch.

Nothing runs element by element and nothing is shuffled in memory: the n-th batch is a
pure function of (seed, n), because a small block cipher permutes the pairs' indices
without storing the permutation. A resumed run starts at any epoch at once.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.interactions import Interactions

TRAIN_POSITIVES = "train_positives"  # what batches of streamed pairs have besides
EXAMPLE_WEIGHT = "example_weight"  # the feature that a model of features has its weights in


def steps_per_epoch(num_pairs: int, batch_size: int) -> int:
    """How many batches hold every pair once, the last one padded."""
    return -(-num_pairs // batch_size)


def training_batches(
    interactions: Interactions,
    batch_size: int,
    *,
    seed: int,
    first_epoch: int = 0,
    replayed: int | None = None,
) -> tf.data.Dataset:
    """Endless batches of static shape; every `steps_per_epoch` of them are an epoch.

    Each batch is a dictionary:
      user: [batch_size] int32.
      positive: [batch_size] int32, an item of that user.
      weight: [batch_size] float32: 0 for the padding of an epoch's last batch, and
        batch_size / (its number of real pairs) for the others, so that a mean over
        batch_size rows is the mean over the real ones, also where replicas each see a
        part of the batch. In full batches it is 1.
      position: [batch_size] int64: step * batch_size + row, from which every sampler's
        random numbers come.

    Args:
      interactions: the pairs to learn from.
      batch_size: rows of a batch, over all replicas.
      seed: another seed, another order.
      first_epoch: where to begin, for a run that goes on.
      replayed: so many batches come twice, then as many more, and so on, for comparisons; an
        epoch then has the first half of its pairs. None: every batch comes once.
    """
    num_pairs = interactions.num_pairs
    steps = steps_per_epoch(num_pairs, batch_size)
    users, items = tf.constant(interactions.users), tf.constant(interactions.items)

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        if replayed:
            within = step % steps
            step += within // (2 * replayed) * replayed + within % replayed - within
        rows = tf.range(batch_size, dtype=tf.int64)
        places = (step % steps) * batch_size + rows
        real = places < num_pairs
        order = _shuffled(tf.minimum(places, num_pairs - 1), num_pairs, seed, step // steps)
        weight = tf.cast(real, tf.float32)
        return {
            "user": tf.gather(users, order),
            "positive": tf.gather(items, order),
            "weight": weight * (batch_size / tf.reduce_sum(weight)),
            "position": step * batch_size + rows,
        }

    first_step = first_epoch * steps
    counter = tf.data.Dataset.counter(start=first_step, dtype=tf.int64)
    options = tf.data.Options()
    # Nothing is left to tune, and the thread that would may sleep on for as long as an epoch
    # takes after the last batch, with whoever closes the iterator waiting for it.
    options.autotune.enabled = False
    return counter.map(batch, num_parallel_calls=1).prefetch(4).with_options(options)


def padded_batches(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches of feature dictionaries of static shape, for a model of features.

    The last one is filled up with its own first rows, whose `EXAMPLE_WEIGHT` is 0; the others'
    is as `training_batches` has it, times what the examples have under that name already.

    Args:
      examples: finite, an example an element.
      batch_size: rows of a batch, over all replicas.
    """

    def pad(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = tf.shape(next(iter(features.values())))[0]
        places = tf.range(batch_size)
        padded = {name: tf.gather(values, places % rows) for name, values in features.items()}
        weight = tf.cast(places < rows, tf.float32) * tf.cast(batch_size / rows, tf.float32)
        if EXAMPLE_WEIGHT in padded:
            weight *= tf.cast(padded[EXAMPLE_WEIGHT], tf.float32)
        return padded | {EXAMPLE_WEIGHT: weight}

    return examples.batch(batch_size).map(pad).prefetch(tf.data.AUTOTUNE)


def _shuffled(places: tf.Tensor, num_pairs: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Which pair stands at each of `places` [batch] int64 in the epoch's order: [batch] int64.

    `tf.random.experimental.index_shuffle` is this cipher with 4 rounds and the seed as its
    key, of which it uses the low 8 bits (up to 65,536 pairs; 10 up to a million): seeds and
    epochs 256 apart had one order, and neighbours in the data kept meeting in batches.
    """
    key = tf.random.stateless_uniform(
        [3], tf.stack([seed, epoch]), minval=None, maxval=None, dtype=tf.int64, alg="philox"
    )
    largest = tf.constant(num_pairs - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=places, seed=key, max_index=largest, rounds=12)
