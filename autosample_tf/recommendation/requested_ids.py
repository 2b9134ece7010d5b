"""Original ids that a request names, in lists and files, looked up in a run's catalogue.

A file of ids has one a line. A file of pairs is one that `recommend` writes (.jsonl, .csv,
.parquet), or any table that a dataset could be read from.
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

from autosample_tf.errors import InputError, NoRowsError, expected
from autosample_tf.reading.compression import extension, open_text
from autosample_tf.reading.events import gather
from autosample_tf.reading.formats import read_part
from autosample_tf.reading.sources import EXTENSIONS
from autosample_tf.reading.table_options import DEFAULTS

Ids = str | os.PathLike[str] | Iterable[object]
log = logging.getLogger(__name__)


def places_of_ids(
    asked: Ids, catalogue: np.ndarray, kind: str, *, at_least_one: bool = True
) -> tuple[np.ndarray, int]:
    """The places [n] of ids in a catalogue, and how many ids it does not have.

    Spaces around an id are part of it only where the catalogue has it so.

    Args:
      asked: ids, each taken once, in this order; or the path of a file with one a line.
      catalogue: [size] str.
      kind: user or item, for messages.
      at_least_one: whether there is nothing to be done without any.

    Raises:
      InputError: if the catalogue has none of them, and one is needed, or the file is no text.
    """
    given = read_ids(Path(asked)) if isinstance(asked, str | os.PathLike) else map(as_id, asked)
    ids = pc.unique(pa.array(given, pa.string()))
    places = places_in(catalogue, ids)
    places = np.where(places < 0, places_in(catalogue, pc.utf8_trim_whitespace(ids)), places)
    strangers = ids.filter(pa.array(places < 0)).to_pylist()
    if at_least_one and len(strangers) == len(ids):
        raise expected(
            f"ids of the run's {len(catalogue):,} {kind}s, such as {str(catalogue[0])!r}",
            received=f"{_some(strangers)}, none of which it knows" if strangers else "no id",
            remedy="Give ids as the dataset has them.",
        )
    if strangers:
        log.warning("unknown %ss passed over: %d (%s)", kind, len(strangers), _some(strangers))
    known = places[places >= 0]
    return known[np.sort(np.unique(known, return_index=True)[1])], len(strangers)


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


def as_id(value: object) -> str:
    """An id as a dataset has it: a whole number without a point, whatever its type."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def read_ids(path: Path) -> list[str]:
    """A file's lines, blank ones left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise expected(
            "a list of ids, or a file with one a line",
            received=f"{str(path)!r}, where there is nothing",
            remedy="Check the path.",
        ) from None
    except UnicodeDecodeError as error:
        raise expected(
            f"UTF-8 text, one id a line, in {path}", received=error, remedy="Save it as UTF-8."
        ) from error
    return [line for line in text.split("\n") if line.strip()]


def has_pairs(path: Path) -> bool:
    """Whether a file is one of pairs, by its name."""
    return extension(path) in EXTENSIONS


def _read_pairs(path: Path) -> tuple[pa.Array, pa.Array]:
    """The columns of users and items, as text."""
    nothing = pa.array([], pa.string())
    if not path.stat().st_size:
        return nothing, nothing
    try:
        if extension(path) in (".jsonl", ".ndjson") and (lists := _read_lists(path)):
            return lists
        events = gather([read_part(path, DEFAULTS)])
    except NoRowsError:
        return nothing, nothing
    except (InputError, pa.ArrowException) as error:
        raise expected(
            f"pairs of users and items in {path}",
            received=str(error).partition("; received ")[2].partition(". ")[0],
            remedy="Call their columns user and item, as `recommend --output` does.",
        ) from error
    of_users, of_items = (pa.array(ids, pa.string()) for ids in (events.user_ids, events.item_ids))
    return of_users.take(pa.array(events.users)), of_items.take(pa.array(events.items))


def _read_lists(path: Path) -> tuple[pa.Array, pa.Array] | None:
    """Those of JSON lines that `recommend` wrote, a user's items in a list; None of others."""
    users: list[str] = []
    items: list[str] = []
    with open_text(path) as lines:
        for line in filter(str.strip, lines):
            try:
                row = json.loads(line)
            except ValueError:
                return None
            if not isinstance(row, dict) or not isinstance(row.get("items"), list):
                return None
            items += map(as_id, row["items"])
            users += [as_id(row.get("user"))] * len(row["items"])
    return pa.array(users, pa.string()), pa.array(items, pa.string())


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", …" if len(ids) > 3 else "")
