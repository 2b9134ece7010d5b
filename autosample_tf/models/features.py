"""Datasets of feature dictionaries as tables in memory, their rows found by id in the graph.

What TensorFlow Recommenders' users have is a `tf.data.Dataset` whose elements are
dictionaries, such as `{"movie_id": b"7", "movie_title": b"…", "year": 1995.0}`, batched or
not; one feature of it, text or an integer, tells the rows apart.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected

Features = Mapping[str, tf.Tensor]
_ROWS_PER_BATCH = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows of features, each with an id of its own.

    Attributes:
      ids: [num_rows] bytes or int64, all different.
      features: by name [num_rows, …].
    """

    ids: np.ndarray
    features: Features

    @functools.cached_property
    def _places(self) -> tf.lookup.StaticHashTable:
        with tf.init_scope():  # a graph that asks first must not own it
            dtype = tf.string if self.ids.dtype == object else tf.int64
            keys = tf.constant(self.ids.tolist(), dtype)
            rows = tf.range(len(self.ids), dtype=tf.int64)
            return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, rows), -1)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, places: tf.Tensor) -> dict[str, tf.Tensor]:
        """By name the features [n, …] of the rows at `places` [n]."""
        return {name: tf.gather(values, places) for name, values in self.features.items()}

    def id_of(self, place: int) -> object:
        """The id of a row, as Python has it."""
        return self.ids[place : place + 1].tolist()[0]

    def find(self, ids: tf.Tensor) -> tf.Tensor:
        """Where ids [n] stand: [n] int32, -1 for those that are not there."""
        return tf.cast(self._places.lookup(_as_keys(ids)), tf.int32)


def feature_spec(spec: Any, what: str) -> dict[str, tf.TensorSpec]:
    """A dataset's `element_spec` as the specs of features by name.

    Raises:
      InputError: if its elements are no dictionaries of tensors.
    """
    is_features = isinstance(spec, Mapping) and all(
        isinstance(one, tf.TensorSpec) for one in spec.values()
    )
    if not is_features:
        raise expected(
            f"{what} as a tf.data.Dataset of dictionaries of tensors, an id among them",
            received=spec,
            remedy="Name its features, for example titles.map(lambda title: {'title': title}); "
            "pad what is ragged.",
        )
    return dict(spec)


def check_features(wanted: Sequence[str], there: Sequence[str], what: str) -> None:
    """Refuses, with an `InputError`, features that lack a wanted one."""
    if missing := sorted(set(wanted) - set(there)):
        raise expected(
            f"the feature {', '.join(map(repr, missing))} in {what}",
            received=", ".join(sorted(there)) or "none",
            remedy="Add it, or name the features that there are.",
        )


def id_feature(spec: Mapping[str, tf.TensorSpec], name: str | None, what: str) -> str:
    """The name of the feature that tells rows apart.

    Args:
      spec: of a dataset.
      name: which it is; None: the only one called `id` or `…_id`, or the only one at all.
      what: the dataset is.

    Raises:
      InputError: if there is none, or it is neither text nor integers.
    """
    if name is None:
        named = [feature for feature in spec if feature == "id" or feature.endswith("_id")]
        candidates = named or list(spec)
        if len(candidates) != 1:
            raise expected(
                f"one id among the features of {what}",
                received=", ".join(sorted(spec)),
                remedy="Name the feature that is: candidate_id='…'.",
            )
        name = candidates[0]
    check_features([name], list(spec), what)
    dtype = spec[name].dtype
    if not (dtype == tf.string or dtype.is_integer):
        raise expected(
            f"ids of {what} that are text or integers, in {name!r}",
            received=dtype.name,
            remedy="Name another feature, or convert it.",
        )
    return name


def read_columns(dataset: tf.data.Dataset, names: Sequence[str], what: str) -> dict[str, tf.Tensor]:
    """All rows of some features, by name [num_rows, …]; the dataset may be batched or not.

    Raises:
      InputError: if a feature or every row is missing.
    """
    spec = feature_spec(dataset.element_spec, what)
    check_features(names, list(spec), what)
    chosen = dataset.map(lambda features: {name: features[name] for name in names})
    ranks = {spec[name].shape.rank for name in names}
    if 0 in ranks:  # one row an element
        chosen = chosen.batch(_ROWS_PER_BATCH)
    batches = list(chosen)
    if not batches or not sum(len(batch[names[0]]) for batch in batches):
        raise expected(f"rows in {what}", received="none", remedy="Check where they come from.")
    return {name: tf.concat([batch[name] for batch in batches], axis=0) for name in names}


def read_catalogue(candidates: tf.data.Dataset, name: str | None) -> tuple[str, FeatureTable]:
    """The name of the candidates' id, and all of them."""
    what = "the candidates"
    spec = feature_spec(getattr(candidates, "element_spec", candidates), what)
    name = id_feature(spec, name, what)
    columns = read_columns(candidates, list(spec), what)
    ids = as_ids(columns[name])
    if (twice := _first_repeated(ids)) is not None:
        raise expected(
            f"candidates that differ in {name!r}",
            received=f"{twice!r} twice",
            remedy="Leave out what is double, or name the feature that tells them apart.",
        )
    return name, FeatureTable(ids, columns)


def all_known(places: tf.Tensor, ids: tf.Tensor, what: str) -> tf.Tensor:
    """Places [batch], of which one below 0 stops the step, with the ids that it stands for."""
    strangers = tf.boolean_mask(ids, places < 0)
    told = [f"Expected {what} in a batch; received", strangers]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(places >= 0), told)]):
        return tf.identity(places)


def as_ids(values: tf.Tensor) -> np.ndarray:
    """[n] bytes or int64."""
    return _as_keys(values).numpy()


def _first_repeated(ids: np.ndarray) -> object | None:
    """An id that is there twice, or None."""
    values, counts = np.unique(ids, return_counts=True)
    return values[counts > 1].tolist()[0] if (counts > 1).any() else None


def _as_keys(ids: tf.Tensor) -> tf.Tensor:
    return ids if ids.dtype == tf.string else tf.cast(ids, tf.int64)
