"""Approximate indexes of item vectors by inner product, for catalogues too large to scan.

Both kinds are faiss', whose HNSW is kept up better than hnswlib's:

- `faiss`: an inverted file. Vectors are parted around as many centres as the square root of
  their number, of which a query visits an eighth, or 8.
- `hnsw`: a graph of near neighbours, 32 links a vector; larger and slower to build.

An index holds every item: what a user has seen is for whoever asks it to leave out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.representations import Representations

if TYPE_CHECKING:
    import faiss

FOLDER = "index"
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 32, 200, 128  # of the graph
_SHARE_VISITED, _FEWEST_VISITED = 8, 8  # of the centres
_USERS_ASKED = 1000


def check_installed() -> None:
    """Refuses to go on without faiss.

    Raises:
      InputError: if it is not installed.
    """
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        raise expected(
            "faiss for an index", received="none",
            remedy="Install it with `pip install 'autosample-tf[index]'`.",
        ) from error  # fmt: skip


def write_index(
    folder: Path, kind: str, representations: Representations, item_ids: np.ndarray, k: int
) -> dict[str, Any]:
    """Writes `index/items.faiss` and `index/item_ids.json`, the ids of its rows.

    Args:
      folder: of the exported version.
      kind: `faiss` or `hnsw`.
      representations: whose items are indexed.
      item_ids: [num_items] str.
      k: how many items are asked for in the comparison with brute force.

    Returns:
      What it is, and its recall: the share of each user's best k that it finds.
    """
    import faiss

    users = np.unique(np.linspace(0, representations.num_users - 1, _USERS_ASKED).astype(int))
    queries = tf.gather(representations.user_vectors, users).numpy()
    vectors = representations.item_vectors.numpy()
    index = build_index(vectors, kind)
    (folder / FOLDER).mkdir()
    faiss.write_index(index, str(folder / FOLDER / "items.faiss"))
    text = json.dumps(item_ids.tolist(), ensure_ascii=False)
    (folder / FOLDER / "item_ids.json").write_text(text, encoding="utf-8")
    found = recall(index, vectors, queries, k)
    return {"kind": kind, "recall": {f"recall@{k}": found}, "users": len(users)}


def build_index(vectors: np.ndarray, kind: str) -> faiss.Index:
    """An index of vectors [n, dim] float32, searched by inner product."""
    index = _graph(vectors.shape[1]) if kind == "hnsw" else _inverted_file(*vectors.shape)
    index.train(vectors)
    index.add(vectors)
    return index


def _graph(dim: int) -> faiss.Index:
    import faiss

    index = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_WIDTH, _SEARCH_WIDTH
    return index


def _inverted_file(num_vectors: int, dim: int) -> faiss.Index:
    import faiss

    centres = max(1, math.isqrt(num_vectors))
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(quantizer, dim, centres, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(centres, max(_FEWEST_VISITED, centres // _SHARE_VISITED))
    index.cp.min_points_per_centroid = 1  # else a small catalogue is complained about
    return index


def recall(index: faiss.Index, vectors: np.ndarray, queries: np.ndarray, k: int) -> float:
    """The share of each query's k best vectors that an index finds among its k, in [0, 1].

    Args:
      index: of `vectors`.
      vectors: [n, dim] float32.
      queries: [m, dim] float32.
      k: at most n.
    """
    import faiss

    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    exact, found = flat.search(queries, k)[1], index.search(queries, k)[1]
    hits = [len(np.intersect1d(*rows)) for rows in zip(exact, found, strict=True)]
    return float(np.mean(hits)) / k


def check_inner_products(representations: Representations) -> None:
    """Refuses, with an `InputError`, a model whose scores are no inner products."""
    users, items = representations.user_vectors[:8], representations.item_vectors[:8]
    scores = representations.score_all(users, items)
    if not np.allclose(scores, tf.matmul(users, items, transpose_b=True), rtol=1e-3, atol=1e-5):
        raise expected(
            "a model whose scores are inner products, for an index",
            received="another",
            remedy="Export it without --index.",
        )
