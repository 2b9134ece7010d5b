"""The dataset folders, as the package `autosample_tf.datasets`.

In a checkout, and so in an editable install, they lie in `datasets/` beside this package,
as TFDS lays such folders out; in a wheel inside it. No package called `datasets` is ever
on the path by itself: that name is Hugging Face's.
"""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path(__file__).with_suffix("")
_CHECKOUT = Path(__file__).parents[1] / "datasets"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT

__path__ = [str(FOLDER)]  # makes of this module a package
