"""Ids of any type as text in one order, and each row's place among them.

In ascending order where all are integers, else by code point: the order of a catalogue
depends on which ids there are, and on nothing else. pyarrow does the work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow

LONGEST_ID = 1024  # characters; ids are kept as wide as the longest of them
_INT64_INTEGER = "^-?[0-9]{1,18}$"
_INTEGER = "^-?[0-9]{1,100}$"


@dataclasses.dataclass(frozen=True)
class Unusable:
    """The first id that cannot be used.

    Attributes:
      row: where it stands, the first row being 0.
      reason: what it is instead of an id.
    """

    row: int
    reason: str


def encode(columns: Sequence[pyarrow.ChunkedArray]) -> tuple[np.ndarray, np.ndarray] | Unusable:
    """The different ids of some columns, and the place of each row's among them.

    Args:
      columns: one after the other, of any types that can be cast to text.

    Returns:
      [num_ids] str and [num_rows] int32; or what keeps them from being ids.

    Raises:
      pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError: for a type without a text.
    """
    import pyarrow

    columns = [_plain(column) for column in columns]
    if (inexact := _inexact(columns)) is not None:
        return inexact
    chunks = [chunk for column in columns for chunk in _as_dictionaries(column)]
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    whole = pyarrow.chunked_array(chunks, type=text)
    if whole.null_count:
        return Unusable(_first_null(chunks), "an empty one")
    unified = whole.unify_dictionaries().chunks
    if not unified:
        return np.zeros(0, np.str_), np.zeros(0, np.int32)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified])
    values = unified[0].dictionary
    values.validate(full=True)  # that its bytes are UTF-8, which not every format has checked
    if (unusable := _unusable(values, codes)) is not None:
        return unusable
    order = _order(values)
    is_used = np.bincount(codes, minlength=len(values)) > 0  # categories may have no row
    order = order[is_used[order]]
    places = np.zeros(len(values), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    ids = values.take(pyarrow.array(order)).to_numpy(zero_copy_only=False)
    return ids.astype(np.str_), places[codes]


def in_order(ids: Sequence[str]) -> list[str]:
    """Different ids in the order that `encode` gives them."""
    return [ids[place] for place in order_of(ids)]


def order_of(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """The permutation of different ids that sorts them as `encode` does."""
    import pyarrow

    return _order(pyarrow.array(ids, pyarrow.string()))


def _plain(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """The column without what has one id in two forms: -0.0, NaN, dictionaries with a null."""
    import pyarrow
    import pyarrow.compute as pc

    types = pyarrow.types
    if types.is_dictionary(column.type) and (
        types.is_floating(column.type.value_type)
        or any(chunk.dictionary.null_count for chunk in column.chunks)
    ):
        column = column.cast(column.type.value_type)
    if types.is_floating(column.type):
        doubles = pc.add(column.cast(pyarrow.float64()), 0.0)
        is_nan = pc.is_nan(doubles)  # no id, as pandas has it
        column = pc.if_else(is_nan, None, doubles).cast(column.type)
    return column


def _inexact(columns: Sequence[pyarrow.ChunkedArray]) -> Unusable | None:
    """The first row whose id is a float of a size at which its type rounds whole numbers."""
    import pyarrow
    import pyarrow.compute as pc

    before = 0
    for column in columns:
        if pyarrow.types.is_floating(column.type):
            most = 2.0 ** (np.finfo(column.type.to_pandas_dtype()).nmant + 1)
            is_larger = pc.greater(pc.abs(column.cast(pyarrow.float64())), most)
            if (row := pc.index(is_larger, True).as_py()) >= 0:
                reason = f"one of type {column.type}, which rounds whole numbers of that size"
                return Unusable(before + row, reason)
        before += len(column)
    return None


def _text(values: pyarrow.Array) -> pyarrow.Array:
    """Different values as text, whole numbers of any type without a point or an exponent."""
    import pyarrow
    import pyarrow.compute as pc

    text = values.cast(pyarrow.string())
    if not pyarrow.types.is_floating(values.type):
        return text
    doubles = values.cast(pyarrow.float64())
    whole = pc.trunc(doubles)
    return pc.if_else(
        pc.equal(whole, doubles), whole.cast(pyarrow.int64()).cast(pyarrow.string()), text
    )


def _as_dictionaries(column: pyarrow.ChunkedArray) -> list[pyarrow.DictionaryArray]:
    """The column as arrays of int32 indices into dictionaries of text."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        chunks = column.dictionary_encode().chunks
        # All of them have one dictionary, which may be long: it is cast once.
        indices = pyarrow.concat_arrays([chunk.indices for chunk in chunks]) if chunks else None
        arrays = [(indices, chunks[0].dictionary)] if chunks else []
    else:
        arrays = [(chunk.indices, chunk.dictionary) for chunk in column.chunks]
    return [
        pyarrow.DictionaryArray.from_arrays(indices.cast(pyarrow.int32()), _text(dictionary))
        for indices, dictionary in arrays
    ]


def _first_null(chunks: Sequence[pyarrow.DictionaryArray]) -> int:
    is_null = [chunk.is_null().to_numpy(zero_copy_only=False) for chunk in chunks]
    return int(np.argmax(np.concatenate(is_null)))


def _unusable(values: pyarrow.Array, codes: np.ndarray) -> Unusable | None:
    """The first row whose id is nothing but spaces, has a NUL, or is too long."""
    import pyarrow.compute as pc

    reasons = {
        "an empty one": pc.equal(pc.utf8_trim_whitespace(values), ""),
        "one with a NUL character": pc.match_substring(values, "\0"),
        f"one of more than {LONGEST_ID} characters": pc.greater(pc.utf8_length(values), LONGEST_ID),
    }
    for reason, mask in reasons.items():
        is_unusable = mask.to_numpy(zero_copy_only=False)
        if is_unusable.any() and (in_rows := is_unusable[codes]).any():
            return Unusable(int(np.argmax(in_rows)), reason)
    return None


def _order(values: pyarrow.Array) -> np.ndarray:
    """The permutation that sorts the ids; `7` and `007`, which are two, by their text."""
    import pyarrow
    import pyarrow.compute as pc

    by_text = pc.sort_indices(values).to_numpy()
    if pc.all(pc.match_substring_regex(values, _INT64_INTEGER)).as_py():
        numbers = values.cast(pyarrow.int64()).to_numpy()
        return by_text[np.argsort(numbers[by_text], kind="stable")]
    if pc.all(pc.match_substring_regex(values, _INTEGER)).as_py():
        texts = values.to_pylist()
        return np.array(sorted(by_text.tolist(), key=lambda place: int(texts[place])))
    return by_text
