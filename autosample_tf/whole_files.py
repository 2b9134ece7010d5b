"""Files and folders that are there whole or not at all, whatever stops their writer."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autosample_tf.errors import InputError, expected


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path beside it, which takes its place once all is written, and not else."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a new folder beside it, which takes its place once all is written, and not else.

    Raises:
      InputError: if something is at the folder's place, but for an empty folder; of several
        writers one wins.
    """
    folder = Path(os.path.abspath(folder))
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if os.path.lexists(folder) and not is_empty:
        raise taken(folder)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError as error:
        if folder.exists():  # another writer's
            raise taken(folder) from error
        raise


def taken(folder: Path) -> InputError:
    """The refusal of a folder to write that is there already."""
    return expected("a folder that is not there yet", received=folder, remedy="Choose another.")
