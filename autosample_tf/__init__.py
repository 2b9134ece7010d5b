"""AutoSample: learns which negative sampler an implicit-feedback recommender needs.

Implements Lyu et al., "Towards Automated Negative Sampling in Implicit Recommendation"
(arXiv 2311.03526) on TensorFlow, Keras and TF-Recommenders. The names in `__all__` are
the public interface; each is imported on first use, so that `import autosample_tf`
does not wait for TensorFlow.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers see; held to `_HOMES` by a test
    from autosample_tf.autosample import AutoSample as AutoSample
    from autosample_tf.catalog import load as load
    from autosample_tf.commands.terminal import print_progress as print_progress
    from autosample_tf.comparison.comparing import compare as compare
    from autosample_tf.errors import InputError as InputError
    from autosample_tf.interactions import Dataset as Dataset
    from autosample_tf.interactions import Interactions as Interactions
    from autosample_tf.models import MF as MF
    from autosample_tf.models import NGCF as NGCF
    from autosample_tf.models import LightGCN as LightGCN
    from autosample_tf.models import NeuMF as NeuMF
    from autosample_tf.models import TwoTower as TwoTower
    from autosample_tf.recommendation.recommending import recommend as recommend
    from autosample_tf.serving.exporting import export as export
    from autosample_tf.settings import Settings as Settings
    from autosample_tf.training import evaluate as evaluate
    from autosample_tf.training import retrain as retrain
    from autosample_tf.training import search as search

__version__ = "0.1.0"

_HOMES = {
    "AutoSample": "autosample_tf.autosample",
    "Dataset": "autosample_tf.interactions",
    "InputError": "autosample_tf.errors",
    "Interactions": "autosample_tf.interactions",
    "LightGCN": "autosample_tf.models",
    "MF": "autosample_tf.models",
    "NGCF": "autosample_tf.models",
    "NeuMF": "autosample_tf.models",
    "Settings": "autosample_tf.settings",
    "TwoTower": "autosample_tf.models",
    "compare": "autosample_tf.comparison.comparing",
    "evaluate": "autosample_tf.training",
    "export": "autosample_tf.serving.exporting",
    "load": "autosample_tf.catalog",
    "print_progress": "autosample_tf.commands.terminal",
    "recommend": "autosample_tf.recommendation.recommending",
    "retrain": "autosample_tf.training",
    "search": "autosample_tf.training",
}

__all__ = sorted(_HOMES)


os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def require_keras_2() -> None:
    """Checks that `tf.keras` is Keras 2, which TF-Recommenders 0.7 is written for.

    Called on the first use of TensorFlow, not on import: `autosample-tf doctor` has to
    start where this is wrong.

    Raises:
      ImportError: if the environment asks for Keras 3, or it is already loaded.
    """
    wanted = os.environ.get("TF_USE_LEGACY_KERAS")
    if wanted not in ("1", "true", "True"):
        raise ImportError(
            "Expected TF_USE_LEGACY_KERAS=1 (TF-Recommenders works on Keras 2 only); "
            f"received {wanted!r}. Unset it, or set it to 1, before starting Python."
        )
    tensorflow = sys.modules.get("tensorflow")
    keras = getattr(tensorflow, "keras", None)
    version = getattr(keras, "__version__", "2.")  # tf_keras' own namespace has none
    if not version.startswith("2."):
        raise ImportError(
            "Expected Keras 2 as tf.keras (TF-Recommenders works on it only); received "
            f"Keras {version}, already loaded. Import autosample_tf before "
            "TensorFlow, or set TF_USE_LEGACY_KERAS=1 before starting Python."
        )


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_keras_2()
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
