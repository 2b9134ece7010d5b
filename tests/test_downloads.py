"""Downloads from a server that stalls, cuts off, redirects, lies and sends wrong bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import socket
from pathlib import Path

import pytest
from misbehaving_server import (
    Server,
    cut_off,
    dripping,
    elsewhere,
    promising,
    stalling,
    status,
    whole,
    without_ranges,
)

from autosample_tf.errors import InputError
from autosample_tf.published.downloads import PATIENCE, Patience, download

BODY = random.Random(0).randbytes(300_000)
KNOWN = {"size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
QUICK = dataclasses.replace(PATIENCE, tries=3, pause=0.01, longest_pause=0.05)
IMPATIENT = dataclasses.replace(QUICK, tries=20, stall=0.3)  # a busy machine may stall, too


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def part(path: Path) -> Path:
    return path.with_name("file.part")


def refusal(url: str, path: Path, *, patience: Patience = QUICK, **known: object) -> str:
    """The one line with which a download ends, which leaves no file."""
    with pytest.raises(InputError) as raised:
        download(url, path, patience=patience, **known)
    assert not path.exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.asked]


def test_a_file_is_downloaded_and_progress_told(server: Server, path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    download(server.url("/a", whole(BODY)), path, **KNOWN, report=lambda *all: told.append(all))
    assert path.read_bytes() == BODY
    assert not part(path).exists()
    assert told[-1] == ("file", len(BODY), len(BODY))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize("known", [KNOWN, {}])
def test_what_is_cut_off_is_gone_on_with(server: Server, path: Path, known: dict) -> None:
    url = server.url("/a", cut_off(BODY, 100_000), cut_off(BODY, 50_000), whole(BODY))
    download(url, path, **known, patience=QUICK)
    assert path.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=100000-", "bytes=150000-"]


def test_what_stays_cut_off_is_kept_for_another_call(server: Server, path: Path) -> None:
    url = server.url("/a", cut_off(BODY, 100_000), cut_off(BODY, 0))
    message = refusal(url, path, **KNOWN)
    assert "at the last of 3 tries; 100000 bytes of it are kept" in message
    assert "Run it again to go on where it stopped" in message
    server.url("/a", whole(BODY))
    download(url, path, **KNOWN)
    assert path.read_bytes() == BODY
    assert ranges(server)[-1] == "bytes=100000-"


def test_a_server_without_ranges_begins_anew(server: Server, path: Path) -> None:
    url = server.url("/a", cut_off(BODY, 100_000), without_ranges(BODY))
    download(url, path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


def test_a_range_that_is_another_than_asked_for_is_not_added(server: Server, path: Path) -> None:
    def shifted(request) -> None:
        request.start(206, Content_Range=f"bytes 7-{len(BODY) - 1}/{len(BODY)}", Content_Length=9)
        request.wfile.write(b"nonsense!")

    url = server.url("/a", cut_off(BODY, 100_000), shifted, whole(BODY))
    download(url, path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


def test_a_part_that_is_whole_already_is_taken(server: Server, path: Path) -> None:
    part(path).write_bytes(BODY)
    download(server.url("/a", whole(BODY)), path, **KNOWN)
    assert path.read_bytes() == BODY
    assert not server.asked


def test_a_whole_part_of_unknown_size_is_taken(server: Server, path: Path) -> None:
    part(path).write_bytes(BODY)
    download(server.url("/a", whole(BODY)), path)
    assert path.read_bytes() == BODY
    assert ranges(server) == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("left", [b"another file's beginning", BODY + b"more", b"x" * len(BODY)])
def test_a_part_of_another_file_is_left_behind(server: Server, path: Path, left: bytes) -> None:
    part(path).write_bytes(left)
    download(server.url("/a", whole(BODY)), path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


def test_a_stall_ends_and_is_tried_again(server: Server, path: Path) -> None:
    url = server.url("/a", stalling(BODY, 1000), whole(BODY))
    download(url, path, **KNOWN, patience=IMPATIENT)
    assert path.read_bytes() == BODY
    assert ranges(server)[:2] == [None, "bytes=1000-"]


def test_a_stall_before_the_first_byte_ends(server: Server, path: Path) -> None:
    url = server.url("/a", lambda request: request.server.over.wait(60), whole(BODY))
    download(url, path, **KNOWN, patience=IMPATIENT)
    assert path.read_bytes() == BODY


def test_dripping_is_a_stall(server: Server, path: Path) -> None:
    patience = dataclasses.replace(IMPATIENT, tries=1, stall=3)
    message = refusal(server.url("/a", dripping(BODY, 0.02)), path, **KNOWN, patience=patience)
    assert "bytes in 3 seconds" in message


def test_redirects_are_followed(server: Server, path: Path) -> None:
    server.url("/there", whole(BODY))
    server.url("/b", elsewhere("/there"))
    download(server.url("/a", elsewhere("/b")), path, **KNOWN)
    assert path.read_bytes() == BODY


def test_endless_redirects_are_refused_at_once(server: Server, path: Path) -> None:
    message = refusal(server.url("/a", elsewhere("/a")), path, **KNOWN)
    assert "received more than 5 redirects" in message
    assert len(server.asked) == 6


def test_a_redirects_endless_body_is_not_read(server: Server, path: Path) -> None:
    def endless(request) -> None:
        request.start(302, Location="/there")
        while not request.server.over.is_set():
            request.wfile.write(bytes(1000))

    server.url("/there", whole(BODY))
    download(server.url("/a", endless), path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/a"])
def test_redirects_to_what_is_no_http_are_refused(
    server: Server, path: Path, location: str
) -> None:
    assert "InvalidSchema" in refusal(server.url("/a", elsewhere(location)), path, **KNOWN)


@pytest.mark.parametrize("length", [1000, len(BODY) + 1000, None])
def test_a_wrong_length_is_seen_through(server: Server, path: Path, length: int | None) -> None:
    url = server.url("/a", promising(BODY, length), whole(BODY))
    download(url, path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


def test_an_endless_file_ends_whatever_it_promises(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autosample_tf.published.downloads._LARGEST", 1_000_000)

    def endless(request) -> None:
        request.start(200, Content_Length=10**15)
        while not request.server.over.is_set():
            request.wfile.write(bytes(10_000))

    assert "1000000 bytes at most" in refusal(server.url("/a", endless), path)
    assert not part(path).exists()


@pytest.mark.parametrize("sent", [b"5\r\nhello\r\nzz\r\n", b"ffff\r\nhello", b"-5\r\n"])
def test_broken_chunks_are_tried_again(server: Server, path: Path, sent: bytes) -> None:
    def chunked(request) -> None:
        request.start(200, Transfer_Encoding="chunked")
        request.wfile.write(sent)

    download(server.url("/a", chunked, whole(BODY)), path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


def test_what_is_no_http_is_tried_again(server: Server, path: Path) -> None:
    url = server.url("/a", lambda request: request.wfile.write(b"\0\xffhello"), whole(BODY))
    download(url, path, **KNOWN, patience=QUICK)
    assert path.read_bytes() == BODY


def test_more_than_the_file_has_is_refused(server: Server, path: Path) -> None:
    message = refusal(server.url("/a", without_ranges(BODY * 2)), path, **KNOWN)
    assert f"Expected {len(BODY)} bytes at most" in message
    assert not part(path).exists()


def test_wrong_bytes_are_refused_with_both_checksums(server: Server, path: Path) -> None:
    wrong = b"x" * len(BODY)
    message = refusal(server.url("/a", whole(wrong)), path, **KNOWN)
    assert f"whose SHA-256 is {KNOWN['sha256']}" in message
    assert f"received one whose SHA-256 is {hashlib.sha256(wrong).hexdigest()}" in message
    assert not part(path).exists()


@pytest.mark.parametrize("code", [404, 403, 410, 501])
def test_what_is_not_there_is_not_tried_again(server: Server, path: Path, code: int) -> None:
    assert f"received status {code}" in refusal(server.url("/a", status(code)), path, **KNOWN)
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_passing_faults_are_tried_again_with_back_off(
    server: Server, path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("autosample_tf.published.downloads.time.sleep", pauses.append)
    url = server.url("/a", *[status(code)] * 3, status(code, Retry_After=40), whole(BODY))
    download(url, path, **KNOWN)
    assert path.read_bytes() == BODY
    assert pauses == [1, 2, 4, 40]


def test_no_pause_is_longer_than_patience_has_it(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("autosample_tf.published.downloads.time.sleep", pauses.append)
    download(server.url("/a", status(503, Retry_After=9999), whole(BODY)), path, **KNOWN)
    assert pauses == [PATIENCE.longest_pause]


def test_a_closed_port_is_tried_again_and_told(path: Path) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        message = refusal(f"http://127.0.0.1:{closed.getsockname()[1]}/a", path, **KNOWN)
    assert "no connection" in message
    assert "at the last of 3 tries; 0 bytes" in message


def test_an_unknown_host_is_refused_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("autosample_tf.published.downloads.time.sleep", pauses.append)
    assert "no network, or no such host" in refusal("http://nowhere.invalid/a", path, **KNOWN)
    assert not pauses


def test_a_body_that_claims_to_be_zipped_is_taken_for_what_it_is(
    server: Server, path: Path
) -> None:
    def answer(request) -> None:
        request.start(200, Content_Length=len(BODY), Content_Encoding="gzip")
        request.wfile.write(BODY)

    download(server.url("/a", answer), path, **KNOWN)
    assert path.read_bytes() == BODY
