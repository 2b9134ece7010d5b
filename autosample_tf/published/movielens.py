"""MovieLens (100k, 1m, 20m, 25m) through TFDS's own builder, as tables of ratings.

The builder knows where each version's archive is, its checksum, and how to read it. `fetch`
has it read an archive once, into `<data_dir>/<name>/ratings.csv`, which is then read as any
table: every rating is a positive, unless a least one is asked for. TFDS's records, which
`tfds.load` would write first, are left out: they take some twenty times as long.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.published.downloads import PATIENCE, Patience, Report, download
from autosample_tf.published.facts import DATA_VARIABLE, data_folder, digest
from autosample_tf.published.fetch import alone

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_TABLE = "ratings.csv"
_DIGEST = f"{_TABLE}.sha256"
_BATCH = 1 << 16  # ratings at once
# The builder's features, and what the table calls them.
_COLUMNS = {
    "user_id": "user_id",
    "movie_id": "item_id",
    "user_rating": "rating",
    "timestamp": "timestamp",
}


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of MovieLens.

    Attributes:
      config: its name in TFDS's builder.
      users: how many users, as TFDS describes it.
      ratings: how many ratings, as TFDS describes it.
    """

    config: str
    users: int
    ratings: int


VERSIONS = {
    "movielens-100k": Version("100k-ratings", 943, 100_000),
    "movielens-1m": Version("1m-ratings", 6_040, 1_000_209),
    "movielens-20m": Version("20m-ratings", 138_493, 20_000_263),
    "movielens-25m": Version("25m-ratings", 162_541, 25_000_095),
}
NAMES = tuple(VERSIONS)


def table(name: str, data_dir: Path) -> Path:
    """The table of a version's ratings.

    Args:
      name: one of `NAMES`.
      data_dir: where `fetch` has put it.

    Raises:
      InputError: if it is not there, or not as `fetch` wrote it.
    """
    path = data_dir / name / _TABLE
    if not path.is_file():
        raise expected(
            f"{name}'s ratings at {path}",
            received="nothing there",
            remedy=f"Run `autosample-tf data fetch {name}`, or name the place where it did by "
            f"--data-dir (data_dir=… in Python) or {DATA_VARIABLE}.",
        )
    noted, found = _noted_digest(path), digest(path, "sha256")
    if noted != found:
        raise expected(
            f"{name}'s ratings as `data fetch` wrote them at {path}, SHA-256 {noted}",
            received=f"a table whose SHA-256 is {found}",
            remedy="Delete it and fetch it again, or give its path as the dataset.",
        )
    return path


def fetch(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    report: Report | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Fetches a version and writes its table, unless it is there.

    Args:
      name: one of `NAMES`.
      data_dir: where to, into a folder of its name; None as for `facts.data_folder`. An
        archive that lies there is taken if it is the right one.
      report: is told how far the download is, then how many bytes of the table are written.
      patience: with the server.

    Returns:
      The folder with the table.

    Raises:
      InputError: if there is no such version, its archive could not be had or is not the one
        that TFDS knows, or it has other counts than TFDS describes.
    """
    import tensorflow_datasets as tfds

    if name not in VERSIONS:
        raise unknown("version of MovieLens", name, NAMES)
    place = data_folder(data_dir)
    path = place / name / _TABLE
    if path.is_file():
        table(name, place)  # that it is as it was written
    else:
        with alone(place, name):
            path.parent.mkdir(exist_ok=True)
            builder = tfds.builder(f"movielens/{VERSIONS[name].config}", data_dir=path.parent)
            archive = _archive(builder, path.parent, report, patience)
            with _unpacked(archive) as folder:
                _write(builder, folder, path, VERSIONS[name], report)
    return path.parent


def _noted_digest(path: Path) -> str | None:
    """The SHA-256 that a table had when it was written; None: none was noted."""
    note = path.with_name(_DIGEST)
    return note.read_text(encoding="ascii").split()[0] if note.is_file() else None


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """A folder with what is in an archive, which is trusted: its checksum is TFDS's."""
    folder = archive.with_name(".unpacked")
    shutil.rmtree(folder, ignore_errors=True)  # of a fetch that was killed
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _archive(
    builder: tfds.core.DatasetBuilder, folder: Path, report: Report | None, patience: Patience
) -> Path:
    """The builder's archive, downloaded unless it is there."""
    url = builder.builder_config.download_url
    info = builder.url_infos[url]
    path = folder / info.filename
    if path.is_file():
        if (received := digest(path, "sha256")) != info.checksum:
            raise expected(
                f"the archive whose SHA-256 is {info.checksum} at {path}",
                received=f"one whose SHA-256 is {received}",
                remedy="Delete it to have it downloaded, or put the right one there.",
            )
        return path
    try:
        download(
            url, path, size=int(info.size), sha256=info.checksum, report=report, patience=patience
        )
    except InputError as error:
        raise InputError(
            f"{error} By hand: put the archive whose SHA-256 is {info.checksum} at {path}."
        ) from error
    return path


def _write(
    builder: tfds.core.DatasetBuilder,
    folder: Path,
    path: Path,
    version: Version,
    report: Report | None,
) -> None:
    """Writes the table of an archive's ratings, as the builder reads them.

    Args:
      builder: TFDS's, for the version.
      folder: what the archive unpacks to.
      path: the table's.
      version: what it has to have.
      report: is told how many bytes are written.
    """
    import pyarrow as pa
    from pyarrow.csv import CSVWriter

    schema = pa.schema([(column, pa.string()) for column in _COLUMNS.values()])
    config = builder.builder_config
    rows = (row for _, row in config.parsing_fn(str(folder / f"ml-{config.format_version}")))
    part = folder / _TABLE
    users: set[str] = set()
    ratings = 0
    with CSVWriter(part, schema) as writer:
        while batch := list(itertools.islice(rows, _BATCH)):
            columns = [[row[feature] for row in batch] for feature in _COLUMNS]
            users.update(columns[0])
            ratings += len(batch)
            writer.write(pa.table(columns, schema=schema))
            if report:
                report(_TABLE, part.stat().st_size, None)
    if (len(users), ratings) != (version.users, version.ratings):
        raise expected(
            f"{version.users} users and {version.ratings} ratings in movielens/{version.config}",
            received=f"{len(users)} and {ratings}",
            remedy="This version of TensorFlow Datasets reads the archive in another way.",
        )
    note = f"{digest(part, 'sha256')}  {_TABLE}\n"  # as `sha256sum --check` reads it
    path.with_name(_DIGEST).write_text(note, encoding="ascii")
    part.replace(path)
