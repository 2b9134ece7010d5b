"""The datasets known by name: what their files are, and reading them after a check.

The facts of a published dataset travel with it, in `datasets/<folder>/facts.json`, beside
its description and citations. Nothing is fetched here: the files are looked for where the
user has put them.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from autosample_tf import datasets
from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.formats import read, read_object
from autosample_tf.interactions import Dataset
from autosample_tf.memory_format import is_in_memory
from autosample_tf.synthetic import synthetic
from autosample_tf.table_options import TableOptions, refuse_options

PUBLISHED = ("amazon-book", "gowalla", "yelp2018")
KNOWN = (*PUBLISHED, "synthetic")
DATA_VARIABLE = "AUTOSAMPLE_TF_DATA"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a published dataset, and checked when it is read.

    Attributes:
      name: what `load` calls it.
      title: one line on what it holds.
      users: how many users.
      items: how many items.
      train_pairs: how many pairs `train.txt` has.
      test_pairs: how many pairs `test.txt` has.
      train_md5: the MD5 of `train.txt`, in hexadecimal.
      test_md5: the MD5 of `test.txt`, in hexadecimal.
      homepage: the GitHub repository, as owner/name, that the files can be had from.
      licence: what is known of the terms.
    """

    name: str
    title: str
    users: int
    items: int
    train_pairs: int
    test_pairs: int
    train_md5: str
    test_md5: str
    homepage: str
    licence: str

    @property
    def checksums(self) -> dict[str, str]:
        """The MD5 of each file, by its name."""
        return {"train.txt": self.train_md5, "test.txt": self.test_md5}


def facts(name: str) -> Facts:
    """The facts of a published dataset.

    Raises:
      InputError: if no published dataset has that name.
    """
    if name not in PUBLISHED:
        raise unknown("published dataset", name, PUBLISHED)
    text = (_dataset_folder(name) / "facts.json").read_text(encoding="utf-8")
    return Facts(**json.loads(text))


def load(
    dataset: str | os.PathLike[str] | Any,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    label_column: str | None = None,
    positive_from: float | None = None,
    rating_column: str | None = None,
    min_rating: float | None = None,
    time_column: str | None = None,
    since: str | None = None,
    until: str | None = None,
    k_core: int | None = None,
    split_by: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Reads a dataset by its known name, from a path, or from memory.

    The options from `user_column` to `split_by` are a table's; known datasets and other data
    that comes in splits have none of them, or not all.

    Args:
      dataset: one of `KNOWN`, which wins over a folder of that name (`./gowalla` is the
        folder); the path of a file or folder or a pattern of files, as `formats.read` takes
        it; or a data frame, a sparse matrix or a tf.data, as `formats.read_object` does.
      data_dir: where a published dataset's files are, directly or in a folder of its name;
        None takes the environment's AUTOSAMPLE_TF_DATA, else ~/.cache/autosample-tf.
      user_column: the column of users; None finds it by a common name.
      item_column: the column of items; None finds it by a common name.
      label_column: the column of numbers that tells positives from given negatives; None:
        every row is a positive.
      positive_from: the least label of a positive; None: 1.
      rating_column: the column that `min_rating` reads; None finds it by a common name.
      min_rating: rows rated below are left out.
      time_column: the column of times; None finds it by a common name, if there is one.
      since: the first moment whose rows count, a date in ISO 8601 or Unix seconds.
      until: the first moment whose rows no longer count.
      k_core: the fewest distinct positives that users and items of the dataset have.
      split_by: what is tested on: `random:fraction=0.2` (None), `leave-one-out`,
        `leave-last:n=1`, `time:fraction=0.2,valid=0.1` or `time:since=DATE`.
      seed: chooses a table's pairs to test on; `synthetic` is always the same.

    Raises:
      InputError: if there is no such dataset, or its files are missing, malformed, or other
        than the published ones.
    """
    options = TableOptions(
        user_column=user_column,
        item_column=item_column,
        label_column=label_column,
        positive_from=positive_from,
        rating_column=rating_column,
        min_rating=min_rating,
        time_column=time_column,
        since=since,
        until=until,
        k_core=k_core,
        split_by=split_by,
    )
    if is_in_memory(dataset):
        return read_object(dataset, options, seed=seed)
    if not isinstance(dataset, (str, os.PathLike)):
        raise expected(
            "a dataset's name, a path, a data frame, a sparse matrix or a tf.data",
            received=f"{dataset!r:.100} of type {type(dataset).__name__}",
            remedy="Give one of them.",
        )
    if isinstance(dataset, str) and dataset in KNOWN:
        refuse_options(options, f"the known dataset {dataset}, which has no columns")
        return _load_known(dataset, data_dir)
    if not os.path.exists(dataset) and not glob.has_magic(os.fspath(dataset)):
        raise InputError(
            f"{unknown('dataset', os.fspath(dataset), KNOWN)} The path of a file or folder "
            "is accepted too, but there is none of that name here."
        )
    return read(dataset, options, seed=seed)


def _load_known(name: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    if name == "synthetic":
        return synthetic()
    known = facts(name)
    folder = _checked_folder(known, _data_dir(data_dir))
    return _checked_counts(known, read(folder, name=known.name))


def _data_dir(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where published datasets are looked for."""
    default = os.environ.get(DATA_VARIABLE) or "~/.cache/autosample-tf"
    return Path(data_dir if data_dir is not None else default).expanduser()


def _checked_folder(known: Facts, data_dir: Path) -> Path:
    """The folder with the dataset's files, whose checksums are right."""
    own = data_dir / known.name
    folder = next((place for place in (own, data_dir) if (place / "train.txt").is_file()), own)
    for name, checksum in known.checksums.items():
        if not (folder / name).is_file():
            raise _missing(known, folder / name)
        received = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        if received != checksum:
            raise expected(
                f"the published {name} of {known.name}, whose MD5 is {checksum}, "
                f"at {folder / name}",
                received=f"a file whose MD5 is {received}",
                remedy=f"Get it from GitHub's {known.homepage}, or give the folder's path as the "
                "dataset to use other files.",
            )
    return folder


def _missing(known: Facts, path: Path) -> InputError:
    wanted = " and ".join(f"{name} (MD5 {md5})" for name, md5 in known.checksums.items())
    return expected(
        f"{known.name}'s files in {path.parent}: {wanted}, {known.users} users, {known.items} "
        f"items, {known.train_pairs} train and {known.test_pairs} test pairs",
        received=f"no {path.name} there",
        remedy=f"Get them from GitHub's {known.homepage}, put them there or elsewhere, and name "
        f"the place by --data-dir (data_dir=… in Python) or {DATA_VARIABLE}.",
    )


def _checked_counts(known: Facts, dataset: Dataset) -> Dataset:
    """The dataset, whose counts are the published ones."""
    # The published counts are of what the files say, pairs that reading merged included.
    merged = [dataset.notes.get(note, 0) for note in ("duplicate_pairs", "held_out_pairs_in_train")]
    pairs = sum(split.num_pairs for split in dataset.splits.values()) + sum(merged)
    received = (dataset.num_users, dataset.num_items, pairs)
    wanted = (known.users, known.items, known.train_pairs + known.test_pairs)
    if received != wanted:
        raise expected(
            f"{known.name}'s published counts of users, items and pairs, {wanted}",
            received=received,
            remedy="Leave nothing but its train.txt and test.txt in the folder.",
        )
    return dataset


def _dataset_folder(name: str) -> Path:
    return datasets.FOLDER / name.replace("-", "_")
