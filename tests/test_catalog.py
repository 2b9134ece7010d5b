"""Known datasets: the checks on their files, names against paths."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from published_files import FILES, TINY, md5, write_files

from autosample_tf import catalog
from autosample_tf.catalog import KNOWN, TABLES, load
from autosample_tf.errors import InputError
from autosample_tf.published.facts import PUBLISHED, File, facts
from autosample_tf.synthetic import synthetic

REPOSITORY = Path(__file__).parents[1]


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
    md5s = [file.md5[0] for file in known.files.values()]
    for part in (tmp_path / "gowalla", *md5s, "29858 users", "40981 items", known.source):
        assert str(part) in message
    assert "train.txt (810128 pairs, " in message
    assert "received no train.txt there. Run `autosample-tf data fetch gowalla`" in message
    assert "--data-dir" in message
    assert "AUTOSAMPLE_TF_DATA" in message


def test_one_missing_file_is_named(tiny, tmp_path):
    write_files(tmp_path / "gowalla", {"train.txt": FILES["train.txt"]})
    assert "received no test.txt there" in refusal("gowalla", data_dir=tmp_path)


def test_missing_files_that_no_address_has_are_to_be_got_by_hand(tmp_path):
    message = refusal("amazon-book", data_dir=tmp_path)
    assert "Get it from GitHub's kuandeng/LightGCN" in message
    assert "no address of it could be verified, so none is built in" in message
    assert "data fetch" not in message


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_checksum_is_refused_with_both(tiny, tmp_path, name):
    changed = FILES[name] + b"\n"
    write_files(tmp_path, {**FILES, name: changed})
    message = refusal("gowalla", data_dir=tmp_path)
    assert f"published {name} of gowalla, whose MD5 is {md5(FILES[name])}" in message
    assert f"received a file whose MD5 is {md5(changed)}" in message


@pytest.mark.parametrize("field", ["users", "items"])
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
    pairs = {"train.txt": 3, "test.txt": 2}
    known = {name: File(pairs[name], (md5(text),)) for name, text in files.items()}
    tiny = dataclasses.replace(TINY, users=1, files=known)
    monkeypatch.setattr(catalog, "facts", lambda name: tiny)
    write_files(tmp_path, files)
    dataset = load("gowalla", data_dir=tmp_path)
    assert (dataset.train.num_pairs, dataset.test.num_pairs) == (2, 1)


def test_any_of_several_forms_of_a_file_is_taken(tmp_path, monkeypatch):
    longer = FILES["test.txt"] + b"5\n"  # a user with nothing there
    several = {**TINY.files, "test.txt": File(2, (md5(FILES["test.txt"]), md5(longer)))}
    monkeypatch.setattr(catalog, "facts", lambda name: dataclasses.replace(TINY, files=several))
    write_files(tmp_path)
    assert load("gowalla", data_dir=tmp_path).test.num_pairs == 2
    write_files(tmp_path, {**FILES, "test.txt": b"0 2\n"})
    assert f"{md5(FILES['test.txt'])} or {md5(longer)}" in refusal("gowalla", data_dir=tmp_path)


def test_a_known_dataset_has_no_columns_to_name(tiny, tmp_path):
    write_files(tmp_path)
    assert "received user_column='u'" in refusal("gowalla", data_dir=tmp_path, user_column="u")


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in TABLES])
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
    assert f"Unknown dataset 'gowala'. Known: {', '.join(sorted(KNOWN))}." in message
    assert "Did you mean 'gowalla'?" in message
    assert "path" in message


def test_a_path_is_read_with_the_options_of_read(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("who,what\n" + "".join(f"ann,{item}\n" for item in range(10)))
    options = {"user_column": "who", "item_column": "what", "split_by": "random:fraction=0.4"}
    first, second = (load(path, seed=seed, **options) for seed in (0, 1))
    assert first.name == "shop"
    assert first.test.num_pairs == 4
    assert first.checksum() != second.checksum()


def test_a_known_table_is_split_here_and_has_labels(tmp_path, monkeypatch):
    rows = "".join(f"{user}\t{item}\t{item % 5 + 1}\n" for user in range(3) for item in range(10))
    table = ("user_id:token\titem_id:token\trating:float\n" + rows).encode()
    known = dataclasses.replace(TINY, name="ml-100k", files={"ml.inter": File(30, (md5(table),))})
    monkeypatch.setattr(catalog, "facts", lambda name: known)
    write_files(tmp_path / "ml-100k", {"ml.inter": table})
    dataset = load("ml-100k", data_dir=tmp_path, split_by="random:fraction=0.5")
    assert dataset.name == "ml-100k"
    assert (dataset.train.num_pairs, dataset.test.num_pairs) == (15, 15)
    dataset = load("ml-100k", data_dir=tmp_path, label_column="rating", positive_from=4)
    assert dataset.given.num_pairs == 18


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_real_dataset_by_name(data_root, name):
    if not (data_root / name).is_dir():
        pytest.skip(f"no {name} in the real data")
    dataset, known = load(name, data_dir=data_root), facts(name)
    assert dataset.name == name
    assert (dataset.num_users, dataset.num_items) == (known.users, known.items)
    if name not in TABLES:
        pairs = {f"{split}.txt": own.num_pairs for split, own in dataset.splits.items()}
        assert pairs == {file: own.pairs for file, own in known.files.items()}


def test_a_folder_that_is_called_as_a_known_dataset_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("synthetic").name == "synthetic"
    assert not caplog.text
    (tmp_path / "synthetic").mkdir()
    load("synthetic")
    assert "the known dataset, not the folder: that is ./synthetic" in caplog.text
