"""The front door for files: a path in, a `Dataset` out.

A folder is read as LightGCN's (`lightgcn_format`), a file by its extension
(`table_format`). No format needs TensorFlow.
"""

from __future__ import annotations

import os
from pathlib import Path

from autosample_tf.errors import expected, unknown
from autosample_tf.interactions import Dataset
from autosample_tf.lightgcn_format import read_lightgcn
from autosample_tf.table_format import read_table

# A reader for each extension; all are called as `read_table` is.
FILE_READERS = {".csv": read_table, ".tsv": read_table, ".inter": read_table}


def read(
    path: str | os.PathLike[str],
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    label_column: str | None = None,
    positive_from: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Reads a folder of splits, or a table of pairs that is then split.

    Args:
      path: a folder with `train.txt` and `test.txt`, or a .csv, .tsv or .inter file.
      user_column: a table's column of users; None finds it by a common name.
      item_column: a table's column of items; None finds it by a common name.
      label_column: a table's column of numbers that tells positives from given negatives,
        as `table_format.read_table` says; None: every row is a positive.
      positive_from: the least label of a positive; None: 1.
      test_fraction: the share of each user's pairs in a table to test on, in (0, 1). A
        folder has its own test split, which this leaves as it is.
      seed: chooses a table's pairs to test on.
      name: what to call the dataset; None takes the folder's name or the file's stem.

    Raises:
      InputError: if there is nothing at the path or it cannot be read as described.
    """
    path = Path(path)
    if path.is_dir():
        refuse_columns(
            f"the folder {path}",
            user_column=user_column,
            item_column=item_column,
            label_column=label_column,
            positive_from=positive_from,
        )
        return read_lightgcn(path, name=name or Path(os.path.abspath(path)).name)
    if not path.exists():
        raise expected(
            "a file or folder of interactions",
            received=f"{str(path)!r}, where there is nothing",
            remedy="Check the path.",
        )
    if path.suffix.lower() not in FILE_READERS:
        raise unknown("extension of a file of interactions", path.name, list(FILE_READERS))
    if positive_from is not None and label_column is None:
        raise expected(
            "--label-column beside --positive-from",
            received=f"--positive-from {positive_from:g} alone",
            remedy="Name the column of labels with --label-column, or leave --positive-from out.",
        )
    return FILE_READERS[path.suffix.lower()](
        path,
        name=name or path.stem,
        user_column=user_column,
        item_column=item_column,
        label_column=label_column,
        positive_from=positive_from,
        test_fraction=test_fraction,
        seed=seed,
    )


def refuse_columns(source: str, **options: str | float | None) -> None:
    """Refuses a table's options, those that are not None, for data that is no table."""
    if chosen := [f"{name}={value!r}" for name, value in options.items() if value is not None]:
        raise expected(
            f"no options of a table with {source}, which has no columns",
            received=", ".join(chosen),
            remedy="Leave them out, or give the path of a table.",
        )
