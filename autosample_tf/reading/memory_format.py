"""Interactions that are in memory already: data frames, sparse matrices, tf.data.

Which of them an object is, its methods tell: none of these libraries is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from autosample_tf.errors import InputError, as_pyarrow_says, expected
from autosample_tf.reading.columns import Part, find_columns
from autosample_tf.reading.table_options import TableOptions, refuse_options

if TYPE_CHECKING:
    import pyarrow

_TUPLE_FIELDS = ("user", "item", "rating", "time")  # of a tf.data of tuples
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY
_ROWS_PER_BATCH = 1 << 16  # of a tf.data of single rows


def is_in_memory(source: object) -> bool:
    """Whether `read_memory` takes the object."""
    methods = ("__arrow_c_stream__", "collect", "tocoo", "as_numpy_iterator")
    return isinstance(source, Mapping) or any(hasattr(source, method) for method in methods)


def read_memory(source: Any, options: TableOptions) -> Part:
    """The columns that matter of an object in memory.

    Args:
      source: a data frame (pandas, polars, pyarrow, whatever has `__arrow_c_stream__`); a
        mapping of column names to arrays; a SciPy sparse matrix or array [num_users,
        num_items], whose ids are the indices and whose values the ratings; a finite
        tf.data.Dataset of dictionaries or of tuples (user, item, rating, time), single rows
        or batches.
      options: name the columns.

    Raises:
      InputError: if a column is missing, or the object cannot be read.
    """
    kind = f"the {type(source).__name__} given"
    if hasattr(source, "tocoo"):
        refuse_options(
            options,
            f"{kind}, which has no columns",
            names=("user_column", "item_column", "time_column", "since", "until"),
        )
    table = _as_table(source, kind, options)
    places = find_columns(table.column_names, kind, options)
    if not table.num_rows:
        raise expected(f"rows of pairs in {kind}", received="none", remedy="Give some.")
    return Part(
        columns={role: table.column(place) for role, place in places.items()},
        names={role: table.column_names[place] for role, place in places.items()},
        source=kind,
        place=lambda row: f"row {row} of {kind}",
    )


def _as_table(source: Any, kind: str, options: TableOptions) -> pyarrow.Table:
    import pyarrow

    try:
        if hasattr(source, "tocoo"):  # SciPy's dictionary of keys is a Mapping too
            return pyarrow.table(_matrix_columns(source))
        if isinstance(source, Mapping):
            return pyarrow.table(dict(source))
        if hasattr(source, "as_numpy_iterator"):
            return pyarrow.table(_dataset_columns(source, kind, options))
        if hasattr(source, "collect") and not hasattr(source, "__arrow_c_stream__"):
            source = source.collect()  # polars' lazy frames
        return pyarrow.table(source)
    except InputError:
        raise
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise expected(
            f"columns of one length, and of one type each, in {kind}",
            received=as_pyarrow_says(error),
            remedy="Mend them; ids of several types can be converted to text.",
        ) from None


def _matrix_columns(matrix: Any) -> dict[str, np.ndarray]:
    """The entries that are not zero, those that are stored several times as their sum."""
    entries = matrix.tocoo(copy=True)
    if entries.data.dtype.kind in "biu":
        entries.data = entries.data.astype(np.int64)  # 256 stored times in 8 bits would be none
    entries.sum_duplicates()
    stored = entries.data != 0
    return {
        "user": entries.row[stored],
        "item": entries.col[stored],
        "rating": entries.data[stored],
    }


def _dataset_columns(dataset: Any, kind: str, options: TableOptions) -> dict[str, np.ndarray]:
    if int(dataset.cardinality()) == _INFINITE:
        raise expected(
            f"an end of {kind}",
            received="an infinite one",
            remedy="Leave `repeat` out, or `take` some.",
        )
    spec = dataset.element_spec
    if not isinstance(spec, Mapping):
        dataset = dataset.map(lambda *values: dict(zip(_TUPLE_FIELDS, values, strict=False)))
        spec = dataset.element_spec
    fields = list(spec)
    names = {fields[place] for place in find_columns(fields, kind, options).values()}
    # Others may be of any shape, which need not fit into a batch.
    dataset = dataset.map(lambda values: {name: values[name] for name in names})
    if nested := [name for name, field in dataset.element_spec.items() if _is_nested(field)]:
        raise expected(
            f"columns of one value a row in {kind}",
            received=f"{', '.join(nested)}, of several or of none that is fixed",
            remedy="Map them to single values.",
        )
    if all(field.shape.rank == 0 for field in dataset.element_spec.values()):
        dataset = dataset.batch(_ROWS_PER_BATCH)
    batches = list(dataset.as_numpy_iterator())
    return {
        name: _as_text(np.concatenate([batch[name] for batch in batches] or [np.zeros(0)]))
        for name in names
    }


def _is_nested(field: Any) -> bool:
    """Whether a tf.data's field is no tensor of single values or of a batch of them."""
    rank = getattr(getattr(field, "shape", None), "rank", None)
    return rank not in (0, 1) or hasattr(field, "ragged_rank")


def _as_text(column: np.ndarray) -> np.ndarray:
    """TensorFlow's byte strings as text."""
    if column.dtype != object:
        return column
    return np.array([value.decode() if isinstance(value, bytes) else value for value in column])
