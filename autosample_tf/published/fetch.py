"""Fetching a published dataset: downloaded, verified, unpacked, and put in place as a whole.

Everything happens in `.fetching-<name>` beside the dataset's folder, and only files whose
checksums are right move from there. A fetch that was interrupted goes on from what it kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from autosample_tf.errors import InputError, expected
from autosample_tf.published.archives import unpack
from autosample_tf.published.downloads import PATIENCE, Patience, Report, download
from autosample_tf.published.facts import (
    Facts,
    check_file,
    data_folder,
    digest,
    own_folder,
    wanted_files,
)

Download = Callable[..., None]  # `downloads.download`, but for who is told and how patiently


def fetch(
    known: Facts,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    report: Report | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Fetches a published dataset's files, those that are not there.

    Args:
      known: the dataset.
      data_dir: where to, into a folder of its name; None as for `facts.data_folder`.
      report: is told how far each download is.
      patience: with the servers.

    Returns:
      The folder with the files.

    Raises:
      InputError: if no address of the files is known, they could not be had, what came is
        not them, or other files are in their place, which stay.
    """
    place = data_folder(data_dir)
    folder = own_folder(known.name, known.files, place)
    missing = [name for name in known.files if not (folder / name).is_file()]
    for name in known.files.keys() - missing:
        check_file(known, name, folder / name, remedy="Move it away, or name another --data-dir.")
    if not missing:
        return folder
    if not known.can_be_fetched:
        raise _by_hand(known, folder, f"No address of {known.name} could be verified.")
    staging = place / f".fetching-{known.name}"
    with alone(place, known.name):
        staging.mkdir(exist_ok=True)
        try:
            gather = _download_files if known.archive is None else _download_archive
            gather(known, missing, staging, partial(download, report=report, patience=patience))
        except InputError as error:
            if not any(staging.iterdir()):
                staging.rmdir()
            raise _by_hand(known, folder, str(error)) from error
        _move(missing, staging, folder)
    return folder


@contextmanager
def alone(place: Path, name: str) -> Iterator[None]:
    """Keeps a second process from fetching the same dataset into the same place.

    Raises:
      InputError: if there is one already.
    """
    place.mkdir(parents=True, exist_ok=True)
    lock = place / f".fetching-{name}.lock"
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise expected(
            f"one process at a time to fetch {name} into {place}",
            received="another one",
            remedy="Wait until that one has ended.",
        ) from None


def _download_files(known: Facts, names: list[str], staging: Path, get: Download) -> None:
    for name in names:
        if not (staging / name).is_file():
            address = known.addresses[name]
            get(address.url, staging / name, size=address.size, sha256=address.sha256)


def _download_archive(known: Facts, names: list[str], staging: Path, get: Download) -> None:
    """Downloads the archive, whose own checksum nobody published, and takes the files out."""
    archive = staging / known.archive.rpartition("/")[2]
    if not archive.is_file():
        get(known.archive, archive)
    received: dict[str, str] = {}

    def accept(name: str, path: Path) -> bool:
        received[name] = digest(path, "md5")
        return received[name] in known.files[name].md5

    try:
        unpack(archive, names, accept)
        if wrong := [name for name in names if not (staging / name).is_file()]:
            what = ", ".join(f"{name} with MD5 {received.get(name, 'of none')}" for name in wrong)
            raise expected(
                f"the published files in the archive {known.archive}",
                received=what,
                remedy="The archive has been deleted.",
            )
    except InputError:
        archive.unlink()  # another try has to begin anew
        raise
    archive.unlink()


def _move(names: list[str], staging: Path, folder: Path) -> None:
    """Puts the files in place: all at once, unless some are there already."""
    if not folder.exists():
        staging.replace(folder)
        return
    for name in names:
        (staging / name).replace(folder / name)
    shutil.rmtree(staging)


def _by_hand(known: Facts, folder: Path, why: str) -> InputError:
    return InputError(
        f"{why} By hand: get them from {known.source}, and put them into {folder}: "
        f"{wanted_files(known)}."
    )
