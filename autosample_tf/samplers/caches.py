"""Rows of items that a sampler remembers for each user: what samplers with caches share.

A cache is a table [num_users, size] of items that are no train positives of the user;
where there are fewer, `NOTHING` fills the rest. Tables are state that every replica holds:
all replicas write the rows of the whole global batch, hence the same.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.ops.replicas import over_replicas
from autosample_tf.samplers.contract import LOWEST, Context, Pool

NOTHING = -1  # in a cache's free place


def initial_cache(train: Interactions, size: int, seed: int = 0) -> np.ndarray:
    """Distinct random unobserved items of every user: [num_users, size] int32.

    Floyd's method draws distinct ranks among the unobserved items, one column at a time for
    all users: of the ranks 0 to j one at random, or j itself where that one is taken.
    """
    rng = np.random.default_rng(seed)
    unobserved = train.num_items - train.degrees
    ranks = np.full((train.num_users, size), NOTHING, np.int64)
    for column in range(size):
        last = unobserved - np.minimum(size, unobserved) + column
        drawn = (rng.random(train.num_users) * (last + 1)).astype(np.int64)
        taken = (ranks[:, :column] == drawn[:, None]).any(axis=1)
        ranks[:, column] = np.where(column < unobserved, np.where(taken, last, drawn), NOTHING)
    return items_of_ranks(train, ranks)


def items_of_ranks(train: Interactions, ranks: np.ndarray) -> np.ndarray:
    """Each user's unobserved items of the given ranks, from 0: [num_users, n] int32.

    The user's k-th positive p_k has p_k - k unobserved items before it, so that the item of
    rank r is r plus the number of positives with p_k - k <= r.

    Args:
      train: the pairs.
      ranks: [num_users, n] int64 below the number of the user's unobserved items, or
        `NOTHING`, which stays.
    """
    begin = np.arange(train.num_users, dtype=np.int64)[:, None] * (train.num_items + 1)
    places = np.arange(train.num_pairs) - train.offsets[train.users]
    before = begin[train.users, 0] + train.items - places  # ascending
    passed = np.searchsorted(before, begin + ranks, side="right") - train.offsets[:-1, None]
    return np.where(ranks == NOTHING, NOTHING, ranks + passed).astype(np.int32)


def is_new(cached: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Which candidates are neither cached nor further left among the candidates.

    Args:
      cached: [batch, size] int32.
      candidates: [batch, n] int32.

    Returns:
      [batch, n] bool.
    """
    known = tf.reduce_any(candidates[:, :, None] == cached[:, None, :], axis=2)
    same = candidates[:, :, None] == candidates[:, None, :]  # [batch, n, n]
    n = candidates.shape[1]
    further_left = tf.constant(np.tri(n, k=-1, dtype=bool))
    return ~known & ~tf.reduce_any(same & further_left, axis=2)


def draw_distinct(
    logits: tf.Tensor, allowed: tf.Tensor, uniform: tf.Tensor, n: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Columns drawn one after the other without replacement, in proportion to exp(logit).

    The n greatest of logit + Gumbel noise (Vieira 2014, "Gumbel-max trick and weighted
    reservoir sampling"; Kool et al., ICML 2019).

    Args:
      logits: [batch, columns].
      allowed: [batch, columns] bool.
      uniform: [batch, columns] in [0, 1).
      n: how many, at most as many as there are columns.

    Returns:
      Columns [batch, n] int32 in the order drawn, and [batch, n] bool: false, and last,
      where fewer are allowed.
    """
    # -log(1 - u) is exponential; where u is 0 half of the next smallest stands for it.
    exponential = tf.maximum(-tf.math.log1p(-uniform), 2.0**-25)
    keys = tf.where(allowed, logits - tf.math.log(exponential), LOWEST)
    columns = tf.math.top_k(keys, n).indices
    return columns, tf.gather(allowed, columns, batch_dims=1)


def scores_of(context: Context, items: tf.Tensor) -> tf.Tensor:
    """The model's scores of cached items [batch, n], without gradient; `LOWEST` for none."""
    users = tf.stop_gradient(context.user_embeddings)[:, None, :]
    embeddings = context.embed_cached(tf.maximum(items, 0))
    return tf.where(items == NOTHING, LOWEST, context.score(users, embeddings))


def renewed(
    context: Context, cached: tf.Tensor, pool: Pool, temperature: float, uniform: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A cache after its items and a pool's new ones drew for its places.

    As many as it holds are kept, without replacement in proportion to exp(score / temperature).

    Args:
      context: the step.
      cached: [batch, size] int32.
      pool: candidates, n a row.
      temperature: above 0.
      uniform: [batch, size + n] in [0, 1).

    Returns:
      The items kept [batch, size] int32, `NOTHING` last; their columns among the cached and,
      behind those, the pool's [batch, size] int32; and the scores of all [batch, size + n],
      0 where a column could not be kept.
    """
    items = tf.concat([cached, pool.items], axis=1)
    new = pool.allowed & is_new(cached, pool.items)
    allowed = tf.concat([cached != NOTHING, new], axis=1)
    scores = tf.concat([scores_of(context, cached), pool.scores], axis=1)
    columns, found = draw_distinct(scores / temperature, allowed, uniform, cached.shape[1])
    kept = tf.where(found, tf.gather(items, columns, batch_dims=1), NOTHING)
    return kept, columns, tf.where(allowed, scores, 0.0)


def read_rows(context: Context, table: tf.Variable) -> tf.Tensor:
    """The batch's users' rows of a table of integers [num_users, size]: [batch, size] int32."""
    return tf.cast(tf.gather(table, context.users), tf.int32)


def write_rows(context: Context, *written: tuple[tf.Variable, tf.Tensor]) -> None:
    """Writes the batch's users' new rows into tables, the padding's not.

    A user who is there several times gets the row of the first time, so that what is
    written does not hang on which device is faster.

    Args:
      context: the step.
      *written: a table [num_users, …] and its rows [batch, …], as often as there are tables.
    """
    users = over_replicas(context.users)
    real = over_replicas(context.example_weight) > 0
    for table, rows in written:
        first = first_real_rows(users, real, table.shape[0])[:, None]  # [rows, 1]
        rows = tf.cast(over_replicas(rows), table.dtype)
        flat = tf.reshape(rows, [rows.shape[0], -1])
        old = tf.reshape(tf.gather(table, users), flat.shape)
        last = rows.shape[0] - 1
        new = tf.where(first <= last, tf.gather(flat, tf.minimum(first[:, 0], last)), old)
        # By the handle of this replica's copy: the distributed variable can't scatter.
        tf.raw_ops.ResourceScatterUpdate(
            resource=table.handle, indices=users, updates=tf.reshape(new, rows.shape)
        )


def first_real_rows(users: tf.Tensor, real: tf.Tensor, num_users: int) -> tf.Tensor:
    """For each row the first real row of its user; beyond the last where there is none.

    Args:
      users: [rows] int32.
      real: [rows] bool: false for padding.
      num_users: how many users there are.

    Returns:
      [rows] int32.
    """
    rows = users.shape[0]
    places = tf.where(real, tf.range(rows), rows)
    return tf.gather(tf.math.unsorted_segment_min(places, users, num_users), users)
