"""The user-item graph's symmetrically normalised adjacency and its fast product.

A = D^-1/2 [[0, R], [R^T, 0]] D^-1/2 over users, then items (He et al., "LightGCN",
SIGIR 2020). The product runs on TensorFlow's CSR kernel, ten times as fast
on a CPU as `tf.sparse.sparse_dense_matmul`. That kernel knows float32 and float64, does
not run under XLA, and its handle cannot go into a SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions


def normalized_adjacency(interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """The adjacency's non-zeros in row-major order, which the CSR kernel relies on.

    Args:
      interactions: the train pairs; each is two non-zeros.

    Returns:
      indices [2 * num_pairs, 2] int64 over users, then items, and values
      [2 * num_pairs] float32: 1 / sqrt(degree(user) * degree(item)).
    """
    users = interactions.users.astype(np.int64)
    items = interactions.items.astype(np.int64)
    degrees = interactions.degrees[users] * interactions.popularity[items]
    values = (1.0 / np.sqrt(degrees)).astype(np.float32)
    by_item = np.argsort(items, kind="stable")  # users stay ascending within an item
    nodes = items + interactions.num_users
    rows = np.concatenate([users, nodes[by_item]])
    columns = np.concatenate([nodes, users[by_item]])
    return np.stack([rows, columns], axis=1), np.concatenate([values, values[by_item]])


class Reordering:
    """Rows put into an order; the gradient puts them back, which is no scatter.

    Args:
      order: [rows], the rows as they are to follow each other; None: as they are.
    """

    def __init__(self, order: np.ndarray | None):
        self._order = None if order is None else tf.constant(order, tf.int64)
        self._places = None if order is None else tf.constant(np.argsort(order), tf.int64)

    def matrix(self, indices: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A square matrix' non-zeros, in row-major order, with rows and columns in the order."""
        if self._places is None:
            return indices, values
        places = self._places.numpy()[indices]
        by_row = np.argsort(places[:, 0] * len(self._places) + places[:, 1])
        return places[by_row], values[by_row]

    def places(self, rows: tf.Tensor) -> tf.Tensor:
        """Where these rows stand in the order."""
        return rows if self._places is None else tf.gather(self._places, rows)

    def apply(self, dense: tf.Tensor) -> tf.Tensor:
        """[rows, dim] in the order."""
        return dense if self._order is None else _permuted(dense, self._order, self._places)


class SymmetricProduct:
    """Products with one symmetric sparse matrix; the gradient is the same product."""

    def __init__(self, indices: np.ndarray, values: np.ndarray, size: int):
        self._indices = tf.constant(indices)
        self._values = tf.constant(values)
        self._shape = tf.constant([size, size], tf.int64)
        self._shared: tf.Tensor | None = None

    def handle(self) -> tf.Tensor:
        """The CSR matrix, made here (some ms) unless `shared` has made it; for all products."""
        if self._shared is not None:
            return self._shared
        return tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=self._indices, values=self._values, dense_shape=self._shape
        )

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While it lasts, every `handle` of this graph, of its loops' bodies too, is one."""
        self._shared = self.handle()
        try:
            yield
        finally:
            self._shared = None

    def __call__(self, handle: tf.Tensor, dense: tf.Tensor) -> tf.Tensor:
        """The matrix behind `handle` times `dense` [size, dim]: [size, dim]."""
        # An eager handle does not say what shape its matrix has, which tracing asks for.
        eager = tf.executing_eagerly()
        product = _symmetric_product.python_function if eager else _symmetric_product
        return tf.ensure_shape(product(handle, dense), dense.shape)


# Functions of their own, traced once for a shape: TensorFlow registers a custom gradient for good,
# and with it the graph that it was made in, which otherwise is the step's
# (https://github.com/tensorflow/tensorflow/issues/97697).


@tf.function(autograph=False)
def _permuted(dense: tf.Tensor, order: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    @tf.custom_gradient
    def permuted(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.gather(x, order), lambda upstream: tf.gather(upstream, places)

    return permuted(dense)


@tf.function(autograph=False)
def _symmetric_product(handle: tf.Tensor, dense: tf.Tensor) -> tf.Tensor:
    @tf.custom_gradient
    def product(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return _multiply(handle, x), lambda upstream: _multiply(handle, upstream)

    return product(dense)


def _multiply(handle: tf.Tensor, dense: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.SparseMatrixMatMul(a=handle, b=dense)
