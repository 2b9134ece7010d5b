"""MovieLens through TFDS's builder, from an archive of ours in GroupLens' layout."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from misbehaving_server import Server, whole
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.utils import Size
from tensorflow_datasets.structured.movielens import Movielens, MovieLensConfig

from autosample_tf.catalog import fetch, load
from autosample_tf.errors import InputError
from autosample_tf.published import movielens
from autosample_tf.published.movielens import NAMES, VERSIONS, Version
from autosample_tf.reading.formats import read

Rating = tuple[str, str, str, str]  # user, item, rating, time, as u.data has them

RATINGS = [
    (str(user), str(item), str(1 + (user + item) % 5), str(880_000_000 + item))
    for user in range(1, 5)
    for item in range(1, 11)
]
UNKNOWN_GENRE = "1" + "|0" * 18


def archive_of(ratings: list[Rating]) -> bytes:
    """ml-100k.zip, with made-up films and people."""
    users, items = ({row[column] for row in ratings} for column in (0, 1))
    files = {
        "u.data": ["\t".join(row) for row in ratings],
        "u.item": [f"{item}|Film {item}|01-Jan-1995||http://|{UNKNOWN_GENRE}" for item in items],
        "u.user": [f"{user}|30|F|other|12345" for user in users],
    }
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        for name, lines in files.items():
            archive.writestr(f"ml-100k/{name}", "\n".join(lines) + "\n")
    return out.getvalue()


@pytest.fixture
def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes an archive the one that TFDS knows as ml-100k.zip, on the local server."""

    def published(ratings: list[Rating], *, sent: bytes | None = None) -> str:
        content = archive_of(ratings)
        url = server.url("/ml-100k.zip", whole(content if sent is None else sent))
        known = UrlInfo(Size(len(content)), hashlib.sha256(content).hexdigest(), "ml-100k.zip")
        monkeypatch.setattr(MovieLensConfig, "download_url", url)
        monkeypatch.setattr(Movielens, "url_infos", {url: known})
        users = len({row[0] for row in ratings})
        monkeypatch.setitem(
            VERSIONS, "movielens-100k", Version("100k-ratings", users, len(ratings))
        )
        return url

    return published


def test_a_version_is_fetched_and_read_as_a_table(publish, server: Server, tmp_path: Path) -> None:
    publish(RATINGS)
    told = []
    folder = fetch("movielens-100k", tmp_path, report=lambda *progress: told.append(progress))
    assert sorted(os.listdir(folder)) == ["ml-100k.zip", "ratings.csv", "ratings.csv.sha256"]
    assert [told[0][0], told[-1][0]] == ["ml-100k.zip", "ratings.csv"]
    dataset = load("movielens-100k", data_dir=tmp_path)
    assert dataset.name == "movielens-100k"
    assert (dataset.num_users, dataset.num_items) == (4, 10)
    assert dataset.train.num_pairs + dataset.test.num_pairs == len(RATINGS)
    liked = load("movielens-100k", data_dir=tmp_path, label_column="rating", positive_from=4)
    assert liked.given.num_pairs == sum(int(rating) < 4 for _, _, rating, _ in RATINGS)


def test_the_table_has_every_rating(publish, tmp_path: Path) -> None:
    publish(RATINGS)
    table = fetch("movielens-100k", tmp_path) / "ratings.csv"
    header, *rows = table.read_text().replace('"', "").splitlines()
    assert header == "user_id,item_id,rating,timestamp"
    assert sorted(row.split(",") for row in rows) == sorted(map(list, RATINGS))


def test_a_version_that_is_there_is_not_fetched_again(
    publish, server: Server, tmp_path: Path
) -> None:
    publish(RATINGS)
    fetch("movielens-100k", tmp_path)
    asked = len(server.asked)
    fetch("movielens-100k", tmp_path)
    assert len(server.asked) == asked


@pytest.mark.parametrize("noted", [True, False])
def test_another_table_is_refused(publish, tmp_path: Path, noted: bool) -> None:
    publish(RATINGS)
    table = fetch("movielens-100k", tmp_path) / "ratings.csv"
    table.write_text("user_id,item_id,rating,timestamp\n1,1,1,1\n")
    if not noted:
        table.with_name("ratings.csv.sha256").unlink()
    for ask in (fetch, lambda name, place: load(name, data_dir=place)):
        with pytest.raises(InputError, match="Delete it and fetch it again"):
            ask("movielens-100k", tmp_path)


def test_an_archive_put_there_by_hand_is_taken(publish, server: Server, tmp_path: Path) -> None:
    publish(RATINGS)
    archive = tmp_path / "movielens-100k" / "ml-100k.zip"
    archive.parent.mkdir()
    archive.write_bytes(archive_of(RATINGS) + b"x")
    with pytest.raises(InputError, match="Delete it to have it downloaded"):
        fetch("movielens-100k", tmp_path)
    archive.write_bytes(archive_of(RATINGS))
    fetch("movielens-100k", tmp_path)
    assert not server.asked


def test_another_archive_is_refused_with_both_checksums(publish, tmp_path: Path) -> None:
    content = archive_of(RATINGS)
    wrong = content[:-1] + b"x"
    publish(RATINGS, sent=wrong)
    with pytest.raises(InputError) as raised:
        fetch("movielens-100k", tmp_path)
    for sent in (content, wrong):
        assert hashlib.sha256(sent).hexdigest() in str(raised.value)
    assert "By hand: put the archive" in str(raised.value)


def test_other_counts_are_refused(publish, tmp_path: Path, monkeypatch) -> None:
    publish(RATINGS)
    monkeypatch.setitem(VERSIONS, "movielens-100k", Version("100k-ratings", 4, 41))
    with pytest.raises(InputError, match="Expected 4 users and 41 ratings.*received 4 and 40"):
        fetch("movielens-100k", tmp_path)
    assert os.listdir(tmp_path / "movielens-100k") == ["ml-100k.zip"]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_fetched_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"Run `autosample-tf data fetch {name}`"):
        load(name, data_dir=tmp_path)


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'movielens-2m'. Known: movielens-100k"):
        movielens.fetch("movielens-2m", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_as_tfds_describes_them(name: str) -> None:
    version = VERSIONS[name]
    config = Movielens.builder_configs[version.config]
    assert f"{version.ratings:,}" in config.description
    assert f"{version.users:,} " in config.description.replace("\n", " ")
    assert Movielens.url_infos[config.download_url].filename.endswith(".zip")


def test_real_ratings_are_those_of_recboles_table(publish, data_root: Path, tmp_path: Path) -> None:
    table = data_root / "ml-100k" / "ml-100k.inter"
    publish([tuple(line.split("\t")) for line in table.read_text().splitlines()[1:]])
    fetch("movielens-100k", tmp_path)
    through_tfds = load("movielens-100k", data_dir=tmp_path)
    assert through_tfds.checksum() == read(table).checksum()
