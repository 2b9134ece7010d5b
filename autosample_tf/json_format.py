"""JSON lines: one object a line, whose fields are the columns. .jsonl and .ndjson.

pyarrow parses; where it fails, Python reads the lines again to name the one that is wrong.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosample_tf.columns import Part, find_columns
from autosample_tf.compression import open_bytes, open_text
from autosample_tf.errors import InputError, as_pyarrow_says, expected
from autosample_tf.table_options import TableOptions

if TYPE_CHECKING:
    import pyarrow

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD = 100  # lines
_LONGEST_LINE = 1 << 20  # characters


def read_json_lines(path: Path, options: TableOptions) -> Part:
    """Reads the fields that matter of JSON lines.

    The first lines tell the fields and their types; any line may lack those that are not ids.

    Args:
      path: a .jsonl or .ndjson file, maybe compressed.
      options: name the fields.

    Raises:
      InputError: at the first line that is malformed, or if a field is missing.
    """
    import pyarrow

    head = [values for _, values in itertools.islice(_lines(path), _HEAD)]
    if not head:
        raise expected(
            f"a JSON object on each line of {path}",
            received="an empty file",
            remedy='Write lines such as {"user": 1, "item": 2}.',
        )
    fields = list(dict.fromkeys(name for values in head for name in values))
    names = {role: fields[at] for role, at in find_columns(fields, str(path), options).items()}
    kinds = {
        name: _kind([values[name] for values in head if values.get(name) is not None], role)
        for role, name in names.items()
    }
    try:
        table = _parse(path, kinds)
    except pyarrow.ArrowException as error:
        raise _malformed(path, kinds, str(error)) from None
    return Part(
        columns={role: table[name] for role, name in names.items()},
        names=names,
        source=str(path),
        place=lambda row: _place(path, row),
    )


def _kind(values: list[Any], role: str) -> str:
    """What a field's values are, as the first of them is; an id's may be whole numbers."""
    if not values or isinstance(values[0], bool) or not isinstance(values[0], (int, float)):
        return "text"
    is_whole = role in ("user", "item") and isinstance(values[0], int)
    return "whole number" if is_whole else "number"


_PYTHON_TYPES: dict[str, Any] = {"whole number": int, "number": (int, float), "text": str}


def _parse(path: Path, kinds: dict[str, str]) -> pyarrow.Table:
    import pyarrow
    import pyarrow.json as arrow_json

    types = {
        "whole number": pyarrow.int64(),
        "number": pyarrow.float64(),
        "text": pyarrow.string(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    has_mark = _begins_with_mark(path)
    with open_bytes(path) as stream:
        if has_mark:
            stream.read(len(_BYTE_ORDER_MARK))
        return arrow_json.read_json(
            stream,
            parse_options=arrow_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )


def _begins_with_mark(path: Path) -> bool:
    with open_bytes(path) as stream:
        return stream.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK


def _malformed(path: Path, kinds: dict[str, str], message: str) -> InputError:
    """The error for the first line that pyarrow cannot have read."""
    for number, values in _lines(path):
        for name, kind in kinds.items():
            value = values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, _PYTHON_TYPES[kind]):
                return expected(
                    f"a {kind} as {name!r}, as in the lines before, at {path}:{number}",
                    received=json.dumps(value)[:100],
                    remedy="Write all of one kind.",
                )
    return expected(
        f"JSON lines in {path}",
        received=as_pyarrow_says(message),
        remedy="Correct them.",
    )


def _place(path: Path, row: int) -> str:
    numbers = (number for number, _ in _lines(path))
    return f"{path}:{next((number for at, number in enumerate(numbers) if at == row), '?')}"


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the lines that are not blank, each with its line's number.

    Raises:
      InputError: at a line that is no JSON object.
    """
    with open_text(path) as lines:
        number = 0
        while line := lines.readline(_LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict):
                raise expected(
                    f"a JSON object at {path}:{number}",
                    received=repr(line.strip()[:60]),
                    remedy='Write a line such as {"user": 1, "item": 2}, of less than '
                    f"{_LONGEST_LINE:,} characters, in UTF-8.",
                )
            yield number, values
