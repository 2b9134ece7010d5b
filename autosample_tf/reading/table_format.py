"""Text tables of one pair a row: .csv, .tsv, and RecBole's .inter.

The first line that is not blank names the columns, or is a row already where the options name
them. A .inter file types them as well (`user_id:token`), and the type is left out of the name.

Ids are text, without the spaces around it: `7` and `007` are two items. pyarrow parses; its
errors are turned into ours, which name the file's line.
"""

from __future__ import annotations

import csv
import dataclasses
import re
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosample_tf.errors import InputError, NoRowsError, as_pyarrow_says, expected
from autosample_tf.reading.columns import Part, are_names, find_columns, in_a_line, is_header
from autosample_tf.reading.compression import extension, open_bytes, open_text
from autosample_tf.reading.table_options import TableOptions

if TYPE_CHECKING:
    import pyarrow

DELIMITERS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}  # by extension
_LONGEST_LINE = 1 << 20  # characters of a header; pyarrow has as many bytes for a row
_RELEASE_SECONDS = 1.0  # to wait for at most


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
      NoRowsError: if it has no row.
    """
    header = _read_header(path, options.columns)
    if not header.quotes:
        options = _with_untyped_columns(options)
    places = find_columns(header.columns, str(path), options)
    table, long_rows = _read_columns(header, places)
    columns = {role: table[str(place)] for role, place in places.items()}
    part = Part(
        columns=columns | {role: _trimmed(columns[role]) for role in ("user", "item")},
        names={role: header.columns[place] for role, place in places.items()},
        source=str(path),
        place=lambda row: _position(header, row),
        long_rows=long_rows,
    )
    _check_no_header(part, header, places)
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
    delimiter = own if typed else _delimiter(path, own, first, named)
    number, words = next(_rows(path, delimiter, quotes=not typed), (0, []))
    if not words:
        raise NoRowsError(
            expected(
                f"a header line with the names of the columns in {path}",
                received="an empty file",
                remedy="Begin it with a line such as `user_id,item_id`.",
            )
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


def _delimiter(path: Path, own: str, first: str, named: str | None) -> str:
    """What parts the values of the first line, the extension's `own` where it may be: what makes
    as many as there are names, else the most frequent."""
    possible = (own, ",", "\t", ";", "|")
    if named is not None:
        wanted = len(named.split(","))
        for each in possible:
            if len(next(_rows(path, each, quotes=True), (0, []))[1]) == wanted:
                return each
    return max(possible, key=first.count)


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


def _read_columns(header: _Header, places: dict[str, int]) -> tuple[pyarrow.Table, int]:
    """The columns at these places as text, without the header, their places being their names;
    and how many rows are of several lines."""
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
    is_longer = lines > header.last_line + table.num_rows
    return table, _count_long_rows(header) if is_longer else 0


class _Lines:
    """A stream that counts the lines in what it has handed out, some blank ones not."""

    closed = False

    def __init__(self, stream: pyarrow.NativeFile, header: _Header):
        self._stream, self.number = stream, 0
        self._last = b""
        self._skips_blank = header.last_line <= 1  # else the header stands below some

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self.number += not part and self._last not in (b"", b"\n", b"\r")  # a line without an end
        self.number -= self._last == b"\r" and part[:1] == b"\n"  # one end, in two parts
        self._last = part[-1:]
        returns = part.count(b"\r")
        self.number += part.count(b"\n")
        if returns:
            self.number += returns - part.count(b"\r\n")
        if self._skips_blank:
            self.number -= part.count(b"\n\n") + (part.count(b"\n\r\n") if returns else 0)
        return part


def _count_long_rows(header: _Header) -> int:
    """How many rows are of several lines: a quote that is never closed ends at the next one,
    rows later, and takes all between into one value."""
    return sum(
        number > header.last_line and any("\n" in value or "\r" in value for value in row)
        for number, row in _rows(header.path, header.delimiter, quotes=True)
    )


def _parse(
    header: _Header, types: dict[str, pyarrow.DataType], *, use_threads: bool
) -> tuple[pyarrow.Table, int]:
    """The columns, and how many lines there are, not counted where no value has a line end."""
    import pyarrow.csv as arrow_csv

    with open_bytes(header.path) as stream:
        lines = _Lines(stream, header)
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
        number, counted = lines.number, weakref.ref(lines)
        del lines
        _wait_for_release(counted)
    return table, number


def _wait_for_release(read: weakref.ref[_Lines]) -> None:
    """Waits until pyarrow's reading thread has let go of what it read from, which is soon.

    To let go it needs Python; where that has ended by then, it ends the process with an abort.
    """
    until = time.monotonic() + _RELEASE_SECONDS
    while read() is not None and time.monotonic() < until:
        time.sleep(0.0005)


def _trimmed(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Ids without the spaces around them, which no one sees in a table."""
    import pyarrow
    import pyarrow.compute as pc

    def has_spaces(texts: pyarrow.Array) -> bool:
        return pc.any(pc.not_equal(pc.utf8_trim_whitespace(texts), texts)).as_py()

    if not any(has_spaces(chunk.dictionary) for chunk in column.chunks):
        return column
    return pc.utf8_trim_whitespace(column.cast(pyarrow.string())).dictionary_encode()


def _check_no_header(part: Part, header: _Header, places: dict[str, int]) -> None:
    """Refuses a header among the rows: it comes again in files that were put one after the other,
    and may stand in the first line though the columns were named."""
    row = _header_among(part, {role: header.words[at].strip() for role, at in places.items()})
    if row < 0 and header.last_line == 0 and _begins_with_words(part):
        row = 0
    if row >= 0:
        ids = [part.columns[role][row].as_py() for role in ("user", "item")]
        once = "the header once, in the first line" if header.last_line else "no header"
        raise expected(
            f"{once}, at {part.place(row)}",
            received=f"{in_a_line(ids)} as a row",
            remedy="Delete the line.",
        )


def _header_among(part: Part, words: dict[str, str]) -> int:
    """The first row whose user and item are names of such columns, or the words given; -1: none."""
    import pyarrow
    import pyarrow.compute as pc

    masks = []
    for role in ("user", "item"):
        chunks = [
            pc.take(are_names(chunk.dictionary, role, words[role]), chunk.indices)
            for chunk in part.columns[role].chunks
        ]
        masks.append(pyarrow.chunked_array(chunks, pyarrow.bool_()))
        if not pc.any(masks[-1]).as_py():
            return -1
    return pc.index(pc.and_(*masks), True).as_py()


def _begins_with_words(part: Part) -> bool:
    """Whether the first row alone has a word where numbers or times should be."""
    for role in part.columns.keys() - {"user", "item"}:
        first, *others = (value or "" for value in part.columns[role].slice(0, 3).to_pylist())
        if others and not re.search("[0-9]", first) and all(re.search("[0-9]", o) for o in others):
            return True
    return False


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


def _no_rows(header: _Header) -> NoRowsError:
    return NoRowsError(
        expected(
            f"rows of pairs below the header of {header.path}",
            received="none",
            remedy="Give a table with a row for each pair.",
        )
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
    csv.field_size_limit(_LONGEST_LINE)
    with open_text(path) as lines:
        rows = csv.reader(
            lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        )
        try:
            yield from ((rows.line_num, row) for row in rows if row)
        except csv.Error:  # a field that does not end
            raise _too_long(path) from None
