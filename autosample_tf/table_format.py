"""Tables of one pair a row: .csv, .tsv, and RecBole's .inter.

The first line that is not blank names the columns. A .inter file types them as well
(`user_id:token`), and the type is left out of the name. Every row is a positive, whatever
its rating, unless a column of labels is named: rows below the least label of a positive are
then negatives that the data gives (dislikes, impressions without a click).

Ids are text and are kept as they are: `7` and `007` are two items. pyarrow parses; its
errors are turned into ours, which name the file's line.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autosample_tf.errors import InputError, expected
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.splits import hold_out

if TYPE_CHECKING:
    import pyarrow

# Names of columns, in lower case and without `_`, `-` and spaces.
_USER_COLUMNS = ("user", "userid", "uid", "userindex", "useridx", "reviewerid", "customerid")
_ITEM_COLUMNS = (
    *("item", "itemid", "iid", "itemindex", "itemidx", "movieid", "productid", "bookid"),
    *("asin", "artistid", "trackid", "songid", "businessid", "locationid", "articleid"),
)
_POSITIVE_FROM = 1.0  # of clicks, where 0 is an impression
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}


@dataclasses.dataclass(frozen=True)
class _Header:
    """How a table is laid out.

    Attributes:
      path: the file.
      delimiter: what parts the columns.
      quotes: whether a value may stand in double quotes.
      columns: the names, without RecBole's types.
      last_line: the number of the header's (last) line, the first being 1.
    """

    path: Path
    delimiter: str
    quotes: bool
    columns: tuple[str, ...]
    last_line: int


def read_table(
    path: Path,
    *,
    name: str,
    user_column: str | None = None,
    item_column: str | None = None,
    label_column: str | None = None,
    positive_from: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Reads a table of pairs and holds a share of each user's out as its test split.

    The catalogue is every id of the table, those that only negatives have among them (an
    item that was shown can be ranked): in ascending order where all are integers, else by
    code point. Rows that repeat a pair are merged and counted in the dataset's notes.

    A pair with labels on both sides is a positive, and is counted in the notes. It stays
    among the given negatives too: training masks the positives that it trains on, and to
    take out those that are held out would tell training which ones they are.

    Args:
      path: a .csv, .tsv or .inter file; commas, semicolons and tabs are told from its header.
      name: what to call the dataset.
      user_column: the column of users; None finds it by a common name.
      item_column: the column of items; None finds it by a common name.
      label_column: the column of numbers that tells positives from given negatives; None:
        every row is a positive.
      positive_from: the least label of a positive; None: 1.
      test_fraction: the share of each user's positives to test on, in (0, 1).
      seed: chooses the pairs to test on.

    Raises:
      InputError: if the table is malformed, a column or an id is missing, a label is no
        number, or no user has three positives.
    """
    header = _read_header(path)
    places = _find_columns(header, user_column, item_column, label_column)
    columns = _read_columns(header, places)
    (user_ids, users), (item_ids, items) = (_codes(header, column) for column in columns[:2])
    positive = np.ones(len(users), bool)
    if label_column is not None:
        least = _POSITIVE_FROM if positive_from is None else positive_from
        positive = _labels(header, places[2], columns[2], least) >= least
    pairs, negatives = (
        Interactions.from_pairs(
            users[rows], items[rows], num_users=len(user_ids), num_items=len(item_ids)
        )
        for rows in (positive, ~positive)
    )
    train, test = hold_out(pairs, test_fraction, seed=seed)
    notes = {
        "duplicate_pairs": len(users) - pairs.num_pairs - negatives.num_pairs,
        "pairs_of_both_labels": int(pairs.contains(negatives.users, negatives.items).sum()),
    }
    given = negatives if negatives.num_pairs else None
    return Dataset(name, train, test, user_ids, item_ids, given=given, notes=notes)


def _read_header(path: Path) -> _Header:
    """Names the columns and tells what parts them."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    if "\ufffd" in first or "\0" in first:
        raise expected(
            f"a header line in UTF-8 text in {path}",
            received="bytes that are not",
            remedy="Save the table as UTF-8.",
        )
    own = _DELIMITERS[path.suffix.lower()]
    typed = path.suffix.lower() == ".inter"
    # The most frequent one; on a tie, and in .inter files, the extension's own.
    delimiter = own if typed else max((own, ",", "\t", ";"), key=first.count)
    number, names = next(_rows(path, delimiter, quotes=not typed), (0, []))
    if not names:
        raise expected(
            f"a header line with the names of the columns in {path}",
            received="an empty file",
            remedy="Begin it with a line such as `user_id,item_id`.",
        )
    columns = [column.strip().split(":")[0] if typed else column.strip() for column in names]
    return _Header(path, delimiter, not typed, tuple(columns), number)


def _find_columns(
    header: _Header, user_column: str | None, item_column: str | None, label_column: str | None
) -> tuple[int, ...]:
    """The places of the user column, the item column and, if one is named, the labels'."""
    user = _find_column(header, "user", user_column, _USER_COLUMNS)
    item = _find_column(header, "item", item_column, _ITEM_COLUMNS)
    if user == item:
        raise expected(
            f"two different columns of {header.path} for users and items",
            received=f"{header.columns[user]!r} for both",
            remedy="Name the other one with user_column or item_column.",
        )
    if label_column is None:
        return user, item
    label = _find_column(header, "label", label_column, ())
    if label in (user, item):
        raise expected(
            f"a column of {header.path} for labels alone",
            received=f"{header.columns[label]!r}, the {'user' if label == user else 'item'} ids",
            remedy="Name another one with label_column.",
        )
    return user, item, label


def _find_column(header: _Header, kind: str, wanted: str | None, common: tuple[str, ...]) -> int:
    """The place of the one column that has the wanted name or, with none, a common one."""
    if wanted is None:
        folded = [re.sub("[-_ ]", "", column.lower()) for column in header.columns]
        places = [place for place, column in enumerate(folded) if column in common]
    else:
        names = (wanted, wanted.split(":")[0]) if not header.quotes else (wanted,)
        places = [place for place, column in enumerate(header.columns) if column in names]
    if len(places) == 1:
        return places[0]
    named = f"named {wanted!r}" if wanted is not None else f"of {kind} ids"
    raise expected(
        f"one column {named} in {header.path}",
        received=f"{len(places) or 'none'} among the columns {', '.join(header.columns)}",
        remedy=f"Name it with {kind}_column.",
    )


def _read_columns(header: _Header, places: tuple[int, ...]) -> list[pyarrow.Array]:
    """The columns at these places as text, without the header."""
    import pyarrow
    import pyarrow.csv as arrow_csv

    # Columns go by their place, since a table may have two of one name. One thread, because
    # pyarrow does not name an error's row otherwise.
    names = [str(place) for place in range(len(header.columns))]
    wanted = [str(place) for place in places]
    try:
        table = arrow_csv.read_csv(
            header.path,
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=names, skip_rows=header.last_line
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=header.delimiter,
                quote_char='"' if header.quotes else False,
                newlines_in_values=header.quotes,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pyarrow.large_string()),
            ),
        )
    except pyarrow.ArrowInvalid as error:
        raise _malformed(header, str(error)) from None
    if not table.num_rows:
        raise _no_rows(header)
    return [table[name].combine_chunks() for name in wanted]


def _codes(header: _Header, column: pyarrow.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column's ids in the catalogue's order, [num_ids] str, and each row's place there."""
    encoded = column.dictionary_encode()
    ids = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    for code, text in enumerate(ids):
        if not text.strip():
            raise expected(
                f"an id in every row of {_position(header, int(np.argmax(codes == code)))}",
                received="an empty one",
                remedy="Fill it in or delete the row.",
            )
    ordered = sorted(ids, key=_numeric if all(map(_is_integer, ids)) else None)
    places = {text: place for place, text in enumerate(ordered)}
    renumbered = np.array([places[text] for text in ids], np.int64)
    return np.array(ordered, np.str_), renumbered[codes]


def _labels(header: _Header, place: int, column: pyarrow.Array, least: float) -> np.ndarray:
    """[num_rows] float64: the labels, of which one at least is a positive's."""
    encoded = column.dictionary_encode()
    texts, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    values, name = np.array([_number(text) for text in texts]), header.columns[place]
    if not np.isfinite(values).all():
        wrong = int(np.argmin(np.isfinite(values)))
        raise expected(
            f"a number in column {name!r} at {_position(header, int(np.argmax(codes == wrong)))}",
            received=repr(texts[wrong]),
            remedy="Correct it, delete the row, or name another column with --label-column.",
        )
    if not (values >= least).any():
        raise expected(
            f"a label of at least {least:g}, a positive's, in column {name!r} of {header.path}",
            received=f"at most {values.max():g}",
            remedy="Lower --positive-from, or name another column with --label-column.",
        )
    return values[codes]


def _number(text: str) -> float:
    """The text's value; what is no number is NaN, which no label may be either."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def _is_integer(text: str) -> bool:
    return re.fullmatch("-?[0-9]{1,100}", text) is not None


def _numeric(text: str) -> tuple[int, str]:
    """Orders integers by value; `7` and `007`, which are two ids, by their text."""
    return int(text), text


def _malformed(header: _Header, message: str) -> InputError:
    """Our error for pyarrow's, with the file's line where pyarrow names a row."""
    if "Could not skip initial" in message:  # a header and no line end after it
        return _no_rows(header)
    row = re.search(r"Row #(\d+): *", message)
    # pyarrow counts the lines that it skipped and, from there on, rows.
    where = _position(header, int(row[1]) - header.last_line - 1) if row else str(header.path)
    what = message[row.end() :] if row else message
    return expected(
        f"rows of {len(header.columns)} columns in UTF-8 text at {where}",
        received=f"what pyarrow calls: {' '.join(what.split())[:200]}",
        remedy="Correct the line.",
    )


def _no_rows(header: _Header) -> InputError:
    return expected(
        f"rows of pairs below the header of {header.path}",
        received="none",
        remedy="Give a table with a row for each pair.",
    )


def _position(header: _Header, row: int) -> str:
    """`file:line` of a row, the first below the header being 0."""
    rows = _rows(header.path, header.delimiter, quotes=header.quotes)
    lines = (number for number, _ in rows if number > header.last_line)
    return f"{header.path}:{next((line for at, line in enumerate(lines) if at == row), '?')}"


def _rows(path: Path, delimiter: str, *, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of its last line.

    Slow next to pyarrow: for the header, and to find the line that an error is about.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.reader(
            lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        )
        yield from ((rows.line_num, row) for row in rows if row)
