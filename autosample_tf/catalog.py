"""The datasets known by name: fetched when asked for, and read after a check.

`load` contacts nobody: it looks for files where `fetch` or the user has put them. It reads
whatever else a path names, too.
"""

from __future__ import annotations

import glob
import logging
import os
from pathlib import Path
from typing import Any

from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.interactions import Dataset
from autosample_tf.published import movielens
from autosample_tf.published.downloads import Report
from autosample_tf.published.facts import PUBLISHED, Facts, checked_folder, data_folder, facts
from autosample_tf.published.fetch import fetch as fetch_published
from autosample_tf.reading.formats import read, read_object
from autosample_tf.reading.memory_format import is_in_memory
from autosample_tf.reading.table_options import TableOptions, refuse_options
from autosample_tf.synthetic import synthetic

log = logging.getLogger(__name__)
KNOWN = (*PUBLISHED, *movielens.NAMES, "synthetic")
TABLES = ("ml-100k", *movielens.NAMES)  # of ratings, split here; the others are split already


def load(
    dataset: str | os.PathLike[str] | Any,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    columns: str | None = None,
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
    warns: bool = True,
) -> Dataset:
    """Reads a dataset by its known name, from a path, or from memory.

    The options from `columns` to `split_by` are a table's; known datasets and other data
    that comes in splits have none of them, or not all.

    Args:
      dataset: one of `KNOWN`, which wins over a folder of that name (`./gowalla` is the
        folder); the path of a file or folder or a pattern of files, as `formats.read` takes
        it; or a data frame, a sparse matrix or a tf.data, as `formats.read_object` does.
      data_dir: where a published dataset's files are, directly or in a folder of its name;
        None takes the environment's AUTOSAMPLE_TF_DATA, else ~/.cache/autosample-tf.
      columns: the names of a text table's columns, in their order and parted by commas, where
        its first line is a row already; None: the first line names them.
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
        `leave-last:n=1`, `time:fraction=0.2,valid=0.1` or `time:since=DATE`. Folders and most
        known datasets have their own test split, and refuse another.
      seed: chooses a table's pairs to test on; `synthetic` is always the same.
      warns: whether to log what is probably not meant, as where the split is still to be chosen.

    Raises:
      InputError: if there is no such dataset, or its files are missing, malformed, or other
        than the published ones.
    """
    options = TableOptions(
        columns=columns,
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
        if warns and os.path.isdir(dataset):
            log.warning("%s is the known dataset, not the folder: that is ./%s", dataset, dataset)
        return _load_known(dataset, data_dir, options, seed, warns)
    if not os.path.exists(dataset) and _may_be_a_name(os.fspath(dataset)):
        raise InputError(
            f"{unknown('dataset', os.fspath(dataset), KNOWN)} The path of a file or folder "
            "is accepted too, but there is none of that name here."
        )
    return read(dataset, options, seed=seed, warns=warns)


def _may_be_a_name(text: str) -> bool:
    """Whether a text may be meant as a known dataset's name, and is no path or pattern."""
    return not (glob.has_magic(text) or Path(text).suffix or Path(text).name != text)


def _load_known(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    options: TableOptions,
    seed: int,
    warns: bool,
) -> Dataset:
    if name not in TABLES:
        refuse_options(options, f"the known dataset {name}, which has no columns")
    if name == "synthetic":
        return synthetic()
    loaded = read(_path(name, data_dir), options, seed=seed, name=name, warns=warns)
    if name not in TABLES:
        _check_counts(facts(name), loaded)
    return loaded


def fetch(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    report: Report | None = None,
) -> Path:
    """Fetches the files of a known dataset, those that are not there, and checks them.

    Args:
      name: one of `KNOWN`.
      data_dir: where to, into a folder of its name; None as for `load`.
      report: is told how far each download is.

    Returns:
      The folder with the files.

    Raises:
      InputError: if there is no such dataset, or its files could not be had; the message then
        says which to put where.
    """
    if name not in KNOWN:
        raise unknown("dataset", name, KNOWN)
    if name == "synthetic":
        raise expected(
            "a dataset that has files",
            received="synthetic",
            remedy="It is made in code: give it to --dataset as it is.",
        )
    if name in movielens.NAMES:
        return movielens.fetch(name, data_dir, report=report)
    return fetch_published(facts(name), data_dir, report=report)


def _path(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder, or the one table, of a known dataset, whose checksums are right."""
    if name in movielens.NAMES:
        return movielens.table(name, data_folder(data_dir))
    known = facts(name)
    folder = checked_folder(known, data_folder(data_dir))
    return folder / next(iter(known.files)) if name in TABLES else folder


def _check_counts(known: Facts, dataset: Dataset) -> None:
    """Refuses splits that are not the published ones: of other files beside them."""
    # The published counts are of what the files say, pairs that reading merged included.
    merged = [dataset.notes.get(note, 0) for note in ("duplicate_pairs", "held_out_pairs_in_train")]
    pairs = sum(split.num_pairs for split in dataset.splits.values()) + sum(merged)
    received = (dataset.num_users, dataset.num_items, pairs)
    wanted = (known.users, known.items, known.pairs)
    if received != wanted:
        raise expected(
            f"{known.name}'s published counts of users, items and pairs, {wanted}",
            received=received,
            remedy=f"Leave nothing but its {' and '.join(known.files)} in the folder.",
        )
