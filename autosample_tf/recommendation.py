"""Recommendations of a finished run as a file: JSON lines, CSV or Parquet.

Users are ranked and written a block at a time, so memory does not grow with them, and a
file is either whole or not there. Scores keep all of their float32 digits: metrics
computed from the file are the run's own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from autosample_tf.errors import expected, unknown
from autosample_tf.evaluation import Ranker
from autosample_tf.interactions import Dataset
from autosample_tf.training import Source, load_run

_USERS_PER_BLOCK = 4096
_COLUMNS = pa.schema(
    [("user", pa.string()), ("item", pa.string()), ("rank", pa.int32()), ("score", pa.float32())]
)
Output = str | os.PathLike[str] | TextIO | None
Users = str | os.PathLike[str] | Iterable[object] | None
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Recommended:
    """What `recommend` did.

    Attributes:
      users: how many users were ranked for.
      items: how many items they got together; fewer than users * k where some have seen
        nearly the whole catalogue.
      unknown: how many of the ids asked for the run does not know.
      lines: for each user `{"user", "items", "scores"}`, best first, where there is no
        output; else None.
    """

    users: int
    items: int
    unknown: int
    lines: list[dict[str, Any]] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
    """The rankings of some users in original ids.

    Attributes:
      users: [n] str.
      items: [n, k] str; anything where `ranked` does not hold.
      scores: [n, k] float32.
      ranked: [n, k] bool, the columns that hold an item: the first ones of a row.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    ranked: np.ndarray


def recommend(
    run_dir: str | Path,
    *,
    output: Output = None,
    users: Users = None,
    k: int = 20,
    source: str | Source | Dataset | None = None,
) -> Recommended:
    """Ranks the catalogue for users of a finished run, seen items left out.

    Seen is train and validation, of a run with `select_on_test` the test pairs too: its
    test metrics cannot be had from these rankings. A user of whom
    no pair was trained on gets the most popular items.

    Args:
      run_dir: the run's folder.
      output: a .jsonl, .csv or .parquet file (JSON lines are one user a line, the others
        one item a row: user, item, rank from 1, score); a text stream, for JSON lines; or
        None: the result has the lines, in memory.
      users: original ids, each ranked for once, in this order; or the path of a file with
        one a line; or None: all users, in the catalogue's order.
      k: the most items a user gets, in [1, number of items].
      source: the dataset, if it is not where the run found it.

    Raises:
      InputError: if the run is not finished, k is out of range, the output's extension is
        not known, or none of the users is.
    """
    write = _writer(output)  # an unknown extension fails before anything is loaded
    trained = load_run(run_dir, source=source)
    places, num_unknown = _places_of(users, trained.data.user_ids)
    ranker = Ranker(trained.model, trained.seen, k, trained.learned)
    counter = _Counter(_blocks(ranker, trained.data, places))
    lines = write(counter)
    return Recommended(len(places), counter.items, num_unknown, lines)


def _writer(output: Output) -> Callable[[Iterable[_Block]], list[dict[str, Any]] | None]:
    """What takes the blocks; for no output it returns their lines."""
    if output is None:
        return lambda blocks: [line for block in blocks for line in _lines(block)]
    if not isinstance(output, str | os.PathLike):
        return functools.partial(_write_lines, output)
    path = Path(output)
    if path.suffix.lower() not in _FILE_WRITERS:
        raise unknown("extension of a file of recommendations", path.name, list(_FILE_WRITERS))
    return functools.partial(_write_whole, path)


def _places_of(users: Users, user_ids: np.ndarray) -> tuple[np.ndarray, int]:
    """The users' places in the catalogue [n], and how many ids were unknown."""
    if users is None:
        return np.arange(len(user_ids)), 0
    asked = _read_ids(Path(users)) if isinstance(users, str | os.PathLike) else users
    ids = list(dict.fromkeys(str(user) for user in asked))
    places = {user: place for place, user in enumerate(user_ids.tolist())}
    strangers = [user for user in ids if user not in places]
    if len(strangers) == len(ids):
        raise expected(
            f"ids of the run's {len(user_ids):,} users, such as {str(user_ids[0])!r}",
            received=f"{_some(strangers)}, none of which it knows" if ids else "no id",
            remedy="Give ids as the dataset has them.",
        )
    if strangers:
        log.warning("unknown users left out: %d (%s)", len(strangers), _some(strangers))
    return np.array([places[user] for user in ids if user in places]), len(strangers)


def _read_ids(path: Path) -> list[str]:
    """A file's lines, blank ones left out; spaces belong to an id."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise expected(
            f"UTF-8 text, one user id a line, in {path}",
            received=error,
            remedy="Save it as UTF-8.",
        ) from error
    return [line for line in text.split("\n") if line.strip()]


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", …" if len(ids) > 3 else "")


def _blocks(ranker: Ranker, data: Dataset, places: np.ndarray) -> Iterator[_Block]:
    for start in range(0, len(places), _USERS_PER_BLOCK):
        rankings = ranker.rank(places[start : start + _USERS_PER_BLOCK])
        yield _Block(
            users=data.user_ids[rankings.users],
            items=data.item_ids[rankings.items],
            scores=rankings.scores,
            ranked=rankings.items >= 0,
        )


class _Counter:
    """Blocks on their way to a writer, with the number of items that went through."""

    def __init__(self, blocks: Iterator[_Block]):
        self._blocks = blocks
        self.items = 0

    def __iter__(self) -> Iterator[_Block]:
        for block in self._blocks:
            self.items += int(block.ranked.sum())
            yield block


def _write_whole(path: Path, blocks: Iterable[_Block]) -> None:
    """Writes beside the path and renames, so that the file is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _FILE_WRITERS[path.suffix.lower()](blocks, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _lines(block: _Block) -> Iterator[dict[str, Any]]:
    rows = zip(block.users, block.items, block.scores, block.ranked, strict=True)
    for user, items, scores, ranked in rows:
        yield {
            "user": str(user),
            "items": items[ranked].tolist(),
            "scores": scores[ranked].tolist(),
        }


def _table(block: _Block) -> pa.Table:
    """One row an item."""
    places, columns = np.nonzero(block.ranked)
    arrays = [
        block.users[places],
        block.items[places, columns],
        (columns + 1).astype(np.int32),
        block.scores[places, columns],
    ]
    return pa.table([pa.array(array) for array in arrays], schema=_COLUMNS)


def _write_lines(stream: TextIO, blocks: Iterable[_Block]) -> None:
    for block in blocks:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(block))


def _write_jsonl(blocks: Iterable[_Block], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        _write_lines(stream, blocks)


def _write_csv(blocks: Iterable[_Block], path: Path) -> None:
    with pyarrow.csv.CSVWriter(path, _COLUMNS) as writer:
        for block in blocks:
            writer.write_table(_table(block))


def _write_parquet(blocks: Iterable[_Block], path: Path) -> None:
    with pyarrow.parquet.ParquetWriter(path, _COLUMNS) as writer:
        for block in blocks:
            writer.write_table(_table(block))


_FILE_WRITERS: dict[str, Callable[[Iterable[_Block], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
