"""Known datasets: their facts, the checks on their files, names against paths."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from autosample_tf import catalog
from autosample_tf.catalog import KNOWN, PUBLISHED, Facts, facts, load
from autosample_tf.errors import InputError
from autosample_tf.synthetic import synthetic

REPOSITORY = Path(__file__).parents[1]
FILES = {"train.txt": b"0 0 1\n1 2\n", "test.txt": b"0 2\n1 0\n"}
TINY = Facts(
    name="gowalla",
    title="a stand-in",
    users=2,
    items=3,
    train_pairs=3,
    test_pairs=2,
    train_md5=hashlib.md5(FILES["train.txt"], usedforsecurity=False).hexdigest(),
    test_md5=hashlib.md5(FILES["test.txt"], usedforsecurity=False).hexdigest(),
    homepage="someone/something",
    licence="none",
)


def write_files(folder, files=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text)


def refusal(*arguments, **options):
    """The one line with which `load` refuses."""
    with pytest.raises(InputError) as raised:
        load(*arguments, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def tiny(monkeypatch):
    """Makes `gowalla` a dataset of five pairs."""
    monkeypatch.setattr(catalog, "facts", lambda name: TINY)


def test_known_are_the_published_and_synthetic():
    assert set(KNOWN) == {"amazon-book", "gowalla", "yelp2018", "synthetic"}
    assert set(KNOWN) - set(PUBLISHED) == {"synthetic"}


def test_published_facts():
    # From the files themselves, or (amazon-book's train) as published.
    assert facts("gowalla").checksums == {
        "train.txt": "5eec1eb2edb8dd648377d348b8e136cf",
        "test.txt": "c04e2c4bcd2389f53ed8281816166149",
    }
    sizes = {
        name: dataclasses.astuple(facts(name))[2:6]  # users, items, train and test pairs
        for name in PUBLISHED
    }
    assert sizes == {
        "amazon-book": (52_643, 91_599, 2_380_730, 603_378),
        "gowalla": (29_858, 40_981, 810_128, 217_242),
        "yelp2018": (31_668, 38_048, 1_237_259, 324_147),
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_dataset_brings_its_facts_description_and_citations(name):
    known = facts(name)
    folder = catalog._dataset_folder(name)
    assert known.name == name
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for count in (known.users, known.items, known.train_pairs, known.test_pairs):
        assert f"{count:,}" in readme
    for word in (known.train_md5, known.test_md5, known.homepage):
        assert word in readme
    assert "10.1145/3397271.3401063" in (folder / "CITATIONS.bib").read_text(encoding="utf-8")
    assert (folder / "__init__.py").is_file()


def test_datasets_are_a_package_of_ours_wherever_they_lie():
    """In a checkout, an editable install (beside the package) and a wheel (inside it)."""
    import autosample_tf.datasets.gowalla as gowalla

    assert Path(gowalla.__file__).parent == catalog._dataset_folder("gowalla")


def test_facts_of_no_published_dataset_are_refused():
    with pytest.raises(InputError, match="'synthetic'. Known: amazon-book, gowalla, yelp2018"):
        facts("synthetic")


def test_importing_waits_for_neither_tensorflow_nor_pyarrow():
    code = "import sys, autosample_tf.catalog; print({'tensorflow', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_datasets_is_no_package_in_a_checkout():
    # With an __init__.py it would shadow Hugging Face's `datasets` there.
    if not (REPOSITORY / "datasets").is_dir():
        pytest.skip("not a checkout")
    assert not (REPOSITORY / "datasets" / "__init__.py").exists()


def test_synthetic_is_always_the_same():
    assert load("synthetic", seed=7).checksum() == synthetic().checksum()


@pytest.mark.parametrize("place", [".", "gowalla"])
def test_a_known_dataset_is_read_from_data_dir(tiny, tmp_path, place):
    write_files(tmp_path / place)
    dataset = load("gowalla", data_dir=tmp_path)
    assert dataset.name == "gowalla"
    assert (dataset.train.num_pairs, dataset.test.num_pairs) == (3, 2)


def test_the_folder_of_its_name_comes_first(tiny, tmp_path):
    write_files(tmp_path, {"train.txt": b"another dataset's", "test.txt": b""})
    write_files(tmp_path / "gowalla")
    assert load("gowalla", data_dir=tmp_path).num_users == 2


def test_data_dir_defaults_to_the_environments(tiny, tmp_path, monkeypatch):
    write_files(tmp_path / "gowalla")
    monkeypatch.setenv("AUTOSAMPLE_TF_DATA", str(tmp_path))
    assert load("gowalla").num_users == 2


def test_data_dir_defaults_to_the_cache(tiny, tmp_path, monkeypatch):
    write_files(tmp_path / ".cache" / "autosample-tf" / "gowalla")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AUTOSAMPLE_TF_DATA", raising=False)
    assert load("gowalla").num_users == 2


def test_a_known_name_wins_over_a_folder_of_that_name(tiny, tmp_path, monkeypatch):
    write_files(tmp_path / "gowalla", {"train.txt": b"5 6\n", "test.txt": b"5 7\n"})
    write_files(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert load("gowalla", data_dir="data").user_ids.tolist() == ["0", "1"]
    assert load("./gowalla").user_ids.tolist() == ["5"]
    assert load(Path("gowalla")).user_ids.tolist() == ["5"]


def test_missing_files_are_refused_with_what_to_put_where(tmp_path):
    message = refusal("gowalla", data_dir=tmp_path)
    known = facts("gowalla")
    for part in (tmp_path / "gowalla", *known.checksums.values(), "29858 users", "40981 items"):
        assert str(part) in message
    assert "810128 train and 217242 test pairs; received no train.txt there" in message
    assert "--data-dir" in message
    assert "AUTOSAMPLE_TF_DATA" in message


def test_one_missing_file_is_named(tiny, tmp_path):
    write_files(tmp_path / "gowalla", {"train.txt": FILES["train.txt"]})
    assert "received no test.txt there" in refusal("gowalla", data_dir=tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_checksum_is_refused_with_both(tiny, tmp_path, name):
    changed = FILES[name] + b"\n"
    write_files(tmp_path, {**FILES, name: changed})
    message = refusal("gowalla", data_dir=tmp_path)
    received = hashlib.md5(changed, usedforsecurity=False).hexdigest()
    assert f"published {name} of gowalla, whose MD5 is {TINY.checksums[name]}" in message
    assert f"received a file whose MD5 is {received}" in message


@pytest.mark.parametrize("field", ["users", "items", "train_pairs", "test_pairs"])
def test_wrong_counts_are_refused_with_both(tmp_path, monkeypatch, field):
    wrong = dataclasses.replace(TINY, **{field: 9})
    monkeypatch.setattr(catalog, "facts", lambda name: wrong)
    write_files(tmp_path)
    message = refusal("gowalla", data_dir=tmp_path)
    assert "published counts" in message
    assert "received (2, 3, 5)" in message


def test_a_validation_file_beside_the_published_ones_is_refused(tiny, tmp_path):
    write_files(tmp_path, {**FILES, "valid.txt": b"1 1\n"})
    assert "Leave nothing but its train.txt and test.txt" in refusal("gowalla", data_dir=tmp_path)


def test_published_counts_are_those_before_merging(tmp_path, monkeypatch):
    files = {"train.txt": b"0 0 1 1\n", "test.txt": b"0 2 0\n"}
    md5s = [hashlib.md5(text, usedforsecurity=False).hexdigest() for text in files.values()]
    known = dataclasses.replace(TINY, users=1, train_md5=md5s[0], test_md5=md5s[1])
    monkeypatch.setattr(catalog, "facts", lambda name: known)
    write_files(tmp_path, files)
    dataset = load("gowalla", data_dir=tmp_path)
    assert (dataset.train.num_pairs, dataset.test.num_pairs) == (2, 1)


def test_a_known_dataset_has_no_columns_to_name(tiny, tmp_path):
    write_files(tmp_path)
    assert "received user_column='u'" in refusal("gowalla", data_dir=tmp_path, user_column="u")


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("options", [{"label_column": "rating"}, {"positive_from": 0}])
def test_a_known_dataset_has_no_labels(name, options, tmp_path):
    message = refusal(name, data_dir=tmp_path, **options)
    assert f"no options of a table with the known dataset {name}, which has no columns" in message


def test_a_table_is_parted_by_its_labels(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("user,item,stars\n" + "".join(f"ann,{n},{n}\n" for n in range(10)))
    dataset = load(path, label_column="stars", positive_from=4)
    assert dataset.train.num_pairs + dataset.test.num_pairs == 6
    assert dataset.item_ids[dataset.given.items].tolist() == ["0", "1", "2", "3"]


def test_an_unknown_name_is_refused_with_the_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal("gowala")
    assert "Unknown dataset 'gowala'. Known: amazon-book, gowalla, synthetic, yelp2018." in message
    assert "path" in message


def test_a_path_is_read_with_the_options_of_read(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("who,what\n" + "".join(f"ann,{item}\n" for item in range(10)))
    options = {"user_column": "who", "item_column": "what", "split_by": "random:fraction=0.4"}
    first, second = (load(path, seed=seed, **options) for seed in (0, 1))
    assert first.name == "shop"
    assert first.test.num_pairs == 4
    assert first.checksum() != second.checksum()


@pytest.mark.parametrize("name", ["gowalla", "yelp2018"])
def test_the_real_dataset_by_name(data_root, name):
    dataset, known = load(name, data_dir=data_root), facts(name)
    assert dataset.name == name
    assert (dataset.num_users, dataset.num_items) == (known.users, known.items)
    assert dataset.train.num_pairs == known.train_pairs
    assert dataset.test.num_pairs == known.test_pairs
