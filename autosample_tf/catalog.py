"""The datasets known by name: fetched when asked for, and read after a check.

`load` contacts nobody: it looks for files where `fetch` or the user has put them. It reads
whatever else a path names, too.
"""

from __future__ import annotations

import os
from pathlib import Path

from autosample_tf import movielens
from autosample_tf.downloads import Report
from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.fetch import fetch as fetch_published
from autosample_tf.formats import read, refuse_columns
from autosample_tf.interactions import Dataset
from autosample_tf.published import PUBLISHED, Facts, checked_folder, data_folder, facts
from autosample_tf.synthetic import synthetic

KNOWN = (*PUBLISHED, *movielens.NAMES, "synthetic")
TABLES = ("ml-100k", *movielens.NAMES)  # of ratings, split here; the others are split already


def load(
    dataset: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    label_column: str | None = None,
    positive_from: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Reads a dataset by its known name, or from a path.

    Args:
      dataset: one of `KNOWN`, which wins over a folder of that name (`./gowalla` is the
        folder), or the path of a file or folder as `formats.read` takes it.
      data_dir: where a published dataset's files are, directly or in a folder of its name;
        None takes the environment's AUTOSAMPLE_TF_DATA, else ~/.cache/autosample-tf.
      user_column: a table's column of users; None finds it by a common name.
      item_column: a table's column of items; None finds it by a common name.
      label_column: a table's column of numbers that tells positives from given negatives,
        as `table_format.read_table` says; None: every row is a positive.
      positive_from: the least label of a positive; None: 1.
      test_fraction: the share of each user's pairs in a table to test on, in (0, 1). Folders
        and most known datasets have their own test split, which this leaves as it is.
      seed: chooses a table's pairs to test on; `synthetic` is always the same.

    Raises:
      InputError: if there is no such dataset, or its files are missing, malformed, or other
        than the published ones.
    """
    known = isinstance(dataset, str) and dataset in KNOWN
    if known and dataset not in TABLES:
        refuse_columns(
            f"the known dataset {dataset}",
            user_column=user_column,
            item_column=item_column,
            label_column=label_column,
            positive_from=positive_from,
        )
    if known and dataset == "synthetic":
        return synthetic()
    if not known and not os.path.exists(dataset):
        raise InputError(
            f"{unknown('dataset', os.fspath(dataset), KNOWN)} The path of a file or folder "
            "is accepted too, but there is none of that name here."
        )
    loaded = read(
        _path(str(dataset), data_dir) if known else dataset,
        name=str(dataset) if known else None,
        user_column=user_column,
        item_column=item_column,
        label_column=label_column,
        positive_from=positive_from,
        test_fraction=test_fraction,
        seed=seed,
    )
    if known and dataset not in TABLES:
        _check_counts(facts(loaded.name), loaded)
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
