"""Original ids that a request names, in lists and files, looked up in a run's catalogue.

A file of ids has one a line. A file of pairs is one that `recommend` writes (.jsonl, .csv,
.parquet), or has its columns `user` and `item`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from autosample_tf.errors import InputError, expected

PAIR_FILES = (".csv", ".jsonl", ".parquet")
_PAIR = ("user", "item")
Ids = str | os.PathLike[str] | Iterable[object]
log = logging.getLogger(__name__)


def places_of_ids(
    asked: Ids, catalogue: np.ndarray, kind: str, *, at_least_one: bool = True
) -> tuple[np.ndarray, int]:
    """The places [n] of ids in a catalogue, and how many ids it does not have.

    Args:
      asked: ids, each taken once, in this order; or the path of a file with one a line.
      catalogue: [size] str.
      kind: user or item, for messages.
      at_least_one: whether there is nothing to be done without any.

    Raises:
      InputError: if the catalogue has none of them, and one is needed, or the file is no text.
    """
    given = read_ids(Path(asked)) if isinstance(asked, str | os.PathLike) else map(str, asked)
    ids = pc.unique(pa.array(given, pa.string()))
    places = places_in(catalogue, ids)
    strangers = ids.filter(pa.array(places < 0)).to_pylist()
    if at_least_one and len(strangers) == len(ids):
        raise expected(
            f"ids of the run's {len(catalogue):,} {kind}s, such as {str(catalogue[0])!r}",
            received=f"{_some(strangers)}, none of which it knows" if strangers else "no id",
            remedy="Give ids as the dataset has them.",
        )
    if strangers:
        log.warning("unknown %ss left out: %d (%s)", kind, len(strangers), _some(strangers))
    return places[places >= 0], len(strangers)


def places_of_pairs(
    path: Path, user_ids: np.ndarray, item_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """The users [n] and items [n] of a file of pairs, and how many pairs had an unknown id.

    Raises:
      InputError: if the file is not as this module tells.
    """
    users, items = _read_pairs(path)
    user_places, item_places = places_in(user_ids, users), places_in(item_ids, items)
    known = (user_places >= 0) & (item_places >= 0)
    num_unknown = int(np.sum(~known))
    if num_unknown:
        log.warning("pairs of unknown ids passed over in %s: %d", path, num_unknown)
    return user_places[known], item_places[known], num_unknown


def places_in(catalogue: np.ndarray, ids: pa.Array) -> np.ndarray:
    """Each id's place [n] int64 in a catalogue; -1 where it is not there."""
    found = pc.index_in(ids, value_set=pa.array(catalogue, pa.string()))
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def read_ids(path: Path) -> list[str]:
    """A file's lines, blank ones left out; spaces belong to an id."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise expected(
            f"UTF-8 text, one id a line, in {path}", received=error, remedy="Save it as UTF-8."
        ) from error
    return [line for line in text.split("\n") if line.strip()]


def _read_pairs(path: Path) -> tuple[pa.Array, pa.Array]:
    """The columns of users and items."""
    nothing = pa.array([], pa.string())
    try:
        if not path.stat().st_size:
            return nothing, nothing
        if path.suffix.lower() == ".jsonl":
            return _read_lines(path)
        if path.suffix.lower() == ".parquet":
            table = pyarrow.parquet.read_table(path, columns=list(_PAIR))
        else:
            types = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(_PAIR, pa.string()), include_columns=list(_PAIR)
            )
            within_quotes = pyarrow.csv.ParseOptions(newlines_in_values=True)
            table = pyarrow.csv.read_csv(path, parse_options=within_quotes, convert_options=types)
        return tuple(table[name].combine_chunks().cast(pa.string()) for name in _PAIR)
    except (pa.ArrowException, KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"Expected the columns user and item in {path}; received {error}. "
            "Write it as `autosample-tf recommend --output` does."
        ) from error


def _read_lines(path: Path) -> tuple[pa.Array, pa.Array]:
    users: list[str] = []
    items: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for row in map(json.loads, filter(str.strip, file)):
            of_user = row["items"] if "items" in row else [row["item"]]
            items += map(str, of_user)
            users += [str(row["user"])] * len(of_user)
    return pa.array(users, pa.string()), pa.array(items, pa.string())


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", …" if len(ids) > 3 else "")
