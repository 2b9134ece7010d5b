"""Datasets that were read before, kept as folders that the next reading maps into memory.

An entry belongs to a path and to the options that it was read with, and holds for as long
as the files have the sizes and times of modification that they had. Whatever is wrong with
it, a part missing or changed, has the files read again; so has an entry that another process
is writing, which none sees before it is whole.

`AUTOSAMPLE_TF_CACHE` names the folder of the entries, or is `off`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import autosample_tf
from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset
from autosample_tf.reading.dataset_folder import CONVERTED_FOLDER, read_dataset, write_dataset

log = logging.getLogger(__name__)
VARIABLE = "AUTOSAMPLE_TF_CACHE"
_READERS = 3  # raised whenever the same files and options come to be read as other datasets
OFF = "off"
_DEFAULT = "~/.cache/autosample-tf/parsed"
_WORTH_KEEPING = 0.25  # seconds of reading: what took less is soon read again
_NAME = re.compile("[0-9a-f]{32}|[.][0-9a-f]{32}[.].*[.](partial|removed)")  # of what is ours
_ABANDONED = 24 * 3600  # seconds after which nobody is writing an entry any more
_MOST_BYTES = 8 << 30  # of all entries; those that were not used for longest go first


def cached(
    files: Sequence[Path], request: Mapping[str, Any], read: Callable[[], Dataset]
) -> Dataset:
    """What `read` gives, from the cache if it was read before.

    Args:
      files: what `read` reads, at least one.
      request: whatever else its result depends on, as JSON has it.
      read: reads the files.
    """
    place = os.environ.get(VARIABLE) or _DEFAULT
    if place == OFF:
        return read()
    source = {
        "version": [autosample_tf.__version__, _READERS],
        "request": dict(request),
        "files": [_state(path) for path in files],
    }
    entry = Path(place).expanduser() / _key(files, request)
    if (found := _found(entry, source)) is not None:
        return found
    began = time.perf_counter()
    dataset = read()
    if time.perf_counter() - began >= _WORTH_KEEPING:
        _keep(dataset, entry, source)
    return dataset


def _state(path: Path) -> list[Any]:
    """What tells whether a file is the same as before."""
    stat = path.stat()
    return [os.path.abspath(path), stat.st_size, stat.st_mtime_ns]


def _key(files: Sequence[Path], request: Mapping[str, Any]) -> str:
    """The same for the same paths and request, so that changed files take their entry's place."""
    text = json.dumps([[os.path.abspath(path) for path in files], dict(request)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _found(entry: Path, source: Mapping[str, Any]) -> Dataset | None:
    if not entry.is_dir():
        return None
    try:
        if CONVERTED_FOLDER.read_manifest(entry)["source"] != source:
            return None
        dataset = read_dataset(entry)
    except (InputError, OSError, KeyError) as error:
        log.info("The cache's entry %s is read anew: %s", entry, error)
        return None
    with contextlib.suppress(OSError):  # a place that is only to be read
        os.utime(entry)  # used just now
    return dataset


def _keep(dataset: Dataset, entry: Path, source: Mapping[str, Any]) -> None:
    """Writes the entry in place of an older one; where that fails, there is none."""
    try:
        if entry.exists():
            _remove(entry)
        write_dataset(dataset, entry, source=source)
        _forget_oldest(entry.parent)
    except (InputError, OSError) as error:  # another process was faster, or the disk is full
        log.info("%s was not kept in the cache: %s", dataset.name, error)


def _remove(entry: Path) -> None:
    """Removes an entry at once for those who look, then its files; mapped ones stay readable."""
    doomed = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}.removed")
    os.rename(entry, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _forget_oldest(folder: Path) -> None:
    """Removes entries until the others take no more than they may, and what was left half done."""
    folders = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    newest_first = sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for at, entry in enumerate(newest_first):
        total += sum(path.stat().st_size for path in entry.iterdir())
        abandoned = entry.name[0] == "." and time.time() - entry.stat().st_mtime > _ABANDONED
        if abandoned or (at and total > _MOST_BYTES):
            _remove(entry)
