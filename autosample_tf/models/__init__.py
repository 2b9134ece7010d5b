"""The models, by name.

Adding one is a file that fulfils `contract.Recommender` and a line in `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autosample_tf.errors import unknown
from autosample_tf.interactions import Interactions
from autosample_tf.models.contract import Recommender
from autosample_tf.models.lightgcn import LightGCN
from autosample_tf.models.mf import MF
from autosample_tf.models.neumf import NeuMF
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
]


def _mf(train: Interactions, *, dim: int, seed: int, dtype: Any, **others: Any) -> MF:
    return MF(train.num_users, train.num_items, dim=dim, seed=seed, dtype=dtype)


def _lightgcn(
    train: Interactions, *, dim: int, layers: int, seed: int, dtype: Any, **others: Any
) -> LightGCN:
    return LightGCN(train, layers=layers, dim=dim, seed=seed, dtype=dtype)


def _neumf(
    train: Interactions, *, dim: int, layers: int, seed: int, dtype: Any, **others: Any
) -> NeuMF:
    sizes = train.num_users, train.num_items
    return NeuMF(*sizes, layers=layers, dim=dim, seed=seed, dtype=dtype)


MODELS: dict[str, Callable[..., Recommender]] = {
    "lightgcn": _lightgcn,
    "mf": _mf,
    "neumf": _neumf,
    "ngcf": NGCF,
}
DOT_PRODUCTS = frozenset({"lightgcn", "mf", "ngcf"})  # whose score is one


def build_model(
    name: str,
    train: Interactions,
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
      InputError: if the name is not one of `MODELS`.
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
