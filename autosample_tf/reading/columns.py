"""Which of a table's columns is which: named, or told by the names that are common.

The columns of a source come as pyarrow arrays under their roles: `user` and `item`, and,
where the source has them, `label`, `rating` and `time`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autosample_tf.errors import InputError, expected
from autosample_tf.reading.split_rules import parse_rule
from autosample_tf.reading.table_options import TableOptions

if TYPE_CHECKING:
    import pyarrow

# In lower case and without `_`, `-` and spaces.
_COMMON_NAMES = {
    "user": ("user", "userid", "uid", "userindex", "useridx", "reviewerid", "customerid",
             "visitorid"),
    "item": ("item", "itemid", "iid", "itemindex", "itemidx", "movieid", "productid", "bookid",
             "asin", "artistid", "trackid", "songid", "businessid", "locationid", "articleid",
             "animeid", "gameid", "videoid"),
    "label": (),
    "rating": ("rating", "ratings", "userrating", "score", "stars", "overall", "weight"),
    "time": ("timestamp", "time", "datetime", "date", "ts", "unixtime", "unixreviewtime",
             "eventtime", "createdat"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The columns of one file, or of one object in memory, as they stand there.

    Attributes:
      columns: [num_rows] each, by role; `user` and `item` are always there.
      names: what each of them is called in the source.
      source: what messages call the source.
      place: tells where a row is, the first being 0, for messages.
      long_rows: how many rows have a line end within a value.
    """

    columns: dict[str, pyarrow.ChunkedArray]
    names: dict[str, str]
    source: str
    place: Callable[[int], str]
    long_rows: int = 0

    @property
    def num_rows(self) -> int:
        return len(self.columns["user"])


def find_columns(columns: Sequence[str], source: str, options: TableOptions) -> dict[str, int]:
    """The place of the column of each role, the first being 0.

    A role that nothing depends on may be missing, or be left out because two columns could
    have it; `label` and `rating` may be the same column.

    Args:
      columns: all names, in their order; two may be the same.
      source: what messages call the table.
      options: names columns, and tells which roles are needed.

    Raises:
      InputError: if a column that is needed is not there once, or has two roles.
    """
    needed = needed_roles(options)
    places: dict[str, int] = {}
    for role, common in _COMMON_NAMES.items():
        wanted = getattr(options, f"{role}_column")
        found = _candidates(columns, wanted, common)
        if wanted is None and role not in ("user", "item"):  # ids may be named `date`, too
            found = [place for place in found if place not in places.values()]
        if len(found) == 1:
            places[role] = found[0]
        elif role in needed:
            raise _not_one(columns, source, role, wanted, len(found))
    _check_apart(columns, source, places)
    return places


def is_header(words: Sequence[str]) -> bool:
    """Whether common names of users and of items are among them, as no row has."""
    return all(_candidates(words, None, _COMMON_NAMES[role]) for role in ("user", "item"))


def are_names(texts: pyarrow.Array, role: str, own: str) -> pyarrow.Array:
    """[n] bool: whether texts are common names of a role's column, or its own name in a table."""
    import pyarrow
    import pyarrow.compute as pc

    bare = pc.utf8_ltrim(texts, "\ufeff")  # of files with a byte order mark, one after the other
    folded = pc.replace_substring(pc.ascii_lower(bare), "_", "")  # a pattern takes thrice as long
    common = pc.is_in(folded, pyarrow.array(_COMMON_NAMES[role]))
    return pc.or_(common, pc.equal(bare, own))


def in_a_line(words: Sequence[str]) -> str:
    """Words for a message, where a word in quotes may have had line ends."""
    return " ".join(", ".join(words).split())[:1000]


def needed_roles(options: TableOptions) -> set[str]:
    """The roles that the options depend on."""
    reasons = {
        "label": options.label_column is not None,
        "rating": options.rating_column is not None or options.min_rating is not None,
        "time": options.time_column is not None
        or options.since is not None
        or options.until is not None
        or parse_rule(options.split_by).needs_times,
    }
    return {"user", "item", *(role for role, holds in reasons.items() if holds)}


def _candidates(columns: Sequence[str], wanted: str | None, common: tuple[str, ...]) -> list[int]:
    """The places of the columns that have the wanted name or, with none, a common one."""
    if wanted is not None:
        return [place for place, column in enumerate(columns) if column == wanted]
    folded = [re.sub("[-_ ]", "", column.lower()) for column in columns]
    return [place for place, column in enumerate(folded) if column in common]


def _not_one(
    columns: Sequence[str], source: str, role: str, wanted: str | None, found: int
) -> InputError:
    kind = {"user": "user ids", "item": "item ids", "rating": "ratings", "time": "times"}
    named = f"named {wanted!r}" if wanted is not None else f"of {kind[role]}"
    remedy = f"Name it with --{role}-column ({role}_column=… in Python)."
    if any(re.fullmatch("[-+.0-9]+", column) for column in columns):
        remedy += " If these are a row of a file already, name them all: --columns user,item,…"
    return expected(
        f"one column {named} in {source}",
        received=f"{found or 'none'} among the columns {in_a_line(columns)}",
        remedy=remedy,
    )


def _check_apart(columns: Sequence[str], source: str, places: dict[str, int]) -> None:
    """No column but those of labels and ratings may be two things at once."""
    if places["user"] == places["item"]:
        raise expected(
            f"two different columns of {source} for users and items",
            received=f"{columns[places['user']]!r} for both",
            remedy="Name the other one with --user-column or --item-column (user_column=… or "
            "item_column=… in Python).",
        )
    for role in places.keys() - {"user", "item"}:
        for kind in ("user", "item"):
            if places[role] == places[kind]:
                raise expected(
                    f"a column of {source} for {role}s alone",
                    received=f"{columns[places[role]]!r}, the {kind} ids",
                    remedy=f"Name another one with --{role}-column ({role}_column=… in Python).",
                )
