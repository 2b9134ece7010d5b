"""Any bytes in any file give a dataset or an `InputError`, and soon."""

from __future__ import annotations

import bz2
import gzip
import io
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from autosample_tf.errors import InputError
from autosample_tf.reading.formats import read
from autosample_tf.reading.table_options import TableOptions

WELL_FORMED = {
    ".csv": b"user,item,rating,time\n" + b"".join(b"a,%d,4,%d\n" % (n, n) for n in range(5)),
    ".tsv": b"user\titem\n" + b"".join(b"a\t%d\n" % n for n in range(5)),
    ".inter": b"user_id:token\titem_id:token\n" + b"".join(b"a\t%d\n" % n for n in range(5)),
    ".jsonl": b"".join(b'{"user": "a", "item": %d, "rating": 4}\n' % n for n in range(5)),
}
# What often means something to a parser, beside bytes that mean nothing.
TOKENS = [
    b"user", b"item", b"rating", b"time", b",", b"\t", b";", b"|", b"\n", b"\r\n", b"\r", b'"',
    b'""', b"\\", b"{", b"}", b"[", b"]", b":", b'{"user":1,"item":', b"null", b"NaN", b"1e999",
    b"-1", b"0", b"7", b"a", b" ", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80",
    b"9" * 30, b"2020-01-01", b"1600000000000", b"train", b"#", b"'",
]  # fmt: skip
OPTIONS = [
    {},
    {"label_column": "rating", "positive_from": 3.0},
    {"min_rating": 2.0, "k_core": 2},
    {"since": "2020-01-01", "split_by": "leave-last"},
    {"split_by": "time"},
    {"user_column": "item", "item_column": "user"},
    {"columns": "user,item,rating,time", "min_rating": 2.0},
]
quick = settings(
    max_examples=100,
    deadline=5000,  # milliseconds: no hang
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def pieces() -> some.SearchStrategy[bytes]:
    words = some.one_of(some.sampled_from(TOKENS), some.binary(max_size=8))
    return some.lists(words, max_size=60).map(b"".join)


def check(name: str, content: bytes, options: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        _check_path(path, options)


def _check_path(path: Path, options: dict) -> None:
    try:
        dataset = read(path, TableOptions(**options))
    except InputError as error:
        message = str(error)
    else:
        assert dataset.test.num_pairs
        assert len(dataset.checksum()) == 64
        return
    assert "\n" not in message
    assert len(message) < 5000


@pytest.mark.parametrize("suffix", WELL_FORMED)
@quick
@given(content=pieces(), options=some.sampled_from(OPTIONS))
@example(content=b"[" * 100_000, options={})
@example(content=b'{"user":' * 50_000, options={})
@example(content=b'user,item\n"' + b"a" * 3_000_000, options={})
@example(content=b'"user,item' + b"\n" * 200_000, options={})
@example(content=b"user,item\n" + b"a," * 600_000, options={})
def test_of_pieces(suffix, content, options):
    check("t" + suffix, content, options)


@pytest.mark.parametrize("suffix", WELL_FORMED)
@quick
@given(
    place=some.integers(0, 200),
    length=some.integers(0, 20),
    piece=pieces(),
    options=some.sampled_from(OPTIONS),
)
def test_of_a_table_with_a_part_replaced(suffix, place, length, piece, options):
    content = WELL_FORMED[suffix]
    check("t" + suffix, content[:place] + piece + content[place + length :], options)


COMPRESS = {
    ".csv.gz": gzip.compress,
    ".csv.bz2": bz2.compress,
    ".jsonl.zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("suffix", COMPRESS)
@quick
@given(content=some.binary(max_size=200), place=some.integers(0, 300), cut=some.booleans())
def test_of_compressed_files(suffix, content, place, cut):
    whole = COMPRESS[suffix](WELL_FORMED["." + suffix.split(".")[1]] * 20)
    rest = b"" if cut else whole[place + len(content) :]
    check("t" + suffix, whole[:place] + content + rest, {})


@quick
@given(content=some.binary(max_size=300), place=some.integers(0, 2000))
def test_of_parquet(content, place, parquet_bytes):
    whole = parquet_bytes
    check("t.parquet", whole[:place] + content + whole[place + len(content) :], {})


@pytest.fixture(scope="module")
def parquet_bytes() -> bytes:
    table = pyarrow.table({"user": ["a", "b"] * 20, "item": list(range(40))})
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


@quick
@given(train=pieces(), test=pieces())
def test_of_lightgcn_files(train, test):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train.txt").write_bytes(train)
        (Path(folder) / "test.txt").write_bytes(test)
        _check_path(Path(folder), {})


@quick
@given(content=some.one_of(pieces(), some.just(b'{"schema_version": 1, "files": {}}')))
def test_of_a_manifest(content):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dataset.json").write_bytes(content)
        _check_path(Path(folder), {})
