"""MovieLens (100k, 1m, 20m, 25m) through TFDS's own builders, as tables of ratings.

TFDS knows the archives' addresses and checksums, and reads them; `fetch` has it prepare a
version once and writes the ratings to `<data_dir>/<name>/ratings.csv`, which is then read as
any table: every rating is a positive, unless a least rating is asked for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autosample_tf.downloads import PATIENCE, Patience, Report, download
from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.fetch import alone
from autosample_tf.published import DATA_VARIABLE, data_folder

if TYPE_CHECKING:
    import pyarrow
    import tensorflow_datasets as tfds

_TABLE = "ratings.csv"
_BATCH = 1 << 14  # ratings at once
# TFDS's features, and what the table calls them.
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
      InputError: if it is not there.
    """
    path = data_dir / name / _TABLE
    if not path.is_file():
        raise expected(
            f"{name}'s ratings at {path}",
            received="nothing there",
            remedy=f"Run `autosample-tf data fetch {name}`, or name the place where it did by "
            f"--data-dir (data_dir=… in Python) or {DATA_VARIABLE}.",
        )
    return path


def fetch(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    report: Report | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Fetches a version by TFDS's builder and writes its table, unless it is there.

    Args:
      name: one of `NAMES`.
      data_dir: where to, into a folder of its name; None as for `published.data_folder`.
        TFDS's own files lie in `tensorflow_datasets` there.
      report: is told how far the download is.
      patience: with the server.

    Returns:
      The folder with the table.

    Raises:
      InputError: if there is no such version, its archive could not be had or is not the one
        that TFDS knows, or it has other counts than TFDS describes.
    """
    if name not in VERSIONS:
        raise unknown("version of MovieLens", name, NAMES)
    place = data_folder(data_dir)
    path = place / name / _TABLE
    if not path.is_file():
        with alone(place, name):
            builder = _prepared(VERSIONS[name], place / "tensorflow_datasets", report, patience)
            path.parent.mkdir(exist_ok=True)
            _write(builder, path, VERSIONS[name])
    return path.parent


def _prepared(
    version: Version, folder: Path, report: Report | None, patience: Patience
) -> tfds.core.DatasetBuilder:
    """TFDS's builder of a version, its archive downloaded and read."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(f"movielens/{version.config}", data_dir=folder)
    archives = folder / "downloads" / "manual"
    archives.mkdir(parents=True, exist_ok=True)
    _download_archive(builder, archives, report, patience)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=archives))
    return builder


def _download_archive(
    builder: tfds.core.DatasetBuilder, folder: Path, report: Report | None, patience: Patience
) -> None:
    """Puts the builder's archive where TFDS looks before it downloads one itself."""
    url = builder.builder_config.download_url
    info = builder.url_infos[url]
    path = folder / info.filename
    if path.is_file():
        return
    try:
        download(
            url, path, size=int(info.size), sha256=info.checksum, report=report, patience=patience
        )
    except InputError as error:
        raise InputError(
            f"{error} Its SHA-256 is {info.checksum}; put it into {folder} if you have it."
        ) from error


def _write(builder: tfds.core.DatasetBuilder, path: Path, version: Version) -> None:
    """Writes the table of what the builder has prepared."""
    import pyarrow.csv

    part = path.with_suffix(".part")
    users: set[str] = set()
    ratings = 0
    with pyarrow.csv.CSVWriter(part, _schema()) as writer:
        for batch in _batches(builder):
            users.update(batch.column("user_id").to_pylist())
            ratings += len(batch)
            writer.write(batch)
    if (len(users), ratings) != (version.users, version.ratings):
        part.unlink()
        raise expected(
            f"{version.users} users and {version.ratings} ratings of movielens/{version.config}",
            received=f"{len(users)} and {ratings}",
            remedy=f"Delete {builder.data_dir} and fetch it again.",
        )
    part.replace(path)


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    types = (pa.string(), pa.string(), pa.float32(), pa.int64())
    return pa.schema(list(zip(_COLUMNS.values(), types, strict=True)))


def _batches(builder: tfds.core.DatasetBuilder) -> Iterator[pyarrow.RecordBatch]:
    """What the builder has prepared, without the films' titles and genres."""
    import pyarrow as pa
    import tensorflow_datasets as tfds

    features = tfds.decode.PartialDecoding(dict.fromkeys(_COLUMNS, True))
    ratings = builder.as_dataset(split="train", decoders=features, batch_size=_BATCH)
    schema = _schema()
    for batch in tfds.as_numpy(ratings):
        arrays = [
            pa.array(batch[name]).cast(field.type)
            for name, field in zip(_COLUMNS, schema, strict=True)
        ]
        yield pa.record_batch(arrays, schema=schema)
