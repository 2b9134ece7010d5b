"""What was read before is not read again, and is never anything but what the files say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from feedback import rows_of, write

from autosample_tf.interactions import Dataset
from autosample_tf.reading import cache, formats
from autosample_tf.reading.table_options import TableOptions

ROWS = rows_of(40, 30)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that keeps what is read at once, too."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_WORTH_KEEPING", 0)
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, and not found in the cache."""
    seen, read_part = [], formats.read_part

    def noted(path: Path, options: TableOptions) -> object:
        seen.append(path.name)
        return read_part(path, options)

    monkeypatch.setattr(formats, "read_part", noted)
    return seen


def read(path: Path, *, seed: int = 0, **options: object) -> Dataset:
    return formats.read(path, TableOptions(**options), seed=seed)


def test_a_file_is_read_once(tmp_path: Path, reads: list, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    first = read(path)
    caplog.clear()
    second = read(path)
    assert reads == ["t.csv"]
    assert second.checksum() == first.checksum()
    assert second.counts() == first.counts()
    assert (second.name, second.time_span) == ("t", first.time_span)
    assert "which the split random ignores" in caplog.text  # warned of again


def test_other_options_are_another_entry(tmp_path: Path, reads: list) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    variants = [
        {},
        {"since": "1600000030"},
        {"min_rating": 2},
        {"split_by": "leave-last"},
        {"seed": 1},
    ]
    sums = [read(path, **options).checksum() for options in variants]
    assert [read(path, **options).checksum() for options in variants] == sums
    assert len(set(sums)) == len(reads) == len(variants)


@pytest.mark.parametrize("change", ["content", "time only", "another part"])
def test_changed_files_are_read_again_and_take_the_entrys_place(
    tmp_path: Path, place: Path, reads: list, change: str
) -> None:
    folder = tmp_path / "log"
    path = write(folder, "a.csv", ROWS[1:])
    read(folder)
    if change == "content":
        write(folder, "a.csv", ROWS[:-1])
    elif change == "time only":
        os.utime(path, ns=(1, 1))
    else:
        write(folder, "b.csv", ROWS[:1])
    read(folder)
    read(folder)
    assert len(reads) == (3 if change == "another part" else 2)
    assert len(os.listdir(place)) == (2 if change == "another part" else 1)


@pytest.mark.parametrize("what", ["dataset.json", "train.items.npy", "user_ids.npy", "folder"])
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_a_broken_entry_is_read_anew(
    tmp_path: Path, place: Path, reads: list, what: str, how: str
) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    wanted = read(path).checksum()
    (entry,) = place.iterdir()
    broken = entry / what
    if what == "folder":
        shutil.rmtree(entry)
        if how == "changed":
            entry.write_text("a file")
    elif how == "removed":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[:-7] + b"changed")
    assert read(path).checksum() == wanted
    assert len(reads) == 2


def test_a_broken_entry_is_mended(tmp_path: Path, place: Path, reads: list) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    read(path)
    (entry,) = place.iterdir()
    (entry / "train.items.npy").write_bytes(b"")
    read(path)
    read(path)
    assert len(reads) == 2


def test_what_is_in_use_stays_readable_when_its_entry_goes(tmp_path: Path, place: Path) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    read(path)
    mapped = read(path)
    wanted = mapped.checksum()
    write(tmp_path, "t.csv", ROWS[:-3])
    read(path)
    shutil.rmtree(place)
    assert mapped.checksum() == wanted


@pytest.mark.parametrize("off", ["variable", "read-only place", "quick"])
def test_without_a_cache_files_are_read_each_time(
    tmp_path: Path, place: Path, reads: list, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    if off == "variable":
        monkeypatch.setenv(cache.VARIABLE, "off")
    elif off == "quick":
        monkeypatch.setattr(cache, "_WORTH_KEEPING", 3600)
    else:
        monkeypatch.setenv(cache.VARIABLE, str(write(tmp_path, "file.csv", ROWS)))
    path = write(tmp_path, "t.csv", ROWS)
    assert read(path).checksum() == read(path).checksum()
    assert len(reads) == 2
    assert not place.exists()


def test_the_entries_that_were_not_used_for_longest_go_first(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path, f"{name}.csv", ROWS) for name in "abc"]
    read(paths[0])
    (entry,) = place.iterdir()
    size = sum(path.stat().st_size for path in entry.iterdir())
    monkeypatch.setattr(cache, "_MOST_BYTES", int(2.5 * size))
    os.utime(entry, (1, 1))
    read(paths[1])
    read(paths[0])  # is used: now the other one is the oldest
    for other in place.iterdir():
        if other != entry:
            os.utime(other, (2, 2))
    abandoned = place / f".{'0' * 32}.0.partial"
    foreign = place / "somebody's own"
    for folder in (abandoned, foreign):
        folder.mkdir()
        os.utime(folder, (3, 3))
    read(paths[2])
    foreign.rmdir()  # which is still there, empty
    names = {json.loads((path / "dataset.json").read_text())["name"] for path in place.iterdir()}
    assert names == {"a", "c"}


def test_several_processes_at_once_all_read_the_same(tmp_path: Path, place: Path) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    code = (
        "import sys; from autosample_tf.reading import cache, formats; cache._WORTH_KEEPING = 0\n"
        "for _ in range(9): print(formats.read(sys.argv[1]).checksum())\n"
        "import shutil; shutil.rmtree(sys.argv[2], ignore_errors=True)\n"
        "for _ in range(3): print(formats.read(sys.argv[1]).checksum())"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, path, place], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    outs = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], outs
    assert {line for out, _ in outs for line in out.split()} == {read(path).checksum()}


def test_a_lightgcn_folder_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.txt").write_text("0 1 2\n1 3\n")
    (tmp_path / "test.txt").write_text("0 3\n")
    wanted = read(tmp_path).checksum()
    monkeypatch.setattr(formats, "read_lightgcn", None)
    assert read(tmp_path).checksum() == wanted


def test_what_is_found_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", ROWS)
    assert not isinstance(read(path).train.items.base, np.memmap)
    assert isinstance(read(path).train.items.base, np.memmap)
