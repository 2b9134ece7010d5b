"""Files of pairs to sharded records, by an Apache Beam pipeline in a builder of TFDS.

For logs that do not fit into memory: each file is read by one worker, pairs are brought
together by user, and each user's are split by themselves, as they would be in memory. Which
users and items there are is what a worker has to hold. Beam is the extra `beam`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autosample_tf.errors import InputError, NoRowsError, expected
from autosample_tf.interactions import Interactions
from autosample_tf.reading.columns import Part, needed_roles
from autosample_tf.reading.dataset_folder import code_points
from autosample_tf.reading.events import Events, gather
from autosample_tf.reading.filters import filtered
from autosample_tf.reading.formats import read_part
from autosample_tf.reading.identifiers import in_order
from autosample_tf.reading.preparation import ratings_up_to_0, time_span
from autosample_tf.reading.sharded import (
    RECORDS,
    SHARDED_FOLDER,
    SPLITS,
    ShardedDataset,
    parsed,
    read_sharded,
)
from autosample_tf.reading.sources import TABLE, find_files
from autosample_tf.reading.split_rules import parse_rule
from autosample_tf.reading.table_options import TableOptions, refuse_options
from autosample_tf.splits import FEWEST_PAIRS, Splits, hold_out
from autosample_tf.whole_files import taken, whole_folder

if TYPE_CHECKING:
    import apache_beam as beam
    import tensorflow_datasets as tfds

Pair = tuple[str, tuple[str, float]]  # a user, an item and when
_FACTS = "facts"  # of the pipeline's outputs
_RECORDS_AT_ONCE = 1 << 14
_MODULUS = 1 << 256  # of the sum of all records' SHA-256


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sharded, and how.

    Attributes:
      paths: the files.
      options: what counts, and how pairs are split: by a rule that parts each user's alone.
      valid_fraction: of each user's train pairs, where the rule sets no validation aside.
      seed: of the splits.
    """

    paths: tuple[str, ...]
    options: TableOptions
    valid_fraction: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one file was like, or all of them, beyond the pairs.

    Attributes:
      long_rows: how many rows have a line end within a value.
      ratings_up_to_0: how many rows count though they are rated 0 or less.
      time_span: Unix seconds of the first and of the last row, or None: no times.
    """

    long_rows: int
    ratings_up_to_0: int
    time_span: Sequence[float] | None


def write_sharded(
    source: str,
    folder: Path,
    options: TableOptions,
    *,
    valid_fraction: float = 0.1,
    seed: int = 0,
    most_positives: int = 1000,
    num_shards: int | None = None,
    beam_options: Sequence[str] = (),
) -> ShardedDataset:
    """Reads files of pairs and writes them as a sharded dataset, whole or not at all.

    Args:
      source: a file, a folder or a pattern of files, parts of one table, each of which a
        worker can hold.
      folder: where to, which must not be there yet.
      options: of the table.
      valid_fraction: see `Request`.
      seed: of the splits.
      most_positives: of a user, that training batches bring along to mask negatives by; of
        more they have an even choice, and other negatives may be positives.
      num_shards: how many files to write; None: as many as TFDS finds fit.
      beam_options: flags of Beam and its runner, as `--direct_num_workers=4`; none: this
        machine's DirectRunner.

    Raises:
      InputError: if something is at the folder's place, Beam is not installed, or the data
        cannot be used.
    """
    request = _request(source, options, valid_fraction, seed)
    for flag, number in {"--most-positives": most_positives, "--shards": num_shards}.items():
        if number is not None and number < 1:
            raise expected(f"{flag} of at least 1", received=number, remedy="Raise it.")
    if folder.exists():
        raise taken(folder)
    with whole_folder(folder) as partial:
        item_ids, facts = _write_records(request, partial, num_shards, beam_options)
        write_summary(partial, Path(folder).name, item_ids, facts, request, most_positives)
        read_sharded(partial)  # refuses splits without pairs
    return read_sharded(folder)


def _request(source: str, options: TableOptions, valid_fraction: float, seed: int) -> Request:
    files = find_files(source)
    if files.format != TABLE or files.splits is not None:
        raise expected(
            "files that are parts of one table, to be split here",
            received=f"{source}, {'which has splits' if files.format == TABLE else files.format}",
            remedy="Name files of pairs, as 'log/*.parquet'.",
        )
    options.check()
    refuse_options(
        options,
        f"{source} when it is sharded, where each row counts by itself",
        names=("label_column", "positive_from", "k_core"),
    )
    if parse_rule(options.split_by).fewest is None:
        raise expected(
            "a split of each user's pairs by themselves: random, leave-one-out or leave-last",
            received=f"--split-by {options.split_by}",
            remedy="Choose one of them.",
        )
    return Request(tuple(map(str, files.paths)), options, valid_fraction, seed)


# --- the pipeline


def _write_records(
    request: Request, partial: Path, num_shards: int | None, beam_options: Sequence[str]
) -> tuple[list[str], Facts]:
    """Has Beam write the records below a folder; the items' ids, and what the files were like."""
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise expected(
            "Apache Beam, which shards data",
            received="an installation without it",
            remedy="Install the extra: pip install 'autosample-tf[beam]'.",
        ) from None
    import tensorflow_datasets as tfds
    from apache_beam.options.pipeline_options import PipelineOptions

    scratch = partial / "tfds"
    builder = _builder(request, scratch)
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                beam_options=PipelineOptions(list(beam_options)), num_shards=num_shards
            ),
            file_format="tfrecord",
        )
    except InputError as error:  # to which Beam has added where it was at work
        raise InputError(str(error).partition(" [while running ")[0]) from error
    Path(builder.data_path).rename(partial / RECORDS)
    shutil.rmtree(scratch)
    return builder.info.metadata["item_ids"], Facts(**builder.info.metadata["facts"])


def _builder(request: Request, data_dir: Path) -> tfds.core.DatasetBuilder:
    """TFDS's builder of the records: its features, and the pipeline that makes them."""
    import tensorflow_datasets as tfds

    class Pairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """A user with its items in each split."""

        name = "pairs"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            items = {split: tfds.features.Sequence(np.int64) for split in SPLITS}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {"user": np.int64, "user_id": tfds.features.Text(), **items}
                ),
                metadata=tfds.core.BeamMetadataDict(),
            )

        def _split_generators(
            self, dl_manager: tfds.download.DownloadManager, pipeline: beam.Pipeline
        ) -> dict[str, beam.PCollection]:
            examples, item_ids, facts = _examples(pipeline, request)
            self.info.metadata["item_ids"] = item_ids
            self.info.metadata["facts"] = facts
            return {"users": examples}

        def _generate_examples(self, *_: Any) -> None:
            """Nothing: `_split_generators` has the whole pipeline."""

    return Pairs(data_dir=data_dir)


def _examples(
    pipeline: beam.Pipeline, request: Request
) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
    """The records by their keys, the items' ids as one list, and `Facts` as a dictionary."""
    import apache_beam as beam

    rows, facts = (
        pipeline
        | "files" >> beam.Create(request.paths)
        | beam.Reshuffle()
        | "read" >> beam.FlatMap(_read, request.options).with_outputs(_FACTS, main="rows")
    )

    def catalogue(kind: str, ids: beam.PCollection) -> beam.PCollection:
        distinct = ids | f"distinct {kind}s" >> beam.Distinct()
        listed = distinct | f"list of {kind}s" >> beam.combiners.ToList()
        return listed | f"order of {kind}s" >> beam.Map(_catalogue)

    user_ids = catalogue("user", rows | "users" >> beam.Map(lambda row: row[0]))
    item_ids = catalogue("item", rows | "items" >> beam.Map(lambda row: row[1][0]))
    numbered = {
        kind: beam.pvalue.AsSingleton(ids | f"places of {kind}s" >> beam.Map(_places))
        for kind, ids in {"users": user_ids, "items": item_ids}.items()
    }
    examples = (
        rows
        | "by user" >> beam.GroupByKey()
        | "split" >> beam.Map(_example, request=request, **numbered)
    )
    listed = facts | "facts" >> beam.combiners.ToList() | beam.Map(_together)
    return examples, item_ids, listed


def _together(facts: Sequence[Facts]) -> dict[str, Any]:
    """Those of all files."""
    spans = [fact.time_span for fact in facts if fact.time_span is not None]
    return {
        "long_rows": sum(fact.long_rows for fact in facts),
        "ratings_up_to_0": sum(fact.ratings_up_to_0 for fact in facts),
        "time_span": [min(s[0] for s in spans), max(s[1] for s in spans)] if spans else None,
    }


def _read(path: str, options: TableOptions) -> Iterator[Pair | beam.pvalue.TaggedOutput]:
    """The rows of a file that count, and its `Facts`."""
    import apache_beam as beam

    try:
        part = read_part(Path(path), options)
        events, _ = filtered(gather([part], needed_roles(options)), options)
    except NoRowsError:
        return
    yield beam.pvalue.TaggedOutput(_FACTS, _facts(part, events, options))
    times = np.zeros(events.num_rows) if events.times is None else events.times
    users, items = events.user_ids[events.users], events.item_ids[events.items]
    for user, item, time in zip(users.tolist(), items.tolist(), times.tolist(), strict=True):
        yield user, (item, time)


def _facts(part: Part, events: Events, options: TableOptions) -> Facts:
    return Facts(
        long_rows=part.long_rows,
        ratings_up_to_0=ratings_up_to_0(events, options),
        time_span=time_span(events),
    )


def _catalogue(ids: list[str]) -> list[str]:
    if not ids:
        raise expected(
            "rows that count", received="none in any file", remedy="Widen the options that filter."
        )
    return in_order(ids)


def _places(ids: list[str]) -> dict[str, int]:
    return {own: place for place, own in enumerate(ids)}


def _example(
    row: tuple[str, Any], *, request: Request, users: dict[str, int], items: dict[str, int]
) -> tuple[int, dict[str, Any]]:
    """The record of a user with all its rows, and the record's key."""
    user_id, rows = row
    first: dict[int, float] = {}  # when each item was there first
    for item, time in rows:
        place = items[item]
        first[place] = min(time, first.get(place, time))
    user = users[user_id]
    own = np.array(sorted(first), np.int64)
    pairs = Interactions.from_pairs(
        np.zeros(len(own), np.int64), own, num_users=1, num_items=len(items)
    )
    times = np.array([first[place] for place in own.tolist()])
    splits = split_row(pairs, times, user, request)
    empty = Interactions(np.zeros(2, np.int64), np.zeros(0, np.int32), len(items))
    found = {split: splits.get(split, empty).items.astype(np.int64) for split in SPLITS}
    return user, {"user": user, "user_id": user_id, **found}


def split_row(row: Interactions, times: np.ndarray, user: int, request: Request) -> Splits:
    """The splits of one user's pairs, which are what they would be among all users'.

    Args:
      row: the pairs, of one user.
      times: [num_pairs], of each.
      user: the user's place.
      request: how to split.
    """
    rule = parse_rule(request.options.split_by)
    is_parted = row.num_pairs >= rule.fewest
    splits = {"train": row}
    if is_parted:
        splits = rule.split(row, times, seed=request.seed, first_user=user)
    if not rule.validates and splits["train"].num_pairs >= FEWEST_PAIRS:
        train, valid = hold_out(
            splits["train"], request.valid_fraction, seed=request.seed, first_user=user
        )
        splits |= {"train": train, "valid": valid}
    return splits


# --- what is told of the records


@dataclasses.dataclass(frozen=True)
class _Summary:
    """What the records hold together, users in the order of their indices.

    Attributes:
      user_ids: [num_users] text.
      degrees: of each split, [num_users] int.
      popularity: of each split, [num_items] int64.
      sha256: of the item ids and, in any order, of all records.
    """

    user_ids: np.ndarray
    degrees: Mapping[str, np.ndarray]
    popularity: Mapping[str, np.ndarray]
    sha256: str


def write_summary(
    folder: Path,
    name: str,
    item_ids: list[str],
    facts: Facts,
    request: Request,
    most_positives: int,
) -> None:
    """Reads the records once, and writes all but them."""
    summary = _summary(folder, item_ids)
    np.save(folder / "user_ids.npy", code_points(summary.user_ids))
    np.save(folder / "item_ids.npy", code_points(np.array(item_ids)))
    for split in SPLITS:
        np.save(folder / f"{split}.degrees.npy", summary.degrees[split])
        np.save(folder / f"{split}.popularity.npy", summary.popularity[split])
    capped = int(np.sum(summary.degrees["train"] > most_positives))
    notes = {
        "users_with_capped_positives": capped,
        "rows_of_several_lines": facts.long_rows,
        "ratings_up_to_0": facts.ratings_up_to_0,
    }
    told = {
        "name": name,
        "counts": {
            "users": len(summary.user_ids),
            "items": len(item_ids),
            **{split: int(summary.degrees[split].sum()) for split in SPLITS},
        },
        "most_positives": most_positives,
        "notes": {name: count for name, count in notes.items() if count},
        "time_span": facts.time_span,
        "sha256": summary.sha256,
        "source": {**dataclasses.asdict(request), "options": request.options.chosen()},
        "files": {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    SHARDED_FOLDER.write_manifest(folder, told)


def _summary(folder: Path, item_ids: list[str]) -> _Summary:
    import tensorflow as tf

    paths = sorted(map(str, (folder / RECORDS).glob("*.tfrecord*")))
    users: list[np.ndarray] = []
    user_ids: list[np.ndarray] = []
    degrees: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    popularity = {split: np.zeros(len(item_ids), np.int64) for split in SPLITS}
    digest = _digest("\n".join(item_ids).encode())
    for records in tf.data.TFRecordDataset(paths).batch(_RECORDS_AT_ONCE):
        held = parsed(records, SPLITS)
        text = tf.io.parse_example(records, {"user_id": tf.io.FixedLenFeature([], tf.string)})
        users.append(held["user"].numpy())
        user_ids.append(text["user_id"].numpy().astype(np.bytes_))
        for split in SPLITS:
            items = held[split].flat_values.numpy()
            degrees[split].append(held[split].row_lengths().numpy())
            popularity[split] += np.bincount(items, minlength=len(item_ids))
        digest += sum(map(_digest, records.numpy()))
    order = np.argsort(np.concatenate(users))
    return _Summary(
        user_ids=np.char.decode(np.concatenate(user_ids)[order], "utf-8"),
        degrees={split: np.concatenate(parts)[order] for split, parts in degrees.items()},
        popularity=popularity,
        sha256=f"{digest % _MODULUS:064x}",
    )


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest(), "big")
