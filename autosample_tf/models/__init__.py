"""The models, by name.

Adding one is a file that fulfils `contract.Recommender`, a line in `MODELS`, and its defaults in
`settings.MODEL_DEFAULTS`. What it takes at construction beside `dim`, `seed` and `dtype` is told by
`settings.MODEL_OPTIONS`.
"""

from __future__ import annotations

from typing import Any

from autosample_tf.errors import expected, unknown
from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.models.contract import Recommender
from autosample_tf.models.graph_model import GraphModel
from autosample_tf.models.lightgcn import LightGCN
from autosample_tf.models.mf import MF
from autosample_tf.models.neumf import NeuMF, check_layers
from autosample_tf.models.ngcf import NGCF
from autosample_tf.models.two_tower import TwoTower
from autosample_tf.settings import MODEL_OPTIONS

__all__ = [
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

# A graph model is made of the train pairs, the others of how many users and items there are.
MODELS: dict[str, type[MF]] = {"lightgcn": LightGCN, "mf": MF, "neumf": NeuMF, "ngcf": NGCF}


def check_model(name: str, train: Pairs, *, dim: int, layers: int) -> None:
    """Raises `InputError` where a model cannot be built of these pairs and sizes, before a run
    begins."""
    if issubclass(MODELS[name], GraphModel):
        _graph_of(train)
    if issubclass(MODELS[name], NeuMF):
        check_layers(dim, layers)


def build_model(
    name: str, train: Pairs, *, dim: int = 64, seed: int = 0, dtype: Any = None, **options: Any
) -> Recommender:
    """The named model over `train`'s users and items.

    Args:
      name: one of `MODELS`.
      train: the pairs that a graph model's graph is.
      dim: entries of a vector.
      seed: of the first parameters.
      dtype: a Keras dtype policy.
      options: of `settings.MODEL_OPTIONS`; those of other models are left out.

    Raises:
      InputError: if the name is not one of `MODELS`, or the model needs other pairs.
    """
    if name not in MODELS:
        raise unknown("model", name, list(MODELS))
    model = MODELS[name]
    own = {option: value for option, value in options.items() if name in MODEL_OPTIONS[option]}
    own |= {"dim": dim, "seed": seed, "dtype": dtype}
    if issubclass(model, GraphModel):
        return model(_graph_of(train), **own)
    return model(train.num_users, train.num_items, **own)


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
