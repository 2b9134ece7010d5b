"""The training batches of pairs that are streamed: a tf.data of sharded records.

As `pipeline.training_batches`, but for the order, which comes about in windows of users: the
files are read side by side in an order of the epoch's own, and all pairs of some thousand users
that are read one after another, a window, are permuted. A batch is a function of (seed,
epoch, step) all the same: resumed runs see what one uninterrupted would have seen.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.ops.membership import NO_ITEM
from autosample_tf.pipeline import TRAIN_POSITIVES, steps_per_epoch
from autosample_tf.reading.sharded import StreamedPairs, parsed

_USERS_PER_WINDOW = 1 << 13  # whose pairs are in memory, and mixed
_FILES_AT_ONCE = 16


def streamed_batches(
    pairs: StreamedPairs, batch_size: int, *, seed: int, first_epoch: int = 0
) -> tf.data.Dataset:
    """Endless batches of static shape; every `steps_per_epoch` of them are an epoch.

    Each batch is as `pipeline.training_batches` has it, with one more entry:
      train_positives: [batch_size, most_positives] int32, the user's items among the pairs,
        ascending, filled up with `membership.NO_ITEM`. Of more than `most_positives` they are
        every second, third and so on.

    Args:
      pairs: what is learned from.
      batch_size: rows of a batch, over all replicas.
      seed: another seed, another order.
      first_epoch: where to begin, for a run that goes on.
    """

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        windows = _windows(pairs, tf.stack([tf.constant(seed, tf.int64), number]))
        return windows.flat_map(lambda window: _batches_of(window, batch_size)).rebatch(batch_size)

    def filled_up(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = tf.shape(batch["user"])[0]
        rows = tf.range(batch_size)
        full = {name: tf.gather(values, rows % real) for name, values in batch.items()}
        weight = tf.cast(rows < real, tf.float32)
        return full | {
            "weight": weight * tf.cast(batch_size / real, tf.float32),
            "position": step * batch_size + tf.cast(rows, tf.int64),
        }

    first_step = first_epoch * steps_per_epoch(pairs.num_pairs, batch_size)
    batches = tf.data.Dataset.counter(first_epoch, dtype=tf.int64).flat_map(epoch)
    return batches.enumerate(first_step).map(filled_up).prefetch(4)


def _windows(pairs: StreamedPairs, seed: tf.Tensor) -> tf.data.Dataset:
    """The pairs of some users at a time, permuted.

    Args:
      pairs: what to read.
      seed: [2] int64, the run's and the epoch.

    Returns:
      Dictionaries: `place` [n] int32, whose pair each is among the window's users, `item` [n]
      int32, `users` [window] int32, and `positives` [window, most_positives] int32.
    """
    # `Dataset.shuffle` would take in the program's own tf.random.set_seed.
    paths = tf.constant(list(pairs.shards.paths))
    files = tf.data.Dataset.from_tensor_slices(
        tf.random.experimental.stateless_shuffle(paths, seed)
    )
    records = files.interleave(tf.data.TFRecordDataset, cycle_length=_FILES_AT_ONCE)
    records = records.batch(_USERS_PER_WINDOW)

    def window(number: tf.Tensor, some: tf.Tensor) -> dict[str, tf.Tensor]:
        held = parsed(some, pairs.splits)
        rows = tf.cast(tf.concat([held[split] for split in pairs.splits], axis=1), tf.int32)
        if len(pairs.splits) > 1:
            rows = _ascending(rows)
        own_seed = tf.stack([seed[0], seed[1] + number * 2**32])
        mixed = tf.argsort(tf.random.stateless_uniform(tf.shape(rows.flat_values), own_seed))
        return {
            "place": tf.cast(tf.gather(rows.value_rowids(), mixed), tf.int32),
            "item": tf.gather(rows.flat_values, mixed),
            "users": tf.cast(held["user"], tf.int32),
            "positives": _at_most(rows, pairs.shards.most_positives),
        }

    return records.enumerate().map(window, num_parallel_calls=1)


def _batches_of(window: dict[str, tf.Tensor], batch_size: int) -> tf.data.Dataset:
    """A window's pairs, the last batch of them maybe smaller."""
    places = tf.data.Dataset.range(tf.size(window["place"], out_type=tf.int64))

    def batch(rows: tf.Tensor) -> dict[str, tf.Tensor]:
        place = tf.gather(window["place"], rows)
        return {
            "user": tf.gather(window["users"], place),
            "positive": tf.gather(window["item"], rows),
            TRAIN_POSITIVES: tf.gather(window["positives"], place),
        }

    return places.batch(batch_size).map(batch)


def _ascending(rows: tf.RaggedTensor) -> tf.RaggedTensor:
    """Rows of int32, each in ascending order."""
    keys = rows.value_rowids() * 2**32 + tf.cast(rows.flat_values, tf.int64)
    return rows.with_flat_values(tf.cast(tf.sort(keys) % 2**32, tf.int32))


def _at_most(rows: tf.RaggedTensor, most: int) -> tf.Tensor:
    """[n, most] of rows of int32: evenly picked of longer ones, shorter ones filled up."""
    lengths = rows.row_lengths()
    kept = tf.minimum(lengths, most)
    places = tf.ragged.range(kept)
    owners = places.value_rowids()
    within = places.flat_values * tf.gather(lengths, owners) // tf.gather(kept, owners)
    picked = tf.gather(rows.flat_values, tf.gather(rows.row_starts(), owners) + within)
    return places.with_flat_values(picked).to_tensor(NO_ITEM, shape=[None, most])
