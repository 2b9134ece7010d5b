"""What is wrong with a file is told in one line, with the file and the line's number."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from feedback import delimited, json_lines, parquet_file, rows_of

from autosample_tf.errors import InputError
from autosample_tf.reading.formats import read
from autosample_tf.reading.table_options import TableOptions

ROWS = rows_of()
CSV = delimited(ROWS, ",")
LAST = len(ROWS) + 2  # the line after the last
T = 1_600_000_000


def csv_with(line: str) -> bytes:
    return CSV + line.encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("t.csv", csv_with("a;b;3;4"), {}, f"4 columns in UTF-8 text at PATH:{LAST}; received"),
        ("t.csv", CSV.replace(b"user_id", b"who"), {}, "received none among the columns who, it"),
        ("t.csv", b"1,2,3\n1,4,3\n", {}, "name them all: --columns user,item"),
        ("t.csv", csv_with("é,1,1,1").decode().encode("latin-1"), {}, f"at PATH:{LAST}"),
        ("t.csv", CSV.decode().encode("utf-16"), {}, "a header line in UTF-8 text in PATH"),
        ("t.csv", gzip.compress(CSV), {}, "a header line in UTF-8 text in PATH"),
        ("t.csv", csv_with(",i,3,4"), {}, f"an id in every row of PATH:{LAST}; received an empty"),
        ("t.csv", csv_with("u,,3,4"), {}, f"an id in every row of PATH:{LAST}; received an empty"),
        ("t.csv", csv_with("u\0,i,3,4"), {}, f"PATH:{LAST}; received one with a NUL character"),
        ("t.csv", csv_with("u" * 2000 + ",i,3,4"), {}, f"PATH:{LAST}; received one of more than"),
        ("t.csv", CSV + CSV, {}, f"the header once, in the first line, at PATH:{LAST}; received"),
        ("t.csv", CSV + b'"' + b"u,1,1,1\n" * 300_000, {}, "rows of less than 1,048,576 char"),
        ("t.csv", csv_with("u,i,x,4"), {"min_rating": 1}, f"in column 'rating' at PATH:{LAST}; r"),
        ("t.csv", csv_with("u,i,3,soon"), {"split_by": "time"},
         f"a time (Unix or ISO 8601) in column 'timestamp' at PATH:{LAST}; received 'soon'"),
        ("t.csv", csv_with("u,i,3,"), {"since": "2001-01-01"}, f"PATH:{LAST}; received ''"),
        ("t.csv", csv_with(f"u,i,3,{T}000"), {"split_by": "time"},
         f"Unix times of one unit in column 'timestamp' at PATH:{LAST}; received {T}000, in an"),
        ("t.csv", delimited([(*row[:3], row[3] * 1000) for row in ROWS] + [("u", "i", 3, T)], ","),
         {"split_by": "time"}, f"at PATH:{LAST}; received {T}, in another unit than most"),
        ("t.csv.gz", gzip.compress(CSV)[:-9], {}, "whole gzip data in PATH; received what pyarrow"),
        ("t.csv.gz", CSV, {}, "whole gzip data in PATH"),
        ("t.csv.zst", gzip.compress(CSV), {}, "whole zstd data in PATH"),
        ("t.jsonl", json_lines(ROWS) + b"{", {}, f"a JSON object at PATH:{LAST - 1}; received"),
        ("t.jsonl", json_lines(ROWS) + b"\n[1]\n", {}, f"a JSON object at PATH:{LAST}; received"),
        ("t.jsonl", json_lines(ROWS) + b'{"user_id": "u"}', {},
         f"an id in every row of PATH:{LAST - 1}; received an empty one"),
        ("t.jsonl", json_lines(ROWS) + b'{"user_id": 5, "item_id": "i"}', {},
         f"a text as 'user_id', as in the lines before, at PATH:{LAST - 1}; received 5"),
        ("t.jsonl", json_lines(ROWS) + b'{"user_id": "\xff", "item_id": "i"}', {},
         f"a text in UTF-8 as 'user_id', as in the lines before, at PATH:{LAST - 1}; received"),
        ("t.jsonl", b'{"user": 1, "item": 1}\n{"user": 1, "item": 99999999999999999999}\n', {},
         "a whole number of 64 bits as 'item', as in the lines before, at PATH:2; received 9999"),
        ("t.jsonl", json_lines(ROWS) + b'{"user_id": "u", "item_id": "i", "rating": "n/a"}',
         {"min_rating": 1}, f"a number as 'rating', as in the lines before, at PATH:{LAST - 1}"),
        ("t.jsonl", b"\n\n", {}, "a JSON object on each line of PATH; received an empty file"),
        ("t.parquet", parquet_file(ROWS)[:-10], {}, "a whole Parquet file at PATH; received"),
        ("t.parquet", b"", {}, "a whole Parquet file at PATH"),
        ("t.parquet", parquet_file([*ROWS, ("", "i", 3.0, T)]), {},
         f"an id in every row of PATH, row {len(ROWS) + 1}; received an empty one"),
        ("t.csv", CSV, {"time_column": "rating", "rating_column": "rate"}, "named 'rate' in PATH"),
        ("t.csv", CSV, {"time_column": "item_id"}, "for times alone; received 'item_id', the item"),
        ("t.csv", CSV, {"since": "2030-01-01"}, "received none: they are from 2020-09-13T12:26:4"),
        ("t.csv", CSV, {"until": "never"}, "a date in ISO 8601 or Unix time as until; received"),
        ("t.csv", CSV, {"min_rating": 9}, "rows rated 9 or higher; received ratings of at most 5"),
        ("t.csv", CSV, {"k_core": 10}, "10 positives each among one another; received none"),
        ("t.csv", CSV, {"k_core": 0}, "--k-core of at least 1; received 0"),
        ("t.csv", CSV, {"positive_from": 1}, "--label-column beside --positive-from"),
    ],
)  # fmt: skip
def test_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, options: dict, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read(path, TableOptions(**options))
    told = str(raised.value)
    assert message.replace("PATH", str(path)) in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CSV,
        CSV.replace(b"\n", b"\n\n"),
        CSV.replace(b"\n", b"\r\n"),
        CSV.replace(b",", b";"),
        CSV.replace(b",", b"|"),
        delimited([(*row[:3], row[3] * 1000) for row in ROWS], ","),
        delimited([(*row[:3], row[3] * 10**9) for row in ROWS], ","),
    ],
    ids=["BOM", "blank lines", "CRLF", "semicolons", "bars", "milliseconds", "nanoseconds"],
)
def test_what_is_clear_all_the_same_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "plain.csv").write_bytes(CSV)
    options = TableOptions(split_by="leave-last")
    read_anyway, plain = (read(tmp_path / name, options) for name in ("t.csv", "plain.csv"))
    assert read_anyway.checksum() == plain.checksum()
    assert read_anyway.time_span == plain.time_span


def test_a_mark_before_json_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + json_lines(ROWS))
    (tmp_path / "plain.jsonl").write_bytes(json_lines(ROWS))
    marked, plain = (read(tmp_path / name) for name in ("t.jsonl", "plain.jsonl"))
    assert marked.checksum() == plain.checksum()


def test_the_row_of_a_part_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    (tmp_path / "b.csv").write_bytes(b"user_id,item_id\nu,\n")
    with pytest.raises(InputError, match=f"{tmp_path / 'b.csv'}:2; received an empty one"):
        read(tmp_path)


def test_a_field_may_be_empty_in_the_first_line_of_json(tmp_path: Path) -> None:
    lines = b'{"item_id": "i", "user_id": "u0", "rating": null}\n' + json_lines(ROWS)
    (tmp_path / "t.jsonl").write_bytes(lines)
    options = TableOptions(label_column="rating")
    with pytest.raises(InputError, match=r"a number in column 'rating' at .*t.jsonl:1; received"):
        read(tmp_path / "t.jsonl", options)
    assert read(tmp_path / "t.jsonl").time_span is not None


def test_an_id_may_have_a_name_that_is_common_for_something_else(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(CSV.replace(b"item_id,rating", b"score,x"))
    assert read(tmp_path / "t.csv", TableOptions(item_column="score")).num_items == 9


def test_without_a_need_for_them_times_and_ratings_may_be_anything(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(csv_with("u0,i,good,long ago"))
    dataset = read(tmp_path / "t.csv")
    assert dataset.time_span is None
    assert dataset.train.num_pairs + dataset.test.num_pairs == len(ROWS) + 1
