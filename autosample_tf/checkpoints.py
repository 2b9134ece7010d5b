"""Parameters and optimizers' states in files, as `tf.train.Checkpoint` has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from autosample_tf.errors import InputError


def write_parameters(
    model: tf.keras.Model, path: Path, optimizer: tf.keras.optimizers.Optimizer | None = None
) -> None:
    """Writes a recommender's parameters, and the state of its optimizer if one is given."""
    also = {} if optimizer is None else {"optimizer": optimizer}
    tf.train.Checkpoint(model=model, **also).write(str(path))


def read_parameters(model: tf.keras.Model, path: Path) -> None:
    """Reads what `write_parameters` wrote.

    Raises:
      InputError: if nothing is there, or it is another model's.
    """
    _read(tf.train.Checkpoint(model=model), "the parameters of this model", path)


def read_optimizer(optimizer: tf.keras.optimizers.Optimizer, path: Path) -> None:
    """Reads the state that `write_parameters` wrote, but for the learning rate, which stays.

    Args:
      optimizer: built, of the kind that was written.
      path: as of `write_parameters`.

    Raises:
      InputError: if none is there, or it is another optimizer's.
    """
    rate = float(optimizer.learning_rate)
    _read(tf.train.Checkpoint(optimizer=optimizer), "the state of this optimizer", path)
    optimizer.learning_rate = rate


def read_back_up(
    model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer, path: Path
) -> None:
    """Reads a recommender and its optimizer of a checkpoint that `BackUp` wrote."""
    trained = tf.train.Checkpoint(model=model, optimizer=optimizer)
    _read(tf.train.Checkpoint(autosample=trained), "what was trained", path)


def _read(checkpoint: tf.train.Checkpoint, what: str, path: Path) -> None:
    with readable(
        what, path, "Was the run interrupted before they were written, or copied in part?"
    ):
        checkpoint.read(str(path)).assert_existing_objects_matched().expect_partial()


@contextmanager
def readable(what: str, path: Path, remedy: str) -> Iterator[None]:
    """Names the files where TensorFlow cannot read them: those of another model, and damaged ones.

    Raises:
      InputError: with the remedy.
    """
    try:
        yield
    except (tf.errors.OpError, IndexError, AssertionError, ValueError) as error:
        raise InputError(
            f"Expected {what} in {path}; received {str(error).splitlines()[0]}. {remedy}"
        ) from error
