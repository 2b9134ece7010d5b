"""Unpacking: what is found, and archives that are broken or dangerous."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from archive_files import write_tar, write_zip

from autosample_tf.errors import InputError
from autosample_tf.published import archives
from autosample_tf.published.archives import unpack

NAMES = ("train.txt", "test.txt")
FILES = {"data/train.txt": b"0 1\n", "data/test.txt": b"0 2\n", "data/readme": b"hello"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The archive's own folder; nothing outside it may be touched."""
    inner = tmp_path / "inner"
    inner.mkdir()
    yield inner
    assert os.listdir(tmp_path) == ["inner"]


def refusal(archive: Path) -> str:
    with pytest.raises(InputError) as raised:
        unpack(archive, NAMES, lambda name, path: True)
    message = str(raised.value)
    assert "\n" not in message
    assert "it is not unpacked" in message
    return message


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_files_are_found_in_any_folder_of_the_archive(folder: Path, write: Callable) -> None:
    write(folder / "a", list(FILES.items()))
    seen = []
    unpack(folder / "a", NAMES, lambda name, path: seen.append((name, path)) or True)
    assert seen == [(name, folder / name) for name in NAMES]
    assert {path.name: path.read_bytes() for path in folder.glob("*.txt")} == {
        "train.txt": b"0 1\n",
        "test.txt": b"0 2\n",
    }


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_the_one_that_is_accepted_is_kept_of_several(folder: Path, write: Callable) -> None:
    members = [("a/train.txt", b"x"), ("b/train.txt", b"y"), ("c/train.txt", b"z")]
    write(folder / "a", members)
    unpack(folder / "a", NAMES, lambda name, path: path.read_bytes() == b"y")
    assert (folder / "train.txt").read_bytes() == b"y"


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_what_is_not_accepted_is_deleted(folder: Path, write: Callable) -> None:
    write(folder / "a", list(FILES.items()))
    unpack(folder / "a", NAMES, lambda name, path: False)
    assert os.listdir(folder) == ["a"]


def test_folders_are_no_files(folder: Path) -> None:
    write_zip(folder / "a", [("train.txt/", b""), ("data/train.txt", b"0 1\n")])
    unpack(folder / "a", NAMES, lambda name, path: True)
    assert (folder / "train.txt").read_bytes() == b"0 1\n"


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    "name",
    ["../train.txt", "a/../../train.txt", "/tmp/train.txt", "..\\train.txt", "C:\\train.txt"],
)
def test_paths_that_lead_outside_are_refused(folder: Path, write: Callable, name: str) -> None:
    write(folder / "a", [(name, b"0 1\n")])
    assert "which leads outside" in refusal(folder / "a")
    assert os.listdir(folder) == ["a"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(folder: Path, kind: bytes) -> None:
    write_tar(folder / "a", [("train.txt", b"")], kind)
    assert "'train.txt', which is a link or a device" in refusal(folder / "a")
    assert os.listdir(folder) == ["a"]


def test_links_in_a_zip_are_refused(folder: Path) -> None:
    write_zip(folder / "a", [("train.txt", b"/etc/hostname")], stat.S_IFLNK | 0o777)
    assert "which is a link or a device" in refusal(folder / "a")


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ["train.txt", "other.txt"])
def test_bombs_are_refused(
    folder: Path, write: Callable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_BYTES", 100_000)
    write(folder / "a", [(name, bytes(60_000)), ("b/" + name, bytes(60_000))])
    assert "more than 100000 bytes unpacked" in refusal(folder / "a")


def test_a_zip_that_lies_about_a_size_unpacks_no_more_than_it_says(folder: Path) -> None:
    write_zip(folder / "a", [("train.txt", bytes(1_000_000))])
    sizes = (1_000_000).to_bytes(4, "little")
    lying = (folder / "a").read_bytes().replace(sizes, (10).to_bytes(4, "little"))
    (folder / "a").write_bytes(lying)
    assert "BadZipFile" in refusal(folder / "a")
    assert os.listdir(folder) == ["a"]


def test_a_bomb_in_a_tars_headers_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_BYTES", 100_000)
    with tarfile.open(folder / "a", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("x" * 1_000_000))
    assert "more than 100000 bytes unpacked" in refusal(folder / "a")


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_too_many_members_are_refused(
    folder: Path, write: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 10)
    write(folder / "a", [(str(number), b"") for number in range(11)])
    assert "more than 10 members" in refusal(folder / "a")


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("kept", [0, 30, 0.5, 0.9])
def test_what_was_cut_short_is_refused(folder: Path, write: Callable, kept: float) -> None:
    write(folder / "a", [("train.txt", os.urandom(50_000)), ("test.txt", os.urandom(50_000))])
    content = (folder / "a").read_bytes()
    (folder / "a").write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    refusal(folder / "a")
    assert all(path.stat().st_size == 50_000 for path in folder.glob("*.txt"))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", os.urandom(3000)])
def test_what_is_no_archive_is_refused(folder: Path, content: bytes) -> None:
    (folder / "a").write_bytes(content)
    refusal(folder / "a")


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_any_damage_is_refused_or_harmless(folder: Path, write: Callable) -> None:
    write(folder / "a", [("train.txt", b"0 1 2\n" * 50), ("data/test.txt", b"0 3\n" * 50)])
    content, rng = (folder / "a").read_bytes(), np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=3):
            damaged[place] = rng.integers(256)
        (folder / "a").write_bytes(damaged)
        with suppress(InputError):  # nothing else; some damage leaves the files whole
            unpack(folder / "a", NAMES, lambda name, path: True)


def test_a_full_disk_is_no_fault_of_the_archives(folder: Path, monkeypatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_zip(folder / "a", list(FILES.items()))
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(folder / "a", NAMES, lambda name, path: True)
