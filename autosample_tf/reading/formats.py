"""The front door for data: a path, or an object in memory, to a `Dataset`.

`sources` tells what lies at a path, and the modules of the formats read it. No format needs
TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from autosample_tf.errors import NoRowsError
from autosample_tf.interactions import Dataset
from autosample_tf.reading.cache import cached
from autosample_tf.reading.columns import Part, needed_roles
from autosample_tf.reading.compression import extension
from autosample_tf.reading.dataset_folder import read_dataset
from autosample_tf.reading.events import gather
from autosample_tf.reading.json_format import read_json_lines
from autosample_tf.reading.lightgcn_format import read_lightgcn
from autosample_tf.reading.memory_format import read_memory
from autosample_tf.reading.parquet_format import read_parquet
from autosample_tf.reading.preparation import prepare, warn
from autosample_tf.reading.sharded import read_sharded
from autosample_tf.reading.sources import CONVERTED, LIGHTGCN, SHARDED, TABLE, Files, find_files
from autosample_tf.reading.table_format import DELIMITERS, read_table
from autosample_tf.reading.table_options import DEFAULTS, TableOptions, refuse_options

_READERS = {
    **dict.fromkeys(DELIMITERS, read_table),
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}


def read(
    path: str | os.PathLike[str],
    options: TableOptions = DEFAULTS,
    *,
    seed: int = 0,
    name: str | None = None,
    warns: bool = True,
) -> Dataset:
    """Reads a folder of splits, or a table of pairs that is then split.

    Args:
      path: a file, a folder or a pattern of files, as `sources.find_files` says.
      options: of a table; what comes in splits keeps them, and its users and items.
      seed: chooses a table's pairs to test on.
      name: what to call the dataset; None takes the folder's name or the file's stem.
      warns: whether to log what is probably not meant.

    Raises:
      InputError: if there is nothing at the path or it cannot be read as described.
    """
    files = find_files(path)
    if name is not None:
        files = dataclasses.replace(files, name=name)
    _check_options(files, options)
    if files.format == CONVERTED:
        return read_dataset(files.folder, name=name)
    if files.format == SHARDED:
        return read_sharded(files.folder, name=name)
    chosen = {name: str(value) for name, value in options.chosen().items()}
    is_split_here = files.format == TABLE and files.splits is None
    request = {**chosen, "seed": seed if is_split_here else None, "name": files.name}
    dataset = (
        cached(files.paths, request, lambda: _read(files, options, seed))
        if files.paths
        else _read(files, options, seed)  # refuses an empty folder
    )
    if warns and files.format != LIGHTGCN:
        warn(dataset, options, splits_given=files.splits is not None)
    return dataset


def read_object(
    source: Any, options: TableOptions = DEFAULTS, *, seed: int = 0, name: str | None = None
) -> Dataset:
    """Reads an object in memory, as `memory_format.read_memory` says, and splits its pairs.

    Args:
      source: a data frame, a sparse matrix or a tf.data.
      options: of a table.
      seed: chooses the pairs to test on.
      name: what to call the dataset; None: after the object's type.

    Raises:
      InputError: if it cannot be read as described.
    """
    refuse_options(options, "data in memory", names=("columns",))
    options.check()
    events = gather([read_memory(source, options)], needed_roles(options))
    name = name or type(source).__name__.strip("_").lower()
    dataset = prepare(events, options, name=name, seed=seed)
    warn(dataset, options, splits_given=False)
    return dataset


def _read(files: Files, options: TableOptions, seed: int) -> Dataset:
    if files.format == LIGHTGCN:
        return read_lightgcn(files.folder, name=files.name)
    parts, splits = _parts(files, options)
    events = gather(parts, needed_roles(options), splits)
    dataset = prepare(events, options, name=files.name, seed=seed)
    if long_rows := sum(part.long_rows for part in parts):
        notes = {**dataset.notes, "rows_of_several_lines": long_rows}
        dataset = dataclasses.replace(dataset, notes=notes)
    return dataset


def _parts(files: Files, options: TableOptions) -> tuple[list[Part], list[str] | None]:
    """The files of a table that have rows, and their splits if they come in such.

    Raises:
      InputError: if a file cannot be read, or a split has no row.
    """
    splits = files.splits or ("train",) * len(files.paths)
    parts: dict[Path, Part] = {}
    empty: dict[str, NoRowsError] = {}
    for path, split in zip(files.paths, splits, strict=True):
        try:
            parts[path] = read_part(path, options)
        except NoRowsError as error:  # a worker may have had none to write
            empty.setdefault(split, error)
    own = [split for path, split in zip(files.paths, splits, strict=True) if path in parts]
    for split in empty:
        if split not in own:
            raise empty[split]
    return list(parts.values()), own if files.splits else None


def read_part(path: Path, options: TableOptions) -> Part:
    """The columns that matter of one file of a table."""
    if extension(path) not in DELIMITERS:
        refuse_options(options, f"{path}, whose columns have names", names=("columns",))
    return _READERS[extension(path)](path, options)


def _check_options(files: Files, options: TableOptions) -> None:
    """Refuses what does not apply to splits that are given, or to data without columns."""
    if files.format in (LIGHTGCN, CONVERTED, SHARDED):
        refuse_options(options, f"the folder {files.folder}, which has no columns")
    elif files.splits is not None:
        refuse_options(
            options,
            f"{', '.join(path.name for path in files.paths[:3])}, which are splits already",
            names=("k_core", "split_by"),
        )
    options.check()
