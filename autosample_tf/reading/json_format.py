"""JSON lines: one object a line, whose fields are the columns. .jsonl and .ndjson.

pyarrow parses; where it fails, Python reads the lines again to name the one that is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosample_tf.errors import InputError, NoRowsError, as_pyarrow_says, expected
from autosample_tf.reading.columns import Part, find_columns, needed_roles
from autosample_tf.reading.compression import open_bytes, open_text
from autosample_tf.reading.table_options import TableOptions

if TYPE_CHECKING:
    import pyarrow

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD = 100  # lines
_LONGEST_LINE = 1 << 20  # characters


def read_json_lines(path: Path, options: TableOptions) -> Part:
    """Reads the fields that matter of JSON lines.

    The first lines tell the fields and their types, and as many more as it takes until what is
    needed has a value; any line may lack those that are not ids. What nothing depends on is left
    out where it is not of one kind.

    Args:
      path: a .jsonl or .ndjson file, maybe compressed.
      options: name the fields.

    Raises:
      InputError: at the first line that is malformed, or if a field is missing.
      NoRowsError: if there is no line.
    """
    first = _first_values(path, options)
    if not first:
        raise NoRowsError(
            expected(
                f"a JSON object on each line of {path}",
                received="an empty file",
                remedy='Write lines such as {"user": 1, "item": 2}.',
            )
        )
    fields = list(first)
    names = {role: fields[at] for role, at in find_columns(fields, str(path), options).items()}
    kinds = {name: _kind(first[name], role) for role, name in names.items()}
    table, names = _parse_what_can_be(path, names, kinds, needed_roles(options))
    return Part(
        columns={role: table[name] for role, name in names.items()},
        names=names,
        source=str(path),
        place=lambda row: _place(path, row),
    )


def _first_values(path: Path, options: TableOptions) -> dict[str, Any]:
    """The first value of each field, None where there is none in the lines that were looked at."""
    first: dict[str, Any] = {}
    is_enough = False
    for place, (_, values) in enumerate(_lines(path)):
        if place >= _HEAD and is_enough:
            break
        fresh = {
            name: value
            for name, value in values.items()
            if name not in first or (first[name] is None and value is not None)
        }
        first |= fresh
        if place >= _HEAD - 1 and (fresh or place == _HEAD - 1):
            is_enough = _has_what_is_needed(first, path, options)
    return first


def _has_what_is_needed(first: dict[str, Any], path: Path, options: TableOptions) -> bool:
    fields = list(first)
    try:
        places = find_columns(fields, str(path), options)
    except InputError:
        return False
    return all(first[fields[places[role]]] is not None for role in needed_roles(options))


def _kind(value: Any, role: str) -> str:
    """What a field's values are, as the first of them is; an id's may be whole numbers."""
    if isinstance(value, bool):
        return "boolean"
    if not isinstance(value, (int, float)):
        return "text"
    return "whole number" if role in ("user", "item") and isinstance(value, int) else "number"


_PYTHON_TYPES: dict[str, Any] = {
    "whole number": int, "number": (int, float), "text": str, "boolean": bool,
}  # fmt: skip


def _parse_what_can_be(
    path: Path, names: dict[str, str], kinds: dict[str, str], needed: set[str]
) -> tuple[pyarrow.Table, dict[str, str]]:
    """The table, and the fields by role, without what is not needed and not of one kind."""
    import pyarrow

    while True:
        try:
            table = _parse(path, {name: kinds[name] for name in names.values()})
            for role in ("user", "item"):
                table[names[role]].validate(full=True)  # that its bytes are UTF-8
        except pyarrow.ArrowException as error:
            wrong, told = _malformed(path, {n: kinds[n] for n in names.values()}, str(error))
            left = {role: name for role, name in names.items() if name != wrong or role in needed}
            if left == names:
                raise told from None
            names = left
        else:
            return table, names


def _parse(path: Path, kinds: dict[str, str]) -> pyarrow.Table:
    import pyarrow
    import pyarrow.json as arrow_json

    types = {
        "whole number": pyarrow.int64(),
        "number": pyarrow.float64(),
        "text": pyarrow.string(),
        "boolean": pyarrow.bool_(),
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


def _malformed(path: Path, kinds: dict[str, str], message: str) -> tuple[str | None, InputError]:
    """The field and the error of the first line that pyarrow cannot have read."""
    for number, values in _lines(path):
        for name, kind in kinds.items():
            if (wrong := _wrong(values.get(name), kind)) is not None:
                return name, expected(
                    f"a {wrong} as {name!r}, as in the lines before, at {path}:{number}",
                    received=json.dumps(values[name], ensure_ascii=False)[:100],
                    remedy="Write all of one kind.",
                )
    told = expected(
        f"JSON lines in {path}",
        received=as_pyarrow_says(message),
        remedy="Correct them.",
    )
    return None, told


def _wrong(value: Any, kind: str) -> str | None:
    """What a value should be, if it is something else."""
    if value is None:
        return None
    if isinstance(value, bool) != (kind == "boolean") or not isinstance(value, _PYTHON_TYPES[kind]):
        return kind
    if kind == "whole number" and not -(2**63) <= value < 2**63:
        return "whole number of 64 bits"
    if kind == "text" and "\ufffd" in value:
        return "text in UTF-8"
    return None


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
