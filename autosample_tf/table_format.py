"""Text tables of one pair a row: .csv, .tsv, and RecBole's .inter.

The first line that is not blank names the columns, or is a row already where the options name
them. A .inter file types them as well (`user_id:token`), and the type is left out of the name.

Ids are text and are kept as they are: `7` and `007` are two items. pyarrow parses; its
errors are turned into ours, which name the file's line.
"""

from __future__ import annotations

import csv
import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosample_tf.columns import Part, find_columns, in_a_line, is_header
from autosample_tf.compression import extension, open_bytes, open_text
from autosample_tf.errors import InputError, as_pyarrow_says, expected
from autosample_tf.table_options import TableOptions

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}  # by extension
log = logging.getLogger(__name__)
_LONGEST_LINE = 1 << 20  # characters of a header; pyarrow has as many bytes for a row


@dataclasses.dataclass(frozen=True)
class _Header:
    """How a table is laid out.

    Attributes:
      path: the file.
      delimiter: what parts the columns.
      quotes: whether a value may stand in double quotes.
      words: the columns as the header writes them.
      last_line: the number of the header's (last) line, the first being 1; 0: it has none.
    """

    path: Path
    delimiter: str
    quotes: bool
    words: tuple[str, ...]
    last_line: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, without RecBole's types."""
        return tuple(word.strip() if self.quotes else _untyped(word) for word in self.words)


def read_table(path: Path, options: TableOptions) -> Part:
    """Reads the columns that matter of a text table.

    Args:
      path: a .csv, .tsv or .inter file, maybe compressed; commas, semicolons, bars and tabs
        are told from its first line.
      options: name the columns.

    Raises:
      InputError: if the table is malformed, or a column is missing.
    """
    header = _read_header(path, options.columns)
    if not header.quotes:
        options = _with_untyped_columns(options)
    places = find_columns(header.columns, str(path), options)
    table = _read_columns(header, places)
    part = Part(
        columns={role: table[str(place)] for role, place in places.items()},
        names={role: header.columns[place] for role, place in places.items()},
        source=str(path),
        place=lambda row: _position(header, row),
    )
    _check_one_header(part, [header.words[places[role]] for role in ("user", "item")])
    return part


def _with_untyped_columns(options: TableOptions) -> TableOptions:
    named: dict[str, Any] = {
        name: _untyped(str(value))
        for name, value in options.chosen().items()
        if name.endswith("_column")
    }
    return dataclasses.replace(options, **named)


def _untyped(word: str) -> str:
    """The name of RecBole's `name:type`."""
    return word.strip().split(":")[0]


def _read_header(path: Path, named: str | None) -> _Header:
    """Names the columns, if they are not `named` already, and tells what parts them."""
    first = _first_line(path)
    if "\ufffd" in first or "\0" in first:
        raise expected(
            f"a header line in UTF-8 text in {path}",
            received="bytes that are not",
            remedy="Save the table as UTF-8.",
        )
    own = DELIMITERS[extension(path)]
    typed = extension(path) == ".inter"
    # The most frequent one; on a tie, and in .inter files, the extension's own.
    delimiter = own if typed else max((own, ",", "\t", ";", "|"), key=first.count)
    number, words = next(_rows(path, delimiter, quotes=not typed), (0, []))
    if not words:
        raise expected(
            f"a header line with the names of the columns in {path}",
            received="an empty file",
            remedy="Begin it with a line such as `user_id,item_id`.",
        )
    header = _Header(path, delimiter, not typed, tuple(words), number)
    if named is None:
        return header
    names = tuple(name.strip() for name in named.split(","))
    if header.columns == names or is_header(header.columns):
        raise expected(
            f"no header line in {path}, beside --columns",
            received=in_a_line(words),
            remedy="Leave --columns out; --user-column and the like name single ones.",
        )
    return dataclasses.replace(header, words=names, last_line=0)


def _first_line(path: Path) -> str:
    """The first line that is not blank; an empty one where there is none."""
    with open_text(path) as lines:
        while line := lines.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise _too_long(path)
            if line.strip():
                return line
    return ""


def _too_long(path: Path) -> InputError:
    return expected(
        f"rows of less than {_LONGEST_LINE:,} characters in {path}",
        received="a longer one",
        remedy="Check that it is a text table with line ends, and that its quotes are closed.",
    )


def _read_columns(header: _Header, places: dict[str, int]) -> pyarrow.Table:
    """The columns at these places as text, without the header; their places are their names."""
    import pyarrow

    types = {str(place): pyarrow.string() for place in places.values()}
    for role in ("user", "item"):  # a fraction of the text
        types[str(places[role])] = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    try:
        try:
            table, lines = _parse(header, types, use_threads=True)
        except pyarrow.ArrowInvalid:  # once more, because only one thread names an error's row
            table, lines = _parse(header, types, use_threads=False)
    except pyarrow.ArrowInvalid as error:
        raise _malformed(header, str(error)) from None
    if not table.num_rows:
        raise _no_rows(header)
    if lines > header.last_line + table.num_rows:
        _warn_of_long_quotes(header)  # or there are blank lines
    return table


class _Lines:
    """A stream that counts the line ends in what it has handed out."""

    closed = False

    def __init__(self, stream: pyarrow.NativeFile):
        self._stream, self.number = stream, 0

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self.number += part.count(b"\n")
        return part


def _warn_of_long_quotes(header: _Header) -> None:
    """Says which rows are of several lines: a quote that is never closed ends at the next one,
    rows later, and takes all between into one value."""
    ends = [
        number
        for number, row in _rows(header.path, header.delimiter, quotes=True)
        if number > header.last_line and any("\n" in value or "\r" in value for value in row)
    ]
    if ends:
        log.warning(
            "%d rows of %s are of several lines, within quotes; the first ends in line %d. If a "
            "quote was not meant to open a value, take it out: it hides the rows up to the next.",
            len(ends),
            header.path,
            ends[0],
        )


def _parse(
    header: _Header, types: dict[str, pyarrow.DataType], *, use_threads: bool
) -> tuple[pyarrow.Table, int]:
    """The columns, and how many line ends there are, not counted where none is within a value."""
    import pyarrow.csv as arrow_csv

    with open_bytes(header.path) as stream:
        lines = _Lines(stream)
        table = arrow_csv.read_csv(
            lines if header.quotes else stream,
            read_options=arrow_csv.ReadOptions(
                use_threads=use_threads,
                # Places, since a table may have two columns of one name.
                column_names=[str(place) for place in range(len(header.words))],
                skip_rows=header.last_line,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=header.delimiter,
                quote_char='"' if header.quotes else False,
                newlines_in_values=header.quotes,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(types), column_types=types
            ),
        )
    return table, lines.number


def _check_one_header(part: Part, words: list[str]) -> None:
    """Refuses a header that comes again, as in files that were put one after the other."""
    import pyarrow.compute as pc

    ids = [part.columns[role] for role in ("user", "item")]
    if not all(_holds(column, word) for column, word in zip(ids, words, strict=True)):
        return
    again = pc.and_(*(pc.equal(column, word) for column, word in zip(ids, words, strict=True)))
    if (row := pc.index(again, True).as_py()) >= 0:
        raise expected(
            f"the header once, in the first line, at {part.place(row)}",
            received="it again",
            remedy="Delete the line.",
        )


def _holds(column: pyarrow.ChunkedArray, word: str) -> bool:
    import pyarrow.compute as pc

    return any(pc.index(chunk.dictionary, word).as_py() >= 0 for chunk in column.chunks)


def _malformed(header: _Header, message: str) -> InputError:
    """Our error for pyarrow's, with the file's line where pyarrow names a row."""
    if "Could not skip initial" in message or "Empty CSV file" in message:
        return _no_rows(header)  # a header and nothing after it
    if "straddling object" in message:
        return _too_long(header.path)
    row = re.search(r"Row #(\d+): *", message)
    # pyarrow counts the lines that it skipped and, from there on, rows.
    where = _position(header, int(row[1]) - header.last_line - 1) if row else str(header.path)
    what = message[row.end() :] if row else message
    return expected(
        f"rows of {len(header.words)} columns in UTF-8 text at {where}",
        received=as_pyarrow_says(what),
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
    with open_text(path) as lines:
        rows = csv.reader(
            lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        )
        try:
            yield from ((rows.line_num, row) for row in rows if row)
        except csv.Error:  # a field that does not end
            raise _too_long(path) from None
