"""Choosing among candidates: what several samplers share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.float32 import fits_float32
from autosample_tf.interactions import Pairs
from autosample_tf.samplers.contract import LOWEST, Context, Negatives, Pool


def check_count(name: str, count: int, at_least: int = 1, what: str = "pool") -> int:
    """The count, or an `InputError` where a sampler's option `what` asks for too few."""
    if count < at_least:
        message = f"{name}'s {what} of at least {at_least}"
        raise expected(message, received=count, remedy="Raise it.")
    return count


def check_above_0(name: str, value: float, *, finite: bool = False) -> float:
    """The value as a float, or an `InputError` where it is not above 0; `name` says whose.

    `finite` is for those at whose infinity a formula is not what it tends to.
    """
    if not value > 0:
        raise expected(f"{name} above 0", received=value, remedy="Raise it.")
    return float(value) if value == float("inf") and not finite else check_finite(name, value)


def check_at_least_0(name: str, value: float) -> float:
    """The value as a float, or an `InputError` where it is below 0 or not finite."""
    if not value >= 0:
        raise expected(f"{name} of at least 0", received=value, remedy="Raise it.")
    return check_finite(name, value)


def check_finite(name: str, value: float) -> float:
    """The value as a float, or an `InputError` where it is infinite, or float32 has it so or as
    none; `name` says whose."""
    if not fits_float32(value):
        message = f"{name} finite, and 0 or within 1e-37 and 1e38"
        raise expected(message, received=value, remedy="Change it.")
    return float(value)


def check_share(name: str, value: float) -> float:
    """The value as a float, or an `InputError` where it is not in [0, 1]; `name` says whose."""
    if not 0 <= value <= 1:
        raise expected(f"{name} in [0, 1]", received=value, remedy="Change it.")
    return float(value)


def warmed_up(progress: tf.Tensor, warmup: float) -> tf.Tensor:
    """How far a warm-up is, from 0 to 1: a scalar. `warmup` is its share of the training; of
    none the end is there at once."""
    return tf.minimum(progress / warmup, 1.0) if warmup else tf.ones_like(progress)


def pick(candidates: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The chosen column of each row: [batch, n] and [batch] to [batch, 1]."""
    return tf.gather(candidates, columns[:, None], batch_dims=1)


def from_pool(pool: Pool, column: tf.Tensor, log_q: tf.Tensor | None = None) -> Negatives:
    """One candidate of each row, column [batch], as the only negative; none where it is not
    allowed, as where none of the row's is."""
    weights = tf.cast(pick(pool.allowed, column), tf.float32)
    return Negatives(pick(pool.items, column), weights, columns=column[:, None], log_q=log_q)


def whole_pool(pool: Pool, weights: tf.Tensor) -> Negatives:
    """All candidates of each row, by weights [batch, n]."""
    columns = tf.broadcast_to(tf.range(pool.items.shape[1])[None, :], pool.items.shape)
    return Negatives(pool.items, weights, columns=columns)


def row_weight(allowed: tf.Tensor) -> tf.Tensor:
    """[batch, 1] float32: 1 where the row has an allowed candidate, else 0."""
    return tf.cast(tf.reduce_any(allowed, axis=1, keepdims=True), tf.float32)


def auxiliary_mean(context: Context, losses: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """A sampler's own losses as its `auxiliary_loss`: their mean over this replica's rows.

    Args:
      context: the step; its padding does not count.
      losses: [batch].
      counts: [batch] float32, 0 for rows that are left out, such as those without a negative;
        they take part in the mean as zeros, as they do in the mixture's loss.
    """
    return tf.reduce_mean(losses * context.example_weight * counts)


def best_of(pool: Pool, merit: tf.Tensor) -> Negatives:
    """Each row's allowed candidate of the greatest merit [batch, n], as the only negative."""
    merit = tf.where(pool.allowed, merit, LOWEST)
    return from_pool(pool, tf.argmax(merit, axis=1, output_type=tf.int32))


def one_hardest(pool: Pool) -> Negatives:
    """Each row's best-scored allowed candidate, as the only negative."""
    return from_pool(pool, tf.argmax(pool.scores, axis=1, output_type=tf.int32))


def first_allowed(items: tf.Tensor, allowed: tf.Tensor) -> Negatives:
    """Each row's first allowed candidate: of independent draws, a draw among the allowed.

    Args:
      items: [batch, n] int32, drawn independently.
      allowed: [batch, n] bool.
    """
    return Negatives(items=pick(items, first_column(allowed)), weights=row_weight(allowed))


def first_column(allowed: tf.Tensor) -> tf.Tensor:
    """[batch] int32: where in each row of allowed [batch, n] the first true one is, or 0."""
    return tf.argmax(allowed, axis=1, output_type=tf.int32)


def equal_weights(allowed: tf.Tensor) -> tf.Tensor:
    """[batch, n] float32: the allowed candidates of a row alike, summing to 1 or to 0."""
    mask = tf.cast(allowed, tf.float32)
    return tf.math.divide_no_nan(mask, tf.reduce_sum(mask, axis=1, keepdims=True))


def softmax_weights(logits: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """[batch, n] softmax over a row's allowed candidates, without gradient; 0 elsewhere alone."""
    shares = tf.nn.softmax(tf.where(allowed, logits, LOWEST), axis=1)
    shares = tf.maximum(shares, 1e-30)  # at 0 an allowed one would count as masked
    return tf.stop_gradient(shares * tf.cast(allowed, tf.float32))


def log_share(shares: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """[batch, 1]: the log of what each row's column [batch] has of its row's shares [batch, n];
    finite where it is 0."""
    total = tf.reduce_sum(shares, axis=1, keepdims=True)
    of_column = tf.math.divide_no_nan(pick(shares, column), total)
    return tf.math.log(tf.maximum(of_column, 1e-37))


def log_unobserved(train: Pairs) -> tf.Tensor:
    """[num_users] float32: log of how many items each user has no train pair with; 0 of none."""
    return tf.constant(np.log(np.maximum(train.num_items - train.degrees, 1)), tf.float32)


def log_of_pool(pool: Pool, unobserved: tf.Tensor) -> tf.Tensor:
    """[batch, 1]: log of how many of a row's candidates are allowed, of its user's unobserved
    items, whose log is given [batch].

    With it a draw's log probability among the candidates, who are uniform draws themselves,
    becomes one among the user's unobserved items: an estimate, whose inverse is right in the
    mean over pools.
    """
    allowed = tf.reduce_sum(tf.cast(pool.allowed, tf.float32), axis=1, keepdims=True)
    return tf.math.log(tf.maximum(allowed, 1.0)) - unobserved[:, None]


def draw_columns(shares: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Columns of each row, drawn independently in proportion to their shares.

    Args:
      shares: [batch, n], at least 0; a column of 0 is never drawn where another is above.
      uniform: [batch, m], in [0, 1).

    Returns:
      [batch, m] int32.
    """
    n = shares.shape[1]
    # Running sums as a product with a triangle of ones, a tenth of what `tf.cumsum` costs on
    # a CPU; with TF32 on a GPU they are good to a thousandth.
    passed = tf.matmul(shares, tf.linalg.band_part(tf.ones([n, n], shares.dtype), 0, -1))
    drawn = tf.searchsorted(passed, uniform * passed[:, -1:], side="right")
    drawn = tf.minimum(drawn, n - 1)
    # Rounding may pass the last column of the row, or end on one whose share is 0.
    best = tf.argmax(shares, axis=1, output_type=tf.int32)[:, None]
    return tf.where(tf.gather(shares, drawn, batch_dims=1) > 0, drawn, best)


def draw_column(shares: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """One column of each row: `draw_columns` of uniform [batch, 1], as [batch] int32."""
    return draw_columns(shares, uniform)[:, 0]
