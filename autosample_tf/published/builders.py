"""TFDS builders of the published datasets: what the classes in `datasets/` have in common.

A builder takes files whose checksums are right from TFDS's `manual_dir`, else from where
`catalog.load` looks for them, else it fetches them into TFDS's download folder, if an address
of them is known.
"""

from __future__ import annotations

import csv
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from autosample_tf.published.facts import (
    Facts,
    checked_folder,
    data_folder,
    how_to_get,
    own_folder,
    wanted_files,
)
from autosample_tf.published.fetch import fetch
from autosample_tf.reading.lightgcn_format import parse

Example = dict[str, Any]

_SPLITS = {
    "train.txt": tfds.Split.TRAIN,
    "valid.txt": tfds.Split.VALIDATION,
    "test.txt": tfds.Split.TEST,
}


class PublishedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A published dataset. What is registered has the class name Builder, and sets `known`."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: ClassVar[dict[str, tfds.features.FeatureConnector]]
    known: ClassVar[Facts]

    def __init_subclass__(cls, skip_registration: bool = False) -> None:
        super().__init_subclass__(skip_registration=skip_registration)
        if "known" not in cls.__dict__:
            return
        # TFDS would look for both below the top package, where a checkout has no `datasets`.
        cls.code_path = epath.Path(inspect.getfile(cls))
        cls.pkg_dir_path = cls.code_path.parent
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = (
            f"{cls.known.name} is {wanted_files(cls.known)}. {how_to_get(cls.known)}."
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(self.FEATURES), disable_shuffling=True
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[tfds.Split, Iterator[tuple[int, Example]]]:
        folder = self._folder(dl_manager)
        return {
            _SPLITS.get(name, tfds.Split.TRAIN): self._generate_examples(folder / name)
            for name in self.known.files
        }

    def _folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """Where the dataset's files are, all checked."""
        for place in (*_manual_dir(dl_manager), data_folder(None)):
            folder = own_folder(self.known.name, self.known.files, place)
            if any((folder / name).is_file() for name in self.known.files):
                return checked_folder(self.known, place)
        return fetch(self.known, dl_manager.download_dir)


class LinesBuilder(PublishedBuilder, skip_registration=True):
    """Lines of `user item item …`: an example is one, a user with the items of a split."""

    FEATURES: ClassVar = {
        "user_id": tfds.features.Scalar(np.int64),
        "item_ids": tfds.features.Sequence(np.int64),
    }

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Example]]:
        lines = parse(path)
        ends = np.cumsum(lines.counts)
        rows = np.split(lines.items.astype(np.int64), ends[:-1])
        for place, (user, items) in enumerate(zip(lines.users, rows, strict=True)):
            yield place, {"user_id": user, "item_ids": items}


class RatingsBuilder(PublishedBuilder, skip_registration=True):
    """RecBole's .inter tables: an example is one rating. They have one split, train."""

    FEATURES: ClassVar = {
        "user_id": tfds.features.Text(),
        "item_id": tfds.features.Text(),
        "rating": tfds.features.Scalar(np.float32),
        "timestamp": tfds.features.Scalar(np.int64),
    }

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Example]]:
        with epath.Path(path).open("r", encoding="utf-8") as table:
            rows = csv.reader(table, delimiter="\t")
            names = [typed.partition(":")[0] for typed in next(rows)]
            for place, row in enumerate(rows):
                yield place, dict(zip(names, row, strict=True))


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> list[Path]:
    """TFDS's folder of files that were put there by hand, if there is any."""
    try:
        return [Path(dl_manager.manual_dir)]
    except AssertionError:  # so it says that the folder is empty or missing
        return []
