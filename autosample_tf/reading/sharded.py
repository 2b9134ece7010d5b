"""A dataset as sharded records, streamed from the files each time they are needed.

What `data shard` writes, for pairs beyond memory: in memory are some numbers for each user and
each item, as a model has anyway, and never all pairs. `sharded.json` tells counts and files:

    records/*.tfrecord-*      TFDS's, a `tf.train.Example` for each user, in random order:
                              `user`, its place; `user_id`; and its items in `train`, `valid`
                              and `test`, ascending
    user_ids.npy, item_ids.npy         as `dataset_folder` has them
    SPLIT.degrees.npy         [num_users] how many items each user has in the split
    SPLIT.popularity.npy      [num_items] how many users each item has in the split

TensorFlow is imported when records are read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autosample_tf.interactions import SPLITS, Dataset, Interactions, Pairs
from autosample_tf.reading.dataset_folder import text_of
from autosample_tf.reading.manifests import FolderKind

if TYPE_CHECKING:
    import tensorflow as tf

SHARDED_FOLDER = FolderKind("sharded.json", 1, "data shard", "Shard it again.")
RECORDS = "records"
_USERS_PER_PART = 1 << 13  # whose pairs are in memory at once


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """The records of a sharded dataset, and what is known of them without reading them.

    Attributes:
      paths: of the record files.
      degrees: [num_users] int64 by split.
      popularity: [num_items] int64 by split.
      most_positives: how many of a user's positives a training batch brings along to mask by.
    """

    paths: tuple[str, ...]
    degrees: Mapping[str, np.ndarray]
    popularity: Mapping[str, np.ndarray]
    most_positives: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StreamedPairs(Pairs):
    """The pairs of some splits of a sharded dataset.

    Attributes:
      shards: the dataset's records.
      splits: some of `SPLITS`.
    """

    shards: Shards
    splits: tuple[str, ...]

    @property
    def num_users(self) -> int:
        return len(self.degrees)

    @property
    def num_items(self) -> int:  # type: ignore[override]  # read-only here
        return len(self.popularity)

    @functools.cached_property
    def num_pairs(self) -> int:
        return int(self.degrees.sum())

    @functools.cached_property
    def degrees(self) -> np.ndarray:
        return np.sum([self.shards.degrees[split] for split in self.splits], axis=0)

    @functools.cached_property
    def popularity(self) -> np.ndarray:
        return np.sum([self.shards.popularity[split] for split in self.splits], axis=0)

    def row_sums(self, values: np.ndarray) -> np.ndarray:
        sums = np.zeros(self.num_users)
        for users, items in self._read():
            sums += np.bincount(users, weights=values[items], minlength=self.num_users)
        return sums

    def parts(self, *others: Pairs) -> Iterator[tuple[Interactions, ...]]:
        all_pairs = (self, *others)
        for records in read_records(self.shards.paths, SPLITS, _USERS_PER_PART):
            yield tuple(
                self._rows(*_pairs_of(records, pairs.splits))
                if isinstance(pairs, StreamedPairs)
                else pairs.in_memory()
                for pairs in all_pairs
            )

    def in_memory(self) -> Interactions:
        offsets = np.concatenate([[0], np.cumsum(self.degrees)])
        items = np.empty(self.num_pairs, np.int32)
        for (part,) in self.parts():
            users = part.users
            places = offsets[users] + np.arange(len(users)) - part.offsets[users]
            items[places] = part.items
        return Interactions(offsets, items, self.num_items)

    def sample(self, most: int) -> Interactions:
        rng = np.random.default_rng(0)
        kept = [_some(rng, users, items, most) for users, items in self._read()]
        users, items = (np.concatenate(side) for side in zip(*kept, strict=True))
        return self._rows(users, items)

    def union(self, other: StreamedPairs) -> StreamedPairs:
        return StreamedPairs(self.shards, tuple(dict.fromkeys((*self.splits, *other.splits))))

    def _read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Users and items of these pairs, those of some users at a time."""
        for records in read_records(self.shards.paths, self.splits, _USERS_PER_PART):
            yield _pairs_of(records, self.splits)

    def _rows(self, users: np.ndarray, items: np.ndarray) -> Interactions:
        order = np.lexsort((items, users))
        degrees = np.bincount(users, minlength=self.num_users)
        offsets = np.concatenate([[0], np.cumsum(degrees)])
        return Interactions(offsets, items[order].astype(np.int32), self.num_items)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ShardedDataset(Dataset):
    """A `Dataset` whose pairs are streamed.

    Attributes:
      sha256: what `checksum` answers: of the ids and, in any order, of all records.
    """

    sha256: str = ""

    def checksum(self) -> str:
        return self.sha256


def read_sharded(folder: Path, *, name: str | None = None) -> ShardedDataset:
    """Opens what `data shard` wrote.

    Args:
      folder: the dataset's.
      name: what to call it; None: as it was called.

    Raises:
      InputError: if a file is missing or is not as it was written.
    """
    manifest = SHARDED_FOLDER.read_manifest(folder)
    with SHARDED_FOLDER.checked(folder):
        for file, size in manifest["files"].items():
            if (there := (folder / file).stat().st_size) != size:
                what = f"{there} bytes of {file}, where {size} were written"
                raise SHARDED_FOLDER.refused(folder, what)
        return _opened(folder, manifest, name or manifest["name"])


def _opened(folder: Path, manifest: Mapping[str, Any], name: str) -> ShardedDataset:
    def arrays(kind: str) -> dict[str, np.ndarray]:
        return {split: np.load(folder / f"{split}.{kind}.npy") for split in SPLITS}

    shards = Shards(
        paths=tuple(str(folder / file) for file in manifest["files"] if ".tfrecord" in file),
        degrees=arrays("degrees"),
        popularity=arrays("popularity"),
        most_positives=manifest["most_positives"],
    )
    train, valid, test = (StreamedPairs(shards, (split,)) for split in SPLITS)
    return ShardedDataset(
        name=name,
        train=train,  # type: ignore[arg-type]  # a Dataset of pairs in another place
        valid=valid,  # type: ignore[arg-type]
        test=test,  # type: ignore[arg-type]
        user_ids=text_of(np.load(folder / "user_ids.npy")),
        item_ids=text_of(np.load(folder / "item_ids.npy")),
        notes=manifest["notes"],
        time_span=None if (span := manifest.get("time_span")) is None else (span[0], span[1]),
        sha256=manifest["sha256"],
    )


def parsed(records: tf.Tensor, splits: Sequence[str]) -> dict[str, tf.Tensor]:
    """What serialized records hold.

    Args:
      records: [n] strings.
      splits: whose items are wanted.

    Returns:
      `user` [n] int64, and by split a ragged [n, None] int64.
    """
    import tensorflow as tf

    features = {split: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for split in splits}
    return tf.io.parse_example(records, {"user": tf.io.FixedLenFeature([], tf.int64), **features})


def read_records(
    paths: Sequence[str], splits: Sequence[str], num_users: int
) -> Iterator[dict[str, Any]]:
    """What `parsed` has of all records, so many of them at a time."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(list(paths)).batch(num_users)
    yield from records.map(lambda some: parsed(some, splits))


def _pairs_of(records: Mapping[str, Any], splits: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """[n] and [n] int64: the users and items of records' pairs."""
    own = records["user"].numpy()
    users = [np.repeat(own, records[split].row_lengths().numpy()) for split in splits]
    items = [records[split].flat_values.numpy() for split in splits]
    return np.concatenate(users), np.concatenate(items)


def _some(
    rng: np.random.Generator, users: np.ndarray, items: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """At most so many of each user's pairs, chosen at random."""
    order = np.lexsort((rng.random(len(users)), users))
    users, items = users[order], items[order]
    ranks = np.arange(len(users)) - np.searchsorted(users, users)
    return users[ranks < most], items[ranks < most]
