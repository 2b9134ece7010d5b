"""Files of recommendations: JSON lines, CSV or Parquet, written in parts that outlast a stop.

A block of users is written to a file of its own in `<output>.parts`, whole or not at all,
and at the end the parts become the output. What was stopped goes on behind the last whole
part, if the same is asked for again; the result is the one of a run without a stop, as a
block's ranking depends on nothing but the block.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from filelock import FileLock, Timeout

from autosample_tf.errors import expected, unknown
from autosample_tf.evaluation import Rankings
from autosample_tf.whole_files import whole

_COLUMNS = pa.schema(
    [("user", pa.string()), ("item", pa.string()), ("rank", pa.int32()), ("score", pa.float32())]
)
_REQUEST = "request.json"
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Names:
    """The original ids that rankings are written in.

    Attributes:
      users: [num_users] str.
      items: [num_items] str, of the items that were ranked.
    """

    users: np.ndarray
    items: np.ndarray

    def lines(self, ranked: Rankings) -> Iterator[dict[str, Any]]:
        """A user each: `{"user", "items", "scores"}`, best first."""
        counts = (ranked.items >= 0).sum(axis=1).tolist()
        users, items = self.users[ranked.users].tolist(), self.items[ranked.items].tolist()
        for user, own, scores, n in zip(users, items, ranked.scores.tolist(), counts, strict=True):
            yield {"user": user, "items": own[:n], "scores": scores[:n]}

    def table(self, ranked: Rankings) -> pa.Table:
        """An item each: user, item, rank from 1, score."""
        rows, columns = np.nonzero(ranked.items >= 0)
        arrays = [
            self.users[ranked.users[rows]],
            self.items[ranked.items[rows, columns]],
            (columns + 1).astype(np.int32),
            ranked.scores[rows, columns],
        ]
        return pa.table([pa.array(array) for array in arrays], schema=_COLUMNS)


def check_extension(path: Path) -> None:
    """Refuses a file of another format with an `InputError`."""
    if path.suffix.lower() not in _FORMATS:
        raise unknown("extension of a file of recommendations", path.name, list(_FORMATS))


def write_lines(stream: TextIO, names: Names, ranked: Rankings) -> None:
    """JSON lines, as text."""
    stream.writelines(orjson.dumps(line).decode() + "\n" for line in names.lines(ranked))


def write_in_parts(
    path: Path,
    names: Names,
    blocks: int,
    rank: Callable[[int], Rankings],
    request: Mapping[str, Any],
) -> None:
    """Writes a file of recommendations, going on where the same request was stopped.

    Args:
      path: of the file, which is replaced at the end, not before.
      names: the ids to write.
      blocks: how many blocks of users there are.
      rank: ranks for the block of that number.
      request: all that the rankings depend on, as JSON holds it.

    Raises:
      InputError: if another process writes the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_part, join = _FORMATS[path.suffix.lower()]
    folder = path.with_name(path.name + ".parts")
    with _locked(folder):
        parts = [folder / f"{number:08d}" for number in range(blocks)]
        _begin(folder, parts, request)
        missing = [number for number, part in enumerate(parts) if not part.exists()]
        for number, ranked in zip(missing, _one_ahead(rank, missing), strict=True):
            with whole(parts[number]) as partial:
                write_part(partial, names, ranked)
        with whole(path) as partial:
            join(parts, partial)
        for part in (*parts, folder / _REQUEST):  # under the lock, which goes with the folder
            part.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _one_ahead(rank: Callable[[int], Rankings], blocks: Iterable[int]) -> Iterator[Rankings]:
    """Rankings of each block, the next computed while the last are written."""
    with ThreadPoolExecutor(1) as thread:
        computing = None
        for block in blocks:
            following = thread.submit(rank, block)
            if computing is not None:
                yield computing.result()
            computing = following
        if computing is not None:
            yield computing.result()


def _begin(folder: Path, parts: list[Path], request: Mapping[str, Any]) -> None:
    """Keeps the parts of the same request; those of another are taken away."""
    stored = folder / _REQUEST
    done = sum(part.exists() for part in parts)
    if stored.exists() and json.loads(stored.read_text(encoding="utf-8")) == request:
        log.warning("going on behind %d of %d parts in %s", done, len(parts), folder)
        return
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()
    with whole(stored) as partial:
        partial.write_text(json.dumps(request), encoding="utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise expected(
            "a file that no other process writes",
            received=folder.with_suffix(""),
            remedy="Wait for it to finish, or choose another --output.",
        ) from error


def _write_jsonl(path: Path, names: Names, ranked: Rankings) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        write_lines(stream, names, ranked)


def _write_csv(path: Path, names: Names, ranked: Rankings) -> None:
    """Without a header: the first part's would be in the middle of all others'."""
    options = pyarrow.csv.WriteOptions(include_header=False)
    pyarrow.csv.write_csv(names.table(ranked), path, options)


def _write_parquet(path: Path, names: Names, ranked: Rankings) -> None:
    pyarrow.parquet.write_table(names.table(ranked), path)


def _join_text(parts: Iterable[Path], path: Path, header: str = "") -> None:
    with path.open("wb") as whole:
        whole.write(header.encode())
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)


def _join_csv(parts: Iterable[Path], path: Path) -> None:
    header = ",".join(f'"{name}"' for name in _COLUMNS.names)
    _join_text(parts, path, header + "\n")


def _join_parquet(parts: Iterable[Path], path: Path) -> None:
    with pyarrow.parquet.ParquetWriter(path, _COLUMNS) as writer:
        for part in parts:
            writer.write_table(pyarrow.parquet.read_table(part))


_FORMATS: dict[str, tuple[Callable, Callable]] = {  # how a part is written, and all joined
    ".csv": (_write_csv, _join_csv),
    ".jsonl": (_write_jsonl, _join_text),
    ".parquet": (_write_parquet, _join_parquet),
}
