"""The same rows in every kind of file are the same dataset, with the same ids and splits."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from feedback import COMPRESSIONS, FORMATS, rows_of, write

from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset
from autosample_tf.reading import formats
from autosample_tf.reading.sources import default_name
from autosample_tf.reading.table_options import TableOptions

ROWS = [row for row in rows_of() if row[2] > 0]  # none would be warned of
SPAN = (min(row[3] for row in ROWS), max(row[3] for row in ROWS))
TEXT = [name for name in FORMATS if name != ".parquet"]


def read(path: Path | str, *, seed: int = 0, **options: object) -> Dataset:
    return formats.read(path, TableOptions(**options), seed=seed)


def refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(InputError) as raised:
        read(path, **options)
    return str(raised.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The checksum of ROWS as a .csv file, by options."""
    path = write(tmp_path_factory.mktemp("whole"), "t.csv", ROWS)
    return {name: read(path, **options).checksum() for name, options in OPTIONS.items()}


OPTIONS = {
    "plain": {},
    "labels": {"label_column": "rating", "positive_from": 3},
    "filters": {"min_rating": 1.5, "k_core": 2, "since": str(SPAN[0] + 9)},
    "by time": {"split_by": "leave-last:n=1"},
}


def test_the_options_make_different_datasets(whole: dict[str, str]) -> None:
    assert len(set(whole.values())) == len(OPTIONS)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "name",
    [f"t{suffix}{c}" for suffix in TEXT for c in COMPRESSIONS] + ["t.parquet", "t.CSV.gz"],
)
def test_a_file(tmp_path: Path, whole: dict[str, str], name: str, options: str) -> None:
    dataset = read(write(tmp_path, name, ROWS), **OPTIONS[options])
    assert dataset.checksum() == whole[options]
    assert dataset.name == "t"
    assert SPAN[0] <= dataset.time_span[0] < dataset.time_span[1] <= SPAN[1]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".parquet"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_folder_of_parts(
    tmp_path: Path, whole: dict[str, str], suffix: str, options: str
) -> None:
    folder = tmp_path / "log"
    for part in range(3):
        write(folder, f"part-{part}{suffix}", ROWS[part::3])
    for other in ("_SUCCESS", ".part-0.csv.crc", "README.md", ".hidden.csv", "_metadata.parquet"):
        (folder / other).write_text("not a table")
    dataset = read(folder, **OPTIONS[options])
    assert dataset.checksum() == whole[options]
    assert dataset.name == "log"


@pytest.mark.parametrize(
    ("suffix", "empty"),
    [(".csv", b""), (".csv", b"user_id,item_id,rating,timestamp\n"), (".jsonl", b"\n"),
     (".parquet", None)],
)  # fmt: skip
def test_a_part_without_rows_is_passed_over(
    tmp_path: Path, whole: dict[str, str], suffix: str, empty: bytes | None
) -> None:
    """As a worker leaves it that had nothing to write."""
    folder = tmp_path / "log"
    write(folder, f"part-1{suffix}", ROWS)
    nothing = write(folder, f"part-0{suffix}", ROWS[:0])
    if empty is not None:
        nothing.write_bytes(empty)
    assert read(folder).checksum() == whole["plain"]
    (folder / f"part-1{suffix}").unlink()
    assert "received" in refusal(folder)


@pytest.mark.parametrize("pattern", ["log/2024-*.csv", "log/2024-0[12].csv", "*/2024-*", "**/2*"])
def test_a_pattern_of_files(tmp_path: Path, whole: dict[str, str], pattern: str) -> None:
    for part in range(2):
        write(tmp_path / "log", f"2024-0{part + 1}.csv", ROWS[part::2])
    write(tmp_path / "log", "older.csv", [("nobody", "nothing", 1.0, 1)])
    dataset = read(str(tmp_path / pattern))
    assert dataset.checksum() == whole["plain"]


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path, whole: dict[str, str]) -> None:
    assert read(write(tmp_path, "a[1].csv", ROWS)).checksum() == whole["plain"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("gowalla", "gowalla"),
        ("data/clicks.csv", "clicks"),
        ("data/clicks.csv.gz", "clicks"),
        ("data/ml.train.inter", "ml.train"),
        ("logs/2024-*.csv", "logs"),
    ],
)
def test_the_name_of_a_dataset(source: str, name: str) -> None:
    assert default_name(source) == name


# --- splits that are given

SPLITS = {"train": ROWS[:40], "valid": ROWS[40:50], "test": ROWS[50:]}


def pairs(dataset: Dataset, split: str) -> set[tuple[str, str]]:
    rows = dataset.splits[split]
    users, items = dataset.user_ids[rows.users], dataset.item_ids[rows.items]
    return set(zip(users.tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "valid.csv", "test.csv"),
        ("train.jsonl.gz", "validation.jsonl.gz", "test.jsonl"),
        ("ml.train.inter", "ml.valid.inter", "ml.test.inter"),
        ("train-00000-of-00001.parquet", "dev.parquet", "test_0.parquet"),
        ("interactions_train.csv", "interactions-validation.csv", "interactions_test.csv"),
        ("Train.csv", "val.csv", "Testing.csv.zst"),
    ],
)
def test_a_folder_of_a_table_for_each_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, rows in zip(names, SPLITS.values(), strict=True):
        write(tmp_path, name, rows)
    dataset = read(tmp_path)
    assert list(dataset.splits) == ["train", "valid", "test"]
    for split, rows in SPLITS.items():
        assert pairs(dataset, split) == {(user, item) for user, item, _, _ in rows}


def test_a_split_may_come_in_parts_and_validation_may_be_missing(tmp_path: Path) -> None:
    for at in range(2):
        write(tmp_path, f"train-{at}.csv", SPLITS["train"][at::2])
    write(tmp_path, "test.csv", SPLITS["test"])
    dataset = read(tmp_path)
    assert dataset.valid is None
    assert pairs(dataset, "train") == {row[:2] for row in SPLITS["train"]}


def test_what_an_earlier_split_has_is_dropped_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ROWS[:40])
    write(tmp_path, "test.csv", ROWS[30:])
    dataset = read(tmp_path)
    assert pairs(dataset, "test") == {row[:2] for row in ROWS[40:]}
    assert dataset.counts()["held_out_pairs_in_train"] == 10
    assert "duplicate_pairs" not in dataset.counts()


def test_rows_of_given_splits_are_filtered(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ROWS[:40])
    write(tmp_path, "test.csv", ROWS[40:])
    dataset = read(tmp_path, min_rating=3)
    assert pairs(dataset, "test") == {row[:2] for row in ROWS[40:] if row[2] >= 3}


@pytest.mark.parametrize("options", [{"k_core": 3}, {"split_by": "time"}])
def test_given_splits_are_not_split_again(tmp_path: Path, options: dict) -> None:
    for name in ("train", "test"):
        write(tmp_path, f"{name}.csv", SPLITS[name])
    message = refusal(tmp_path, **options)
    assert "with test.csv, train.csv, which are splits already" in message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.csv", "b.tsv"), "files of one format in {0}; received a.csv and b.tsv. Leave one"),
        (("a.csv", "a.csv.gz", "b.jsonl"), "files of one format in"),
        (("train.csv", "more.csv"), "all parts of a table, in {0}; received more.csv beside train"),
        (("train.csv", "valid.csv"), "a train and a test file in {0}; received no test file"),
    ],
)
def test_a_folder_that_is_no_one_thing_is_refused(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    for name in names:
        write(tmp_path, name, ROWS)
    assert message.format(tmp_path) in refusal(tmp_path)


def test_a_pattern_without_a_file_is_refused(tmp_path: Path) -> None:
    assert "files of interactions that match" in refusal(f"{tmp_path}/*.csv")


def test_a_lightgcn_folder_may_hold_tables_too(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1 2\n")
    (tmp_path / "test.txt").write_text("0 3\n")
    write(tmp_path, "items.csv", ROWS)
    assert read(tmp_path).num_items == 3


# --- warnings


@pytest.mark.parametrize("rule", ["random:fraction=0.2", "leave-one-out"])
def test_a_split_that_ignores_times_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    read(write(tmp_path, "t.csv", ROWS), split_by=rule)
    assert f"t has times, which the split {rule} ignores" in caplog.text


@pytest.mark.parametrize("rule", ["leave-last", "time"])
def test_a_split_by_time_is_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    read(write(tmp_path, "t.csv", ROWS), split_by=rule)
    assert not caplog.text


def test_without_times_nothing_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one_time = [(*row[:3], 1_600_000_000) for row in ROWS]
    read(write(tmp_path, "t.csv", one_time))
    for split, rows in SPLITS.items():
        write(tmp_path / "given", f"{split}.csv", rows)
    read(tmp_path / "given")
    assert not caplog.text


def test_ids_that_may_stand_for_none_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    rows = [("u1", "NULL", 1.0, 1_600_000_000), ("nan", "99", 1.0, 1_600_000_000)]
    path = write(tmp_path, "t.csv", [*ROWS, *rows, ("\\N", "98", 1.0, 1_600_000_000)])
    read(path)
    assert "t has one item called NULL, which is what others write" in caplog.text
    assert r"t has one user called \N and one nan, which" in caplog.text
    caplog.clear()
    read(write(tmp_path, "fine.csv", ROWS))
    assert "called" not in caplog.text


def test_positives_with_a_rating_of_0_or_less_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = write(
        tmp_path,
        "t.csv",
        [
            *ROWS,
            *(("u1", item, rating, 1_600_000_000) for item, rating in (("99", -1.0), ("98", 0.0))),
        ],
    )
    assert read(path).counts()["ratings_up_to_0"] == 2
    assert "2 rows of t have a rating of 0 or less and count as positives" in caplog.text
    caplog.clear()
    read(path, min_rating=0)
    assert "0 or less" not in caplog.text
