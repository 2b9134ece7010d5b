"""A converted dataset reads back as it was, or is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from feedback import rows_of, write

from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset
from autosample_tf.reading import dataset_folder, formats
from autosample_tf.reading.dataset_folder import CONVERTED_FOLDER, read_dataset, write_dataset
from autosample_tf.reading.table_options import TableOptions
from autosample_tf.synthetic import synthetic
from autosample_tf.whole_files import whole_folder


def everything(tmp_path: Path, **options: object) -> Dataset:
    """Given negatives, a validation split, notes, times, and ids that are no ASCII."""
    rows = [(f"ü{user}😀", f"товар {item}", *rest) for user, item, *rest in rows_of()]
    path = write(tmp_path, "t.csv", rows + rows[:5])
    options = {"label_column": "rating", "positive_from": 2, "split_by": "leave-last", **options}
    return formats.read(path, TableOptions(**options))


@pytest.fixture
def converted(tmp_path: Path) -> tuple[Dataset, Path]:
    dataset = everything(tmp_path)
    write_dataset(dataset, tmp_path / "made" / "converted", source={"dataset": "t.csv"})
    return dataset, tmp_path / "made" / "converted"


def assert_same(left: Dataset, right: Dataset) -> None:
    assert left.checksum() == right.checksum()
    assert left.counts() == right.counts()
    assert (left.name, left.time_span, dict(left.notes)) == (
        right.name,
        right.time_span,
        dict(right.notes),
    )
    assert left.user_ids.tolist() == right.user_ids.tolist()
    assert left.item_ids.tolist() == right.item_ids.tolist()
    for split, rows in left.splits.items():
        assert rows.items.dtype == right.splits[split].items.dtype == np.int32
        assert rows.offsets.tolist() == right.splits[split].offsets.tolist()


def test_everything_reads_back(converted: tuple[Dataset, Path]) -> None:
    dataset, folder = converted
    assert dataset.given.num_pairs
    assert dataset.valid.num_pairs
    assert dataset.time_span
    assert_same(read_dataset(folder), dataset)


def test_a_dataset_with_nothing_besides_reads_back(tmp_path: Path) -> None:
    write_dataset(synthetic(40, 30, mean_pairs=8), tmp_path / "s", source={})
    back = read_dataset(tmp_path / "s")
    assert_same(back, synthetic(40, 30, mean_pairs=8))
    assert back.given is back.valid is back.time_span is None


def test_the_front_door_reads_it(converted: tuple[Dataset, Path]) -> None:
    dataset, folder = converted
    assert_same(formats.read(folder), dataset)
    assert formats.read(folder, name="mine").name == "mine"
    with pytest.raises(InputError, match="no options of a table with the folder"):
        formats.read(folder, TableOptions(k_core=2))


def test_arrays_stay_in_the_files_and_ids_take_a_byte_a_character(tmp_path: Path) -> None:
    dataset = synthetic(40, 30, mean_pairs=8)
    write_dataset(dataset, tmp_path / "s", source={})
    back = read_dataset(tmp_path / "s")
    assert isinstance(back.train.items.base, np.memmap)
    characters = np.load(tmp_path / "s" / "user_ids.npy")
    assert characters.dtype == np.uint8
    assert characters.shape == (40, 3)


def test_what_it_was_made_of_is_written_down(converted: tuple[Dataset, Path]) -> None:
    manifest = json.loads((converted[1] / CONVERTED_FOLDER.manifest).read_text())
    assert manifest["source"] == {"dataset": "t.csv"}
    assert manifest["counts"] == converted[0].counts()


def test_nothing_is_written_over(converted: tuple[Dataset, Path]) -> None:
    dataset, folder = converted
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="a folder that is not there yet"):
        write_dataset(dataset, folder, source={})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert os.listdir(folder.parent) == [folder.name]


def test_it_may_take_an_empty_folders_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    dataset = synthetic(40, 30, mean_pairs=8)
    write_dataset(dataset, tmp_path / "empty", source={})
    assert_same(read_dataset(tmp_path / "empty"), dataset)


def test_a_full_disk_is_no_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="No space left"), whole_folder(tmp_path / "empty"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_interrupted_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = synthetic(40, 30, mean_pairs=8)
    monkeypatch.setattr(dataset_folder, "_fingerprint", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_dataset(dataset, tmp_path / "s", source={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["flip", "cut", "remove", "empty"])
def test_a_file_that_changed_is_refused(converted: tuple[Dataset, Path], change: str) -> None:
    _, folder = converted
    for path in sorted(folder.glob("*.npy")):
        whole = path.read_bytes()
        if change == "flip":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        elif change == "cut":
            path.write_bytes(whole[:-4])
        elif change == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
        with pytest.raises(InputError, match="a dataset as `autosample-tf data convert` writes"):
            formats.read(folder)
        path.write_bytes(whole)
    formats.read(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 2}', "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CONVERTED_FOLDER.manifest).write_text(text)
    with pytest.raises(InputError, match="writes it in"):
        formats.read(tmp_path)
