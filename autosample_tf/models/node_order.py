"""An order of a graph's nodes in which those with neighbours in common stand near each other.

A product with the adjacency reads the vectors of each row's neighbours. Where the rows before had
the same neighbours these are in a cache still, so that the order of rows decides how much of the
product waits for memory: `docs/performance.md` has the figures. Nothing else depends on it.

Nodes are placed by the leading eigenvectors of their two-step walk, as in spectral clustering
(Ng, Jordan & Weiss, NIPS 2001), and halved at the median of whichever differs most among them,
again and again (as in the k-d trees of Bentley, CACM 1975), until few are left.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

_IN_CACHE = 2**14  # nodes: tables of so few rows need no order
_VECTORS, _ITERATIONS = 8, 8  # of eigenvectors, roughly: an order needs no exact ones
_FEW = 64


def node_order(
    indices: np.ndarray, values: np.ndarray, sizes: tuple[int, int]
) -> np.ndarray | None:
    """The nodes in such an order.

    Args:
      indices: [num_nonzeros, 2], of the symmetrically normalised adjacency.
      values: [num_nonzeros].
      sizes: how many of the nodes are users, and how many items, who follow them.

    Returns:
      [users + items], all users before all items; None where an order would not help.
    """
    size = sum(sizes)
    if size <= _IN_CACHE:
        return None
    adjacency = scipy.sparse.csr_matrix((values, indices.T), shape=(size, size))
    places = _places(adjacency)
    users, items = np.split(np.arange(size), [sizes[0]])
    return np.concatenate([_halved(places, users), _halved(places, items)])


def _places(adjacency: scipy.sparse.csr_matrix) -> np.ndarray:
    """[nodes, 8] float32 of length 1: by orthogonal iteration, the first eigenvector, which is
    the roots of the degrees, left out."""
    degrees = np.maximum(np.diff(adjacency.indptr), 1)
    first = np.sqrt(degrees).astype(np.float32)[:, None]
    first /= np.linalg.norm(first)
    start = np.random.default_rng(0).standard_normal((len(degrees), _VECTORS))
    vectors = start.astype(np.float32)
    for _ in range(_ITERATIONS):
        vectors = adjacency @ (adjacency @ vectors)
        vectors -= first * (first.T @ vectors)
        vectors = np.linalg.qr(vectors)[0]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _halved(places: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The nodes, the halves of each cell next to each other."""
    cells, done = [nodes], []
    while cells:
        cell = cells.pop()
        if len(cell) <= _FEW:
            done.append(cell)
            continue
        own = places[cell]
        widest = own[:, np.argmax(own.var(axis=0))]
        lower, upper = np.array_split(cell[np.argsort(widest, kind="stable")], 2)
        cells += [upper, lower]
    return np.concatenate(done)
