"""Columns of any type as numbers, and as moments in Unix seconds. pyarrow does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autosample_tf.errors import InputError, expected
from autosample_tf.reading.columns import Part
from autosample_tf.reading.instants import UNITS, unit_of

if TYPE_CHECKING:
    import pyarrow

# Text with a time of day and a zone behind it; digits of a second beyond a millionth.
_ZONED = "[0-9]:[0-9]{2}.*([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$"
_BELOW_MICROSECONDS = "([.][0-9]{6})[0-9]+"

_Convert = Callable[["pyarrow.ChunkedArray"], np.ndarray]


def numbers(parts: Sequence[Part], role: str) -> np.ndarray:
    """[num_rows] float64: a column of numbers, all of them finite.

    Raises:
      InputError: at the first row without one, which the message names.
    """
    return _converted(parts, role, _as_numbers, "a number")


def numbers_if_any(parts: Sequence[Part], role: str) -> np.ndarray | None:
    """[num_rows] float64: a column of numbers, NaN where a row is empty; None: not all numbers."""
    return _converted_if_any(parts, role, _as_numbers)


def times(parts: Sequence[Part], role: str = "time") -> np.ndarray:
    """[num_rows] float64: a column of times in Unix seconds.

    Times are dates, text in ISO 8601 (UTC where it names no zone), or numbers since 1970: in
    seconds, milliseconds, microseconds or nanoseconds, which their size tells; not years or days
    in digits alone (`2020`, `20200131`), which would be seconds of 1970.

    Raises:
      InputError: at the first row without one, or in another unit than the others.
    """
    values = _converted(parts, role, _as_times, "a time (Unix or ISO 8601)")
    return _in_seconds(values, parts, role)


def times_if_any(parts: Sequence[Part], role: str = "time") -> np.ndarray | None:
    """As `times`, NaN where a row is empty; None: no times, or not all of one unit."""
    values = _converted_if_any(parts, role, _as_times)
    if values is None or not np.isfinite(values).any():
        return None
    try:
        return _in_seconds(values, parts, role)
    except InputError:
        return None


def place_of(parts: Sequence[Part], row: int) -> str:
    """Where a row of all parts is, for messages."""
    for part in parts:
        if row < part.num_rows:
            return part.place(row)
        row -= part.num_rows
    raise IndexError(row)


def _converted(parts: Sequence[Part], role: str, convert: _Convert, wanted: str) -> np.ndarray:
    values = []
    for part in parts:
        column = part.columns[role]
        converted = _all_converted(column, convert)
        if converted is None:
            row = _first_failing(column, convert)
            raise expected(
                f"{wanted} in column {part.names[role]!r} at {part.place(row)}",
                received=repr(column[row].as_py()),
                remedy=f"Correct it, delete the row, or name another column with --{role}-column.",
            )
        values.append(converted)
    return np.concatenate(values)


def _all_converted(column: pyarrow.ChunkedArray, convert: _Convert) -> np.ndarray | None:
    """The rows' values, or None where one has none."""
    import pyarrow

    try:
        converted = convert(column)
    except pyarrow.ArrowException:
        return None
    return converted if np.isfinite(converted).all() else None


def _converted_if_any(parts: Sequence[Part], role: str, convert: _Convert) -> np.ndarray | None:
    import pyarrow

    if not all(role in part.columns for part in parts):
        return None
    try:
        return np.concatenate([convert(part.columns[role]) for part in parts])
    except pyarrow.ArrowException:
        return None


def _as_numbers(column: pyarrow.ChunkedArray) -> np.ndarray:
    import pyarrow

    return _floats(_cast(column, pyarrow.float64()))


def _as_times(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Numbers as they are, and everything else in Unix seconds."""
    import pyarrow

    if isinstance(column.type, pyarrow.BaseExtensionType):
        raise pyarrow.ArrowInvalid("no time")  # pandas' periods count months, or whatever
    if pyarrow.types.is_temporal(column.type):
        return _seconds(column)
    try:
        return _as_numbers(column)
    except pyarrow.ArrowInvalid:
        return _seconds_of_text(column)


def _seconds_of_text(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Unix seconds of ISO 8601, UTC where it names no zone; NaN where it is null."""
    import pyarrow
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(_cast(column, pyarrow.string()))
    text = pc.replace_substring_regex(text, _BELOW_MICROSECONDS, r"\1")
    is_zoned = pc.match_substring_regex(text, _ZONED)
    zoned = _cast(pc.if_else(is_zoned, text, None), pyarrow.timestamp("us", "UTC"))
    others = _cast(pc.if_else(is_zoned, None, text), pyarrow.timestamp("us"))
    return np.fmax(_seconds(zoned), _seconds(others))  # of which one is NaN


def _seconds(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Unix seconds of dates and times."""
    import pyarrow

    moments = column.cast(pyarrow.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    return _floats(moments.cast(pyarrow.int64()).cast(pyarrow.float64(), safe=False)) / 1e6


def _cast(column: pyarrow.ChunkedArray, wanted: pyarrow.DataType) -> pyarrow.ChunkedArray:
    """A cast to which spaces around text do not matter, and no text is null."""
    import pyarrow
    import pyarrow.compute as pc

    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pyarrow.types.is_string_view(column.type):
        column = column.cast(pyarrow.large_string())
    try:
        return column.cast(wanted)
    except pyarrow.ArrowInvalid:
        if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)):
            raise
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed).cast(wanted)


def _floats(column: pyarrow.ChunkedArray) -> np.ndarray:
    """[num_rows] float64, NaN for what is null."""
    return column.to_numpy().astype(np.float64, copy=False)


def _first_failing(column: pyarrow.ChunkedArray, convert: _Convert) -> int:
    """The first row up to which not all can be converted, found by halving."""
    first, last = 0, len(column)
    while last - first > 1:
        middle = (first + last) // 2
        if _all_converted(column.slice(0, middle), convert) is None:
            last = middle
        else:
            first = middle
    return first


def _in_seconds(values: np.ndarray, parts: Sequence[Part], role: str) -> np.ndarray:
    """Unix seconds of Unix time in whichever unit its largest value must be in; of dates, which
    are in seconds already, as they are."""
    is_unix = np.concatenate(
        [np.full(part.num_rows, _holds_numbers(part.columns[role])) for part in parts]
    )
    numbers = np.where(is_unix, values, 0.0)
    given = numbers[numbers != 0]
    if _are_dates(given[:1000]) and _are_dates(given):  # few tell that most are none
        row = int(np.argmax(numbers != 0))
        raise expected(
            f"Unix times or ISO 8601 in column {parts[0].names[role]!r} at {place_of(parts, row)}",
            received=f"{numbers[row]:.0f}, as all are: dates in digits alone",
            remedy="Write them as 2020-01-31.",
        )
    sizes = np.abs(numbers)
    unit = unit_of(np.nanmax(sizes, initial=0))
    if unit:
        # 0 stands for no time often enough, and is the same in any unit.
        is_smaller = (sizes > 0) & (sizes < UNITS[unit - 1][0])
        if is_smaller.any():
            raise _two_units(numbers, is_smaller, parts, role)
    return np.where(is_unix, values / UNITS[unit][1], values)


def _holds_numbers(column: pyarrow.ChunkedArray) -> bool:
    """Whether times are numbers, of a column in which all are, or none."""
    import pyarrow

    if pyarrow.types.is_temporal(column.type):
        return False
    try:
        _as_numbers(column.drop_null().slice(0, 1))
    except pyarrow.ArrowInvalid:
        return False
    return True


def _are_dates(values: np.ndarray) -> bool:
    """Whether numbers read as years, as days (20200131) or as moments (20200131120000), all of
    them; as Unix time they would be of 1970 and of the year 2600."""
    values = values[np.isfinite(values)]
    if not len(values) or (values != np.trunc(values)).any() or values.min() < 0:
        return False
    whole = values.astype(np.int64)
    times = [whole // 10**4 % 100 < 24, whole // 100 % 100 < 60, whole % 100 < 60]
    return bool(
        _are_years(whole)
        or _are_days(whole)
        or (_are_days(whole // 10**6) and np.logical_and.reduce(times).all())
    )


def _are_years(whole: np.ndarray) -> bool:
    return bool(((whole >= 1900) & (whole < 2100)).all())


def _are_days(whole: np.ndarray) -> bool:
    months, days = whole // 100 % 100, whole % 100
    is_day = (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    return _are_years(whole // 10**4) and bool(is_day.all())


def _two_units(
    values: np.ndarray, is_smaller: np.ndarray, parts: Sequence[Part], role: str
) -> InputError:
    """Names the first row of the unit that fewer rows are in."""
    is_odd = is_smaller if 2 * is_smaller.sum() < len(values) else ~is_smaller & (values != 0)
    row = int(np.argmax(is_odd))
    return expected(
        f"Unix times of one unit in column {parts[0].names[role]!r} at {place_of(parts, row)}",
        received=f"{values[row]:.0f}, in another unit than most",
        remedy="Write all in seconds, or all in milliseconds, or name another column with "
        f"--{role}-column.",
    )
