"""Does a SavedModel rank as the run does? Asked where nothing but TensorFlow's loader is.

The model is loaded by a process that sees no installed package, this one, TFRS and Keras
among them: `c_api` run as a script. Its answers are compared item by item.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from autosample_tf.errors import InputError, expected
from autosample_tf.evaluation import Ranker, popularity_ranking
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.representations import Representations
from autosample_tf.serving import c_api

_USERS_CHECKED = 128
_ITSELF = -2.0  # below any cosine
_TOLERANCE = 1e-5  # share of a row's largest score: another batch, another order of sums


@dataclasses.dataclass(frozen=True)
class Request:
    """What a signature is asked.

    Attributes:
      signature: its name.
      inputs: values by the input's name: text or numbers, nested, of the shape that goes in.
    """

    signature: str
    inputs: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """What an exported model has to agree with.

    Attributes:
      representations: what is served, as the exported model stores it.
      data: whose ids are served.
      seen: the pairs left out.
      learned: the pairs that the model learned from.
    """

    representations: Representations
    data: Dataset
    seen: Interactions
    learned: Interactions


def ask(folder: Path, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """What a SavedModel answers in a process of its own, which sees no installed package.

    Returns:
      For each request the outputs by name, as nested lists; `{"error": message}` where
      TensorFlow refuses it.

    Raises:
      InputError: if the model does not load.
    """
    tensors = signature_tensors(folder) if requests else {}  # else only whether it loads
    asked = {
        "libraries": tf.sysconfig.get_lib(),
        "folder": str(folder),
        "calls": [_call(request, *tensors[request.signature]) for request in requests],
    }
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # memory of a GPU may be all taken
    done = subprocess.run(
        [sys.executable, "-I", "-S", c_api.__file__],
        input=json.dumps(asked), capture_output=True, check=False, env=environment,
        encoding="utf-8",
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise InputError(
            f"Expected TensorFlow's C API to load the model in {folder}; received {last}."
        )
    return json.loads(done.stdout)


def signature_tensors(folder: Path) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """By signature what its inputs and its outputs are called in the graph, by their own names."""
    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())

    def names(part: Mapping[str, Any]) -> dict[str, str]:
        return {name: tensor.name for name, tensor in part.items()}

    signatures = proto.meta_graphs[0].signature_def.items()
    return {name: (names(own.inputs), names(own.outputs)) for name, own in signatures}


def _call(request: Request, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    """A request in the names of the graph."""
    feeds = {inputs[name]: _feed(values) for name, values in request.inputs.items()}
    return {"feeds": feeds, "fetches": outputs}


def _feed(values: Any) -> dict[str, Any]:
    """Values with their shape and dtype; those of no value are text, as ids are."""
    array = np.asarray(values)
    dtype = array.dtype.name if array.dtype.kind in "bif" and array.size else "string"
    return {"values": array.ravel().tolist(), "shape": array.shape, "dtype": dtype}


def check_agreement(folder: Path, ranked: Ranked, k: int) -> int:
    """Compares what a SavedModel answers for some users with the run's own.

    Where two items differ, the run must score them alike: a tie that another order of
    sums broke.

    Returns:
      How many users were compared.

    Raises:
      InputError: if an answer differs.
    """
    users = _users_to_check(ranked.seen.degrees)
    own = Ranker(ranked.representations, ranked.seen, k, ranked.learned).rank(users)
    answers = ask(folder, _questions(ranked.data, users, own.items, k))
    differing = _differences(answers, ranked, users, own.items, own.scores)
    if differing:
        raise expected(
            "the exported model to rank as the run does",
            received=f"differences in {', '.join(differing)}",
            remedy="Nothing was exported. Please report this.",
        )
    return len(users)


def _questions(data: Dataset, users: np.ndarray, items: np.ndarray, k: int) -> list[Request]:
    """All that is asked, of every signature."""
    user_ids = data.user_ids[users].tolist()
    strangers = [*user_ids, _stranger(data.user_ids)]
    best = data.item_ids[np.maximum(items[:, 0], 0)].tolist()
    return [
        Request("serving_default", {"user_id": strangers}),
        Request(
            "recommend",
            {"user_id": user_ids, "k": np.int32(k), "exclude_item_id": [[item] for item in best]},
        ),
        Request("similar_items", {"item_id": best, "k": np.int32(k)}),
        Request("score", {"user_id": user_ids, "item_id": best}),
        Request("embed_user", {"user_id": user_ids}),
        Request("embed_item", {"item_id": best}),
    ]


def _differences(
    answers: list[dict[str, Any]],
    ranked: Ranked,
    users: np.ndarray,
    own_items: np.ndarray,
    own_scores: np.ndarray,
) -> list[str]:
    """What does not agree, by name."""
    errors = [f"{answer['error']}" for answer in answers if "error" in answer]
    if errors:
        return errors
    served, excluding, similar, pairs, user_vectors, item_vectors = answers
    tables, seen, k = ranked.representations, ranked.seen, own_items.shape[1]
    every = tables.score_all(tf.gather(tables.user_vectors, users), tables.item_vectors).numpy()
    cold = ranked.learned.degrees[users] == 0
    every[cold] = seen.popularity
    tolerance = _TOLERANCE * np.abs(every).max(axis=1, keepdims=True)
    items = places_of_items(served["item_id"], ranked.data.item_ids)
    scores, known = np.array(served["score"], np.float32), np.array(served["known"])
    popular = popularity_ranking(seen.popularity)[:k]
    best = np.maximum(own_items[:, 0], 0)
    without_best = places_of_items(excluding["item_id"], ranked.data.item_ids)[:, : k - 1]
    agreed = {
        "known users": known[:-1].all() and not known[-1],
        "the popularity ranking": np.array_equal(items[-1], popular)
        and np.array_equal(scores[-1], seen.popularity[popular].astype(np.float32)),
        "scores": (np.abs(scores[:-1] - own_scores) <= tolerance).all(),
        "seen items": not (seen.contains(users[:, None], items[:-1]) & (items[:-1] >= 0)).any(),
        "items": same_or_tied(items[:-1], own_items, every, tolerance),
        "items beside excluded ones": same_or_tied(
            without_best, own_items[:, 1:], every, tolerance
        ),
        "similar items": _as_similar(
            places_of_items(similar["item_id"], ranked.data.item_ids), tables, best
        ),
        "scores of pairs": (
            np.abs(np.array(pairs["score"]) - every[np.arange(len(users)), best]) <= tolerance[:, 0]
        ).all(),
        "vectors of users": _same(user_vectors, tables.user_vectors, users),
        "vectors of items": _same(item_vectors, tables.item_vectors, best),
    }
    return [what for what, holds in agreed.items() if not holds]


def _as_similar(served: np.ndarray, tables: Representations, items: np.ndarray) -> bool:
    """Whether those [n, k] have the largest cosines with items [n], which are left out."""
    vectors = tables.item_vectors
    norms = tf.norm(vectors, axis=1)
    products = tf.matmul(tf.gather(vectors, items), vectors, transpose_b=True)
    cosines = tf.math.divide_no_nan(products, tf.gather(norms, items)[:, None] * norms).numpy()
    cosines[np.arange(len(items)), items] = _ITSELF
    values, own = (found.numpy() for found in tf.math.top_k(cosines, served.shape[1]))
    tolerance = np.full([len(items), 1], _TOLERANCE)
    return same_or_tied(served, np.where(values == _ITSELF, -1, own), cosines, tolerance)


def _same(answer: dict[str, Any], vectors: tf.Tensor, rows: np.ndarray) -> bool:
    served = np.array(answer["embedding"], np.float32)
    return np.array_equal(served, tf.gather(vectors, rows).numpy())


def same_or_tied(
    served: np.ndarray, own: np.ndarray, every: np.ndarray, tolerance: np.ndarray
) -> bool:
    """Whether two rankings differ in items of like scores only.

    Args:
      served: [n, k] items; below 0 is no item.
      own: [n, k] items, as the run ranks them.
      every: [n, num_items], the run's scores.
      tolerance: [n, 1], within which scores are alike.
    """
    ordered = np.sort(served, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        return False  # an item twice
    of_served, of_own = (
        np.take_along_axis(every, np.maximum(items, 0), axis=1) for items in (served, own)
    )
    alike = (served >= 0) & (own >= 0) & (np.abs(of_served - of_own) <= tolerance)
    return bool(((served == own) | alike).all())


def places_of_items(ids: Sequence[Sequence[str]], item_ids: np.ndarray) -> np.ndarray:
    """Each id's place in the catalogue; -1 for the empty one, -2 for one not there."""
    places = {item: place for place, item in enumerate(item_ids.tolist())}
    places[""] = -1
    return np.array([[places.get(item, -2) for item in row] for row in ids])


def _users_to_check(degrees: np.ndarray) -> np.ndarray:
    """Users spread evenly from the one with the fewest seen items to the one with the most."""
    order = np.argsort(degrees, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, _USERS_CHECKED).astype(int))]


def _stranger(user_ids: np.ndarray) -> str:
    """An id that no user has."""
    stranger = "?"
    while stranger in user_ids:
        stranger += "?"
    return stranger
