"""What is known of the published datasets, and the folders that it travels in."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from autosample_tf.errors import InputError
from autosample_tf.published.facts import FOLDER, PUBLISHED, digest, facts, folder_name

NAMES = pytest.mark.parametrize("name", PUBLISHED)


def folder_of(name: str) -> Path:
    return FOLDER / folder_name(name)


def test_every_folder_is_a_known_dataset() -> None:
    folders = {path.parent.name for path in FOLDER.glob("*/facts.json")}
    assert folders == set(map(folder_name, PUBLISHED))
    assert list(PUBLISHED) == sorted(PUBLISHED)


def test_published_facts() -> None:
    # From the files themselves, or (amazon-book) as published.
    assert {name: facts(name).files["train.txt"].md5 for name in ("gowalla", "amazon-book")} == {
        "gowalla": ("5eec1eb2edb8dd648377d348b8e136cf",),
        "amazon-book": ("c916ecac04ca72300a016228258b41ed",),
    }
    sizes = {
        name: (facts(name).users, facts(name).items, *(f.pairs for f in facts(name).files.values()))
        for name in ("amazon-book", "gowalla", "yelp2018", "amazon-book-kgat", "ml-1m-m1")
    }
    assert sizes == {
        "amazon-book": (52_643, 91_599, 2_380_730, 603_378),
        "gowalla": (29_858, 40_981, 810_128, 217_242),
        "yelp2018": (31_668, 38_048, 1_237_259, 324_147),
        "amazon-book-kgat": (70_679, 24_915, 652_514, 193_920),
        "ml-1m-m1": (6_022, 3_043, 796_244, 99_455, 99_455),
    }


def test_facts_of_no_published_dataset_are_refused() -> None:
    with pytest.raises(InputError, match="'synthetic'. Known: amazon-baby-dens, amazon-beauty-m1"):
        facts("synthetic")


@NAMES
def test_a_description_says_what_the_facts_say(name: str) -> None:
    known = facts(name)
    readme = (folder_of(name) / "README.md").read_text(encoding="utf-8")
    for count in (known.users, known.items, *(file.pairs for file in known.files.values())):
        assert f"{count:,}" in readme
    for file in known.files.values():
        assert all(md5 in readme for md5 in file.md5)
    assert name in readme
    assert f'tfds.load("{folder_name(name)}")' in readme
    assert (f"data fetch {name}" in readme) == known.can_be_fetched
    citations = (folder_of(name) / "CITATIONS.bib").read_text(encoding="utf-8")
    assert re.search(r"^@\w+\{\w+,$", citations, re.MULTILINE)


@NAMES
def test_facts_are_well_formed(name: str) -> None:
    known = facts(name)
    assert known.name == name
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for f in known.files.values() for md5 in f.md5)
    assert set(known.addresses) <= set(known.files)
    assert all(re.fullmatch("[0-9a-f]{64}", own.sha256) for own in known.addresses.values())
    urls = [own.url for own in known.addresses.values()]
    urls += [known.archive] if known.archive else []
    for url in urls:  # of a commit: what lies there cannot change
        assert re.fullmatch(r"https://(raw\.githubusercontent|github)\.com/[\w./-]+", url)
        assert re.search("/[0-9a-f]{40}/", url)
        assert url.split("/")[4] in known.source


@NAMES
def test_an_address_has_the_checksum_of_the_file(data_root: Path, name: str) -> None:
    known = facts(name)
    for file, address in known.addresses.items():
        path = data_root / name / file
        if not path.is_file():
            pytest.skip(f"no {path}")
        content = path.read_bytes()
        if digest(path, "md5") != known.files[file].md5[0]:  # another form of the same pairs
            content = with_lone_users(content)
        assert len(content) == address.size
        assert hashlib.sha256(content).hexdigest() == address.sha256
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == known.files[file].md5[0]


def with_lone_users(content: bytes) -> bytes:
    """KGAT's own test file, from the form without the lines of users that have no test pair."""
    lines = {int(line.split()[0]): line for line in content.splitlines()}
    users = range(facts("amazon-book-kgat").users)
    return b"".join(lines.get(user, b"%d " % user) + b"\n" for user in users)
