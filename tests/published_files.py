"""A published dataset of five pairs, and answers that have its files."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from autosample_tf.published.facts import Address, Facts, File

FILES = {"train.txt": b"0 0 1\n1 2\n", "test.txt": b"0 2\n1 0\n"}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


TINY = Facts(
    name="gowalla",
    title="a stand-in",
    users=2,
    items=3,
    files={
        name: File(pairs, (md5(FILES[name]),))
        for name, pairs in (("train.txt", 3), ("test.txt", 2))
    },
    source="GitHub's someone/something",
    licence="none",
)


def at_addresses(urls: dict[str, str]) -> Facts:
    """The dataset, each of its files at a URL."""
    addresses = {
        name: Address(url, len(FILES[name]), hashlib.sha256(FILES[name]).hexdigest())
        for name, url in urls.items()
    }
    return dataclasses.replace(TINY, addresses=addresses)


def write_files(folder: Path, files: dict[str, bytes] = FILES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text)
