"""The models, by name.

Adding one is a file that fulfils `contract.Recommender` and a line in `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autosample_tf.errors import expected, unknown
from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.models.contract import Recommender
from autosample_tf.models.lightgcn import LightGCN
from autosample_tf.models.mf import MF
from autosample_tf.models.neumf import NeuMF, check_layers
from autosample_tf.models.ngcf import NGCF
from autosample_tf.models.two_tower import TwoTower

__all__ = [
    "DOT_PRODUCTS",
    "MF",
    "MODELS",
    "NGCF",
    "LightGCN",
    "NeuMF",
    "Recommender",
    "TwoTower",
    "build_model",
    "check_model",
]


def _mf(train: Pairs, *, dim: int, seed: int, dtype: Any, **others: Any) -> MF:
    return MF(train.num_users, train.num_items, dim=dim, seed=seed, dtype=dtype)


def _lightgcn(
    train: Pairs, *, dim: int, layers: int, seed: int, dtype: Any, **others: Any
) -> LightGCN:
    return LightGCN(_graph_of(train), layers=layers, dim=dim, seed=seed, dtype=dtype)


def _ngcf(train: Pairs, **options: Any) -> NGCF:
    return NGCF(_graph_of(train), **options)


def _neumf(train: Pairs, *, dim: int, layers: int, seed: int, dtype: Any, **others: Any) -> NeuMF:
    sizes = train.num_users, train.num_items
    return NeuMF(*sizes, layers=layers, dim=dim, seed=seed, dtype=dtype)


def _graph_of(train: Pairs) -> Interactions:
    """The pairs as a graph.

    Raises:
      InputError: if they are streamed.
    """
    if not isinstance(train, Interactions):
        raise expected(
            "data in memory for a graph model, whose graph the train pairs are",
            received="sharded data, which is streamed",
            remedy="Choose --model mf or neumf.",
        )
    return train


MODELS: dict[str, Callable[..., Recommender]] = {
    "lightgcn": _lightgcn,
    "mf": _mf,
    "neumf": _neumf,
    "ngcf": _ngcf,
}
DOT_PRODUCTS = frozenset({"lightgcn", "mf", "ngcf"})  # whose score is one
_GRAPH_MODELS = ("lightgcn", "ngcf")


def check_model(name: str, train: Pairs, *, dim: int, layers: int) -> None:
    """Raises `InputError` where a model cannot be built of these pairs and sizes, before a run
    begins."""
    if name in _GRAPH_MODELS:
        _graph_of(train)
    if name == "neumf":
        check_layers(dim, layers)


def build_model(
    name: str,
    train: Pairs,
    *,
    dim: int = 64,
    layers: int = 3,
    node_dropout: float = 0.1,
    message_dropout: float = 0.1,
    seed: int = 0,
    dtype: Any = None,
) -> Recommender:
    """The named model over `train`'s users and items; `layers` is for graph models and
    perceptrons, the dropouts are NGCF's, `dtype` a Keras dtype policy.

    Raises:
      InputError: if the name is not one of `MODELS`, or the model needs other pairs.
    """
    if name not in MODELS:
        raise unknown("model", name, list(MODELS))
    return MODELS[name](
        train,
        dim=dim,
        layers=layers,
        node_dropout=node_dropout,
        message_dropout=message_dropout,
        seed=seed,
        dtype=dtype,
    )
