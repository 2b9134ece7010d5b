"""What lies at a path: which files, of which format, and whether they are splits."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.reading.compression import bare, extension
from autosample_tf.reading.dataset_folder import CONVERTED_FOLDER
from autosample_tf.reading.sharded import SHARDED_FOLDER

LIGHTGCN, CONVERTED, SHARDED, TABLE = "lightgcn", "converted", "sharded", "table"
EXTENSIONS = (".csv", ".tsv", ".inter", ".parquet", ".jsonl", ".ndjson")
_LIGHTGCN_FILES = ("train.txt", "test.txt")
_SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a dataset.

    Attributes:
      format: LIGHTGCN, CONVERTED, SHARDED or TABLE.
      paths: the files, in the order in which they are read.
      name: what the dataset is called.
      folder: what was named, if it is a folder.
      splits: the split of each file of a TABLE, or None: they are parts of one table.
    """

    format: str
    paths: tuple[Path, ...]
    name: str
    folder: Path | None = None
    splits: tuple[str, ...] | None = None


def find_files(source: str | os.PathLike[str]) -> Files:
    """The files at a path.

    Args:
      source: a file, a folder (of LightGCN's files, of `data convert`'s or `data shard`'s, of the
        parts of one table, or of a table for each split), or a pattern of files such as
        `2024-*.csv.gz`.

    Raises:
      InputError: if there are none, or of several formats.
    """
    path, text = Path(source), os.fspath(source)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        _check_extension(path)
        return Files(TABLE, (path,), bare(path).stem)
    if glob.has_magic(text):
        found = sorted(Path(match) for match in glob.glob(text, recursive=True))
        return _tables([match for match in found if match.is_file()], text, _name(path.parent))
    raise expected(
        "a file or folder of interactions",
        received=f"{text!r}, where there is nothing",
        remedy="Check the path.",
    )


def default_name(source: str) -> str:
    """What a dataset is called after its name or path, whether or not it is there."""
    path = Path(source)
    if glob.has_magic(source) and not path.exists():
        return _name(path.parent)
    return _name(path) if path.is_dir() else bare(path).stem


def _in_folder(folder: Path) -> Files:
    there = sorted(path for path in folder.iterdir() if path.is_file())
    names = [path.name for path in there]
    if CONVERTED_FOLDER.manifest in names:
        paths = tuple(path for path in there if path.suffix in (".json", ".npy"))
        return Files(CONVERTED, paths, _name(folder), folder)
    if (manifest := SHARDED_FOLDER.manifest) in names:
        return Files(SHARDED, (folder / manifest,), _name(folder), folder)
    tables = [path for path in there if _is_table(path)]
    if tables and not set(_LIGHTGCN_FILES) <= set(names):
        return dataclasses.replace(_tables(tables, str(folder), _name(folder)), folder=folder)
    wanted = ("train.txt", "valid.txt", "test.txt")
    paths = tuple(folder / name for name in wanted if name in names)
    return Files(LIGHTGCN, paths, _name(folder), folder)


def _is_table(path: Path) -> bool:
    """Hidden files, and those that begin with `_`, are notes of who wrote the others."""
    return extension(path) in EXTENSIONS and path.name[0] not in "._"


def _tables(paths: Sequence[Path], source: str, name: str) -> Files:
    """Files that are parts of one table, or a table for each split."""
    if not paths:
        raise expected(
            f"files of interactions that match {source}",
            received="none",
            remedy="Check the pattern.",
        )
    for path in paths:
        _check_extension(path)
    formats = {extension(path): path.name for path in paths}
    if len(formats) > 1:
        raise expected(
            f"files of one format in {source}",
            received=" and ".join(formats.values()),
            remedy="Leave one format, or name the files of one, as `*.csv`.",
        )
    splits = [_split_of(path) for path in paths]
    if not any(splits):
        return Files(TABLE, tuple(paths), name)
    if not all(splits):
        other = next(path.name for path, split in zip(paths, splits, strict=True) if not split)
        raise expected(
            f"files that are all splits, as train and test, or all parts of a table, in {source}",
            received=f"{other} beside "
            f"{next(p.name for p, split in zip(paths, splits, strict=True) if split)}",
            remedy="Take the one or the other away.",
        )
    if missing := {"train", "test"} - set(splits):
        raise expected(
            f"a train and a test file in {source}",
            received=f"no {missing.pop()} file",
            remedy="Add it, or rename the files that are no splits.",
        )
    return Files(TABLE, tuple(paths), name, splits=tuple(splits))


def _split_of(path: Path) -> str | None:
    """`train` of `train.csv`, of RecBole's `ml.train.inter`, of `train-00000-of-00002.parquet`, of
    `interactions_train.csv`."""
    words = re.split(r"[-_.]", bare(path).stem.lower())
    return _SPLIT_NAMES.get(words[0]) or _SPLIT_NAMES.get(words[-1])


def _check_extension(path: Path) -> None:
    if extension(path) not in EXTENSIONS:
        told = unknown("extension of a file of interactions", path.name, list(EXTENSIONS))
        raise InputError(f"{told} Text by another name is read as .csv or .tsv: rename it.")


def _name(folder: Path) -> str:
    return Path(os.path.abspath(folder)).name
