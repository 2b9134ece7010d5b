"""A tower: a Keras model of features, over a batch of them or over a whole table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.models.features import Features, FeatureTable, check_features

_ROWS_PER_BLOCK = 1024  # at a time, where a whole table passes through
Names = str | Sequence[str] | None


class Tower:
    """A Keras model of features, called with those that it reads.

    Args:
      model: takes a tensor or a dictionary of tensors and gives [n, dim].
      features: one name: the model takes its tensor alone; several: a dictionary of these;
        None: a dictionary of its inputs' names, if it is functional, else of all there are.
      what: to call it in errors.
    """

    def __init__(self, model: tf.keras.layers.Layer, features: Names, what: str):
        self.model, self.what = model, what
        inputs = getattr(model, "input", None)
        if features is None and isinstance(inputs, Mapping):
            features = tuple(inputs)
        self._features = features

    @property
    def is_particular(self) -> bool:
        """Whether it reads some features only."""
        return self._features is not None

    def names(self, there: Sequence[str]) -> list[str]:
        """The features that it reads, of those that are there.

        Raises:
          InputError: if one is missing.
        """
        if self._features is None:
            return list(there)
        names = [self._features] if isinstance(self._features, str) else list(self._features)
        check_features(names, there, f"what the {self.what} reads")
        return names

    def __call__(self, features: Features, *, training: bool) -> tf.Tensor:
        """Representations [n, dim] float32 of features [n, …] by name."""
        names = self.names(list(features))
        one = isinstance(self._features, str)
        given = features[names[0]] if one else {name: features[name] for name in names}
        rows = tf.cast(self.model(given, training=training), tf.float32)
        if rows.shape.rank != 2 or rows.shape[1] is None:
            raise expected(
                f"representations [batch, dim] from the {self.what}",
                received=f"shape {rows.shape}",
                remedy="End it with a layer whose width is known.",
            )
        return rows

    def embed(self, table: FeatureTable, ids: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """Representations of a table's rows: ids [...] to [..., dim].

        Many rows pass through the tower a block at a time, except in training.
        """
        flat = tf.reshape(ids, [-1])
        if training or (flat.shape[0] or 0) <= _ROWS_PER_BLOCK:
            rows = self(table.rows(flat), training=training)
        else:
            rows = _in_blocks(lambda block: self(table.rows(block), training=False), flat)
        dim = rows.shape[1]
        shaped = tf.reshape(rows, tf.concat([tf.shape(ids), [dim]], axis=0))
        return tf.ensure_shape(shaped, [*ids.shape, dim])

    def added(self) -> list[tf.Tensor]:
        """What its layers added to the loss in its last call: of activity regularizers, and of
        `add_loss`."""
        return parted(self.model.losses, self.model.losses)[1]

    def check_rows_apart(self) -> None:
        """Refuses, with an `InputError`, layers whose rows in training depend on one another.

        They would normalize positives and negatives each by their own mean.
        """
        for layer in self.model.submodules:
            kinds = [kind.__name__ for kind in type(layer).__mro__]
            if any("BatchNormalization" in kind for kind in kinds) and layer.trainable:
                raise expected(
                    f"layers in the {self.what} that take each row by itself",
                    received=f"{layer.name!r}, a {kinds[0]}",
                    remedy="Use LayerNormalization, or freeze it (trainable = False).",
                )

    def check_finite(self, rows: tf.Tensor, table: FeatureTable) -> None:
        """Refuses, with an `InputError`, representations of a table's first rows that are not
        finite."""
        is_finite = tf.reduce_all(tf.math.is_finite(rows), axis=1).numpy()
        if not is_finite.all():
            raise expected(
                f"finite representations from the {self.what}",
                received=f"NaN or infinity for {table.id_of(int(np.argmin(is_finite)))!r}",
                remedy="Look for such numbers among its features and weights.",
            )


def parted(
    losses: list[tf.Tensor], again: list[tf.Tensor]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """A layer's losses, asked for twice, as those of regularizers, which are computed anew each
    time, and those that its last call added."""
    parts: tuple[list[tf.Tensor], list[tf.Tensor]] = ([], [])
    for one in losses:
        parts[any(one is other for other in again)].append(one)
    return parts


def _in_blocks(embed: Callable[[tf.Tensor], tf.Tensor], ids: tf.Tensor) -> tf.Tensor:
    """`embed` [n] to [n, dim], some rows at a time, n being static."""
    n = ids.shape[0]
    dim = embed(ids[:1]).shape[1]
    padded = tf.pad(ids, [[0, -n % _ROWS_PER_BLOCK]])
    rows = tf.map_fn(
        embed,
        tf.reshape(padded, [-1, _ROWS_PER_BLOCK]),
        fn_output_signature=tf.TensorSpec([_ROWS_PER_BLOCK, dim], tf.float32),
        parallel_iterations=1,  # of memory for one block
    )
    return tf.reshape(rows, [-1, dim])[:n]
