"""Parquet files of one pair a row."""

from __future__ import annotations

from pathlib import Path

from autosample_tf.errors import NoRowsError, as_pyarrow_says, expected
from autosample_tf.reading.columns import Part, find_columns
from autosample_tf.reading.table_options import TableOptions


def read_parquet(path: Path, options: TableOptions) -> Part:
    """Reads the columns that matter of a Parquet file.

    Args:
      path: a .parquet file.
      options: name the columns.

    Raises:
      InputError: if it is no Parquet file, or a column is missing.
      NoRowsError: if it has no row.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            places = find_columns(columns, str(path), options)
            names = {role: columns[place] for role, place in places.items()}
            table = file.read(sorted(set(names.values())))
            columns = {role: table[name] for role, name in names.items()}
    except (pyarrow.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's: no right to read it
        raise expected(
            f"a whole Parquet file at {path}",
            received=as_pyarrow_says(error),
            remedy="Get it again.",
        ) from None
    if not table.num_rows:
        raise NoRowsError(
            expected(f"rows of pairs in {path}", received="none", remedy="Give a table with some.")
        )
    return Part(columns, names, str(path), place=lambda row: f"{path}, row {row + 1}")
