"""Rows of feedback, written as every kind of file and object that is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet

Row = tuple[str, str, float, int]  # user, item, rating, time
COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def rows_of(num_users: int = 12, num_items: int = 9, *, start: int = 1_600_000_000) -> list[Row]:
    """Users `u0`, … with items `7`, …, rated 0 to 5, in an order that means nothing."""
    return [
        (
            f"u{user}",
            str(item + 7),
            float((user * 5 + item) % 6),
            start + (user * 31 + item * 17) % 97,
        )
        for item in range(num_items)
        for user in range(num_users)
        if (user + item) % 3
    ]


def columns_of(rows: Sequence[Row]) -> dict[str, list]:
    return {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}


def delimited(rows: Sequence[Row], delimiter: str, head: Sequence[str] = COLUMNS) -> bytes:
    lines = [delimiter.join(map(str, row)) for row in [head, *rows]]
    return ("\n".join(lines) + "\n").encode()


def json_lines(rows: Sequence[Row]) -> bytes:
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def parquet_file(rows: Sequence[Row]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns_of(rows)), file, row_group_size=10)
    return file.getvalue()


FORMATS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    ".csv": lambda rows: delimited(rows, ","),
    ".tsv": lambda rows: delimited(rows, "\t"),
    ".inter": lambda rows: delimited(
        rows, "\t", ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    ),
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".parquet": parquet_file,
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True),
    ".bz2": bz2.compress,
}


def write(folder: Path, name: str, rows: Sequence[Row]) -> Path:
    """Writes the rows in the format and the compression of the file's name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes[-1] in COMPRESSIONS else ""
    path.write_bytes(COMPRESSIONS[compression](FORMATS[suffixes[-1]](rows)))
    return path
