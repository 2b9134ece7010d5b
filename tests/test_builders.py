"""The TFDS builders: TFDS's own tests on our dummy data, and what is checked before reading."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from unittest import mock

import pytest
import tensorflow_datasets as tfds
from misbehaving_server import Server, whole
from published_files import FILES, TINY, at_addresses, md5, write_files

import autosample_tf.datasets  # registers them
from autosample_tf.published.builders import PublishedBuilder
from autosample_tf.published.facts import FOLDER, PUBLISHED, Facts, File, folder_name

EXAMPLES = {  # how many the dummy data have
    "train.txt": ("train", 3),
    "valid.txt": ("validation", 2),
    "test.txt": ("test", 2),
    "ml-100k.inter": ("train", 3),
}


def builder_of(name: str) -> type[PublishedBuilder]:
    folder = folder_name(name)
    module = f"{autosample_tf.datasets.__name__}.{folder}.{folder}_dataset_builder"
    return importlib.import_module(module).Builder


def of_dummy_data(known: Facts) -> Facts:
    """The facts, as if the dummy data were what was published."""
    dummy = FOLDER / folder_name(known.name) / "dummy_data"
    files = {
        name: File(file.pairs, (md5((dummy / name).read_bytes()),))
        for name, file in known.files.items()
    }
    return dataclasses.replace(known, files=files)


def tfds_tests(name: str) -> type[tfds.testing.DatasetBuilderTestCase]:
    """TFDS's tests of a builder."""
    builder = builder_of(name)

    class Tests(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = builder
        SPLITS = dict(EXAMPLES[file] for file in builder.known.files)  # noqa: RUF012

        def setUp(self) -> None:
            super().setUp()
            dummy = mock.patch.object(builder, "known", of_dummy_data(builder.known))
            dummy.start()
            self.patchers.append(dummy)

    return Tests


TestAmazonBabyDens = tfds_tests("amazon-baby-dens")
TestAmazonBeautyM1 = tfds_tests("amazon-beauty-m1")
TestAmazonBook = tfds_tests("amazon-book")
TestAmazonBookFromTest = tfds_tests("amazon-book-from-test")
TestAmazonBookKgat = tfds_tests("amazon-book-kgat")
TestGowalla = tfds_tests("gowalla")
TestLastfmLightgcn = tfds_tests("lastfm-lightgcn")
TestMl100k = tfds_tests("ml-100k")
TestMl1mM1 = tfds_tests("ml-1m-m1")
TestYelp2018 = tfds_tests("yelp2018")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `catalog.load` looks for datasets: a folder of the test's own."""
    monkeypatch.setenv("AUTOSAMPLE_TF_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(tmp_path: Path, manual_dir: Path | None = None) -> dict[str, list[tuple[int, list[int]]]]:
    """`tfds.load("gowalla")`: each user's items, by split."""
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    splits = tfds.load(
        "gowalla",
        data_dir=tmp_path / "tfds",
        download_and_prepare_kwargs={"download_config": config},
    )
    return {
        split: [(int(row["user_id"]), row["item_ids"].tolist()) for row in tfds.as_numpy(rows)]
        for split, rows in splits.items()
    }


IN_FILES = {"train": [(0, [0, 1]), (1, [2])], "test": [(0, [2]), (1, [0])]}


def test_all_are_registered_after_importing_the_package() -> None:
    assert set(map(folder_name, PUBLISHED)) <= set(tfds.list_builders())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_builder_brings_its_description_citations_and_checksums(name: str) -> None:
    builder, folder = builder_of(name), FOLDER / folder_name(name)
    assert builder.get_metadata().description == (folder / "README.md").read_text("utf-8")
    assert builder.get_metadata().citation == (folder / "CITATIONS.bib").read_text("utf-8")
    registered = {
        url: (int(own.size), own.checksum) for url, own in (builder.url_infos or {}).items()
    }
    addresses = builder.known.addresses.values()
    assert registered == {own.url: (own.size, own.sha256) for own in addresses}
    assert all(
        md5 in builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        for f in builder.known.files.values()
        for md5 in f.md5
    )


def test_files_in_manual_dir_are_read(tmp_path: Path, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(builder_of("gowalla"), "known", TINY)
    write_files(tmp_path / "mine" / "gowalla")
    assert load(tmp_path, tmp_path / "mine") == IN_FILES


def test_files_where_load_finds_them_are_read(tmp_path: Path, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(builder_of("gowalla"), "known", TINY)
    write_files(cache / "gowalla")
    assert load(tmp_path) == IN_FILES


def test_else_files_are_fetched(server: Server, tmp_path: Path, cache: Path, monkeypatch) -> None:
    known = at_addresses({name: server.url(f"/{name}", whole(FILES[name])) for name in FILES})
    monkeypatch.setattr(builder_of("gowalla"), "known", known)
    assert load(tmp_path) == IN_FILES
    assert (tmp_path / "tfds" / "downloads" / "gowalla" / "test.txt").is_file()


def test_other_files_are_refused(tmp_path: Path, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(builder_of("gowalla"), "known", TINY)
    write_files(cache / "gowalla", {**FILES, "test.txt": b"5 6 "})
    with pytest.raises(ValueError, match=f"MD5 is {md5(FILES['test.txt'])}.*{md5(b'5 6 ')}"):
        load(tmp_path)


def test_without_files_or_addresses_it_says_what_to_put_where(
    tmp_path: Path, cache: Path, monkeypatch
) -> None:
    monkeypatch.setattr(builder_of("gowalla"), "known", TINY)
    with pytest.raises(ValueError, match="No address of gowalla could be verified. By hand: get"):
        load(tmp_path)


def test_real_files_give_the_published_counts(data_root: Path, tmp_path: Path, cache: Path) -> None:
    config = tfds.download.DownloadConfig(manual_dir=data_root)
    splits = tfds.load(
        "amazon_baby_dens",
        data_dir=tmp_path,
        download_and_prepare_kwargs={"download_config": config},
    )
    known = builder_of("amazon-baby-dens").known
    for split, rows in splits.items():
        pairs = sum(len(row["item_ids"]) for row in tfds.as_numpy(rows))
        assert pairs == known.files[f"{split}.txt"].pairs
