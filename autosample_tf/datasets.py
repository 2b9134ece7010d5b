"""The dataset folders, as the package `autosample_tf.datasets`: importing it registers them.

Afterwards `tfds.load("gowalla")` works as for a dataset of TFDS's own. In a checkout, and so
in an editable install, the folders lie in `datasets/` beside this package, as TFDS lays them
out; in a wheel inside it. No package called `datasets` is ever on the path by itself: that
name is Hugging Face's.
"""

from __future__ import annotations

import importlib

from autosample_tf.published.facts import FOLDER, PUBLISHED, folder_name

__path__ = [str(FOLDER)]  # makes of this module a package

for _name in map(folder_name, PUBLISHED):
    importlib.import_module(f"{__name__}.{_name}.{_name}_dataset_builder")
