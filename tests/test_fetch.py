"""Fetching: what ends up where, and what an interrupted or refused fetch leaves behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archive_files import write_tar, write_zip
from filelock import FileLock
from misbehaving_server import Server, cut_off, stalling, status, whole
from published_files import FILES, TINY, at_addresses, md5, write_files

from autosample_tf import catalog
from autosample_tf.errors import InputError
from autosample_tf.published import facts as published
from autosample_tf.published.downloads import PATIENCE
from autosample_tf.published.facts import Facts, checked_folder
from autosample_tf.published.fetch import fetch

QUICK = dataclasses.replace(PATIENCE, tries=2, pause=0.01)


@pytest.fixture
def separate(server: Server) -> Facts:
    """The dataset with each file at an address."""
    return at_addresses({name: server.url(f"/{name}", whole(FILES[name])) for name in FILES})


def with_archive(server: Server, path: Path, content: bytes | None = None) -> Facts:
    """The dataset in an archive at an address."""
    url = server.url(f"/{path.name}", whole(path.read_bytes() if content is None else content))
    return dataclasses.replace(TINY, archive=url)


def refusal(known: Facts, place: Path) -> str:
    with pytest.raises(InputError) as raised:
        fetch(known, place, patience=QUICK)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def says_what_to_put_where(message: str, folder: Path) -> bool:
    wanted = (*FILES, *map(md5, FILES.values()), TINY.source, str(folder), "3 pairs", "3 items")
    return all(part in message for part in wanted)


def test_files_are_fetched_into_a_folder_of_the_name(separate: Facts, tmp_path: Path) -> None:
    told = set()
    folder = fetch(separate, tmp_path, report=lambda name, done, size: told.add(name))
    assert folder == tmp_path / "gowalla"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert os.listdir(tmp_path) == ["gowalla"]
    assert told == set(FILES)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_an_archive_is_unpacked(server: Server, tmp_path: Path, write) -> None:
    members = [(f"sets/gowalla/{name}", text) for name, text in FILES.items()]
    write(tmp_path / "all", [("sets/yelp/train.txt", b"other"), *members])
    folder = fetch(with_archive(server, tmp_path / "all"), tmp_path / "data")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert os.listdir(tmp_path / "data") == ["gowalla"]


def test_what_is_there_is_not_fetched_again(
    server: Server, separate: Facts, tmp_path: Path
) -> None:
    write_files(tmp_path / "gowalla")
    assert fetch(separate, tmp_path) == tmp_path / "gowalla"
    assert not server.asked


@pytest.mark.parametrize("place", [".", "gowalla"])
def test_only_what_is_missing_is_fetched(
    server: Server, separate: Facts, tmp_path: Path, place: str
) -> None:
    write_files(tmp_path / place, {"train.txt": FILES["train.txt"], "mine": b"stays"})
    folder = fetch(separate, tmp_path)
    assert folder == tmp_path / place
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert (folder / "mine").read_bytes() == b"stays"
    assert [path for path, _ in server.asked] == ["/test.txt"]


def test_other_files_in_the_place_are_refused_and_stay(separate: Facts, tmp_path: Path) -> None:
    write_files(tmp_path / "gowalla", {"train.txt": b"5 6\n"})
    message = refusal(separate, tmp_path)
    assert f"whose MD5 is {md5(FILES['train.txt'])}" in message
    assert f"received a file whose MD5 is {md5(b'5 6' + bytes([10]))}" in message
    assert "Move it away, or name another --data-dir" in message
    assert (tmp_path / "gowalla" / "train.txt").read_bytes() == b"5 6\n"


def test_without_an_address_it_says_what_to_put_where(tmp_path: Path) -> None:
    message = refusal(TINY, tmp_path)
    assert "No address of gowalla could be verified" in message
    assert says_what_to_put_where(message, tmp_path / "gowalla")
    assert not os.listdir(tmp_path)


def test_offline_it_says_what_to_put_where(tmp_path: Path) -> None:
    known = at_addresses({name: f"http://nowhere.invalid/{name}" for name in FILES})
    message = refusal(known, tmp_path)
    assert "no network" in message
    assert says_what_to_put_where(message, tmp_path / "gowalla")
    assert not os.listdir(tmp_path)


def test_one_file_that_cannot_be_had_leaves_nothing_that_looks_whole(
    server: Server, separate: Facts, tmp_path: Path
) -> None:
    server.url("/test.txt", status(404))
    message = refusal(separate, tmp_path)
    assert "received status 404" in message
    assert not (tmp_path / "gowalla").exists()
    server.url("/test.txt", whole(FILES["test.txt"]))
    assert checked_folder(separate, fetch(separate, tmp_path).parent)
    assert [path for path, _ in server.asked] == ["/train.txt", "/test.txt", "/test.txt"]


def test_what_was_cut_off_is_gone_on_with_in_the_next_call(
    server: Server, separate: Facts, tmp_path: Path
) -> None:
    server.url("/train.txt", cut_off(FILES["train.txt"], 4), cut_off(FILES["train.txt"], 0))
    assert "4 bytes of it are kept" in refusal(separate, tmp_path)
    assert not (tmp_path / "gowalla").exists()
    server.url("/train.txt", whole(FILES["train.txt"]))
    fetch(separate, tmp_path)
    assert ("/train.txt", "bytes=4-") in server.asked


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ["train.txt", "../train.txt", "trian.txt"])
def test_an_archive_of_other_files_is_refused(
    server: Server, tmp_path: Path, write, name: str
) -> None:
    write(tmp_path / "all", [(name, b"5 6\n")])
    message = refusal(with_archive(server, tmp_path / "all"), tmp_path / "data")
    assert says_what_to_put_where(message, tmp_path / "data" / "gowalla")
    assert not os.listdir(tmp_path / "data")


def test_a_broken_archive_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    write_zip(tmp_path / "all", list(FILES.items()))
    known = with_archive(server, tmp_path / "all", content=b"<html>try later</html>")
    assert "archive" in refusal(known, tmp_path / "data")
    assert not os.listdir(tmp_path / "data")
    with_archive(server, tmp_path / "all")
    assert checked_folder(known, fetch(known, tmp_path / "data").parent)


def test_a_second_process_is_refused(separate: Facts, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".fetching-gowalla.lock"):
        assert "received another one" in refusal(separate, tmp_path)


def test_a_killed_fetch_leaves_nothing_that_looks_whole(server: Server, tmp_path: Path) -> None:
    urls = {name: server.url(f"/{name}", stalling(FILES[name], 4)) for name in FILES}
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from published_files import at_addresses
from autosample_tf.published.fetch import fetch
fetch(at_addresses({urls!r}), {str(tmp_path)!r})
"""
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}
    )
    part = tmp_path / ".fetching-gowalla" / "train.txt.part"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (part.is_file() and part.stat().st_size == 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "gowalla").exists()
    known = at_addresses({name: server.url(f"/{name}", whole(FILES[name])) for name in FILES})
    assert checked_folder(known, fetch(known, tmp_path).parent)
    assert ("/train.txt", "bytes=4-") in server.asked


# --- the command


@pytest.fixture
def tiny(separate: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `gowalla` the dataset of five pairs on the local server."""
    monkeypatch.setattr(catalog, "facts", lambda name: separate)


def test_the_command_fetches_what_dataset_then_finds(tiny, command, tmp_path: Path) -> None:
    code, out, _ = command("data", "fetch", "gowalla", "--data-dir", tmp_path)
    assert code == 0
    assert out.splitlines() == [
        *(f"fetching {name} ({len(content)} bytes)" for name, content in FILES.items()),
        f"gowalla, checked: {tmp_path / 'gowalla'}",
    ]
    code, out, _ = command("data", "describe", "--dataset", "gowalla", "--data-dir", tmp_path)
    assert code == 0
    assert "train" in out


def test_the_command_prints_json(tiny, command, tmp_path: Path) -> None:
    code, out, _ = command("data", "fetch", "gowalla", "--data-dir", tmp_path, "--json")
    assert code == 0
    assert out == f'{{"name": "gowalla", "folder": "{tmp_path / "gowalla"}"}}\n'


def test_the_command_can_be_quiet(tiny, command, tmp_path: Path) -> None:
    assert command("data", "fetch", "gowalla", "--data-dir", tmp_path, "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("name", "part"), [("gowala", "Unknown dataset 'gowala'. Known: "), ("synthetic", "in code")]
)
def test_the_command_refuses_what_cannot_be_fetched(command, name: str, part: str) -> None:
    code, _, err = command("data", "fetch", name)
    assert code == 1
    assert part in err
    assert err.count("\n") == 1


def test_interrupting_the_command_says_how_to_go_on(command, monkeypatch, tmp_path: Path) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "fetch", interrupted)
    code, _, err = command("data", "fetch", "gowalla", "--data-dir", tmp_path)
    assert (code, err) == (1, "Error: Interrupted. Run it again to go on where it stopped.\n")


def test_the_list_says_how_to_get_each(command) -> None:
    code, out, _ = command("data", "list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines.keys() == set(catalog.KNOWN)
    for name in published.PUBLISHED:
        assert ("(data fetch)" in lines[name]) == published.facts(name).can_be_fetched
