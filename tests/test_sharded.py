"""Data beyond memory: what Beam writes is what reading in memory gives, and so is its training."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from commands import ENVIRONMENT, PROGRAM, Command, told_in_one_line
from small_runs import LEAST, fingerprints

import autosample_tf
from autosample_tf import InputError, streaming, training
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.models import MF
from autosample_tf.ops.membership import NO_ITEM, BatchRows, PairSet
from autosample_tf.pipeline import TRAIN_POSITIVES, steps_per_epoch
from autosample_tf.reading import sharded
from autosample_tf.reading.dataset_folder import write_dataset
from autosample_tf.reading.sharded import ShardedDataset, StreamedPairs, read_sharded
from autosample_tf.reading.sharding import write_sharded
from autosample_tf.reading.table_options import TableOptions
from autosample_tf.samplers import SAMPLERS, build_sampler
from autosample_tf.samplers.contract import Feedback
from autosample_tf.splits import with_validation
from autosample_tf.streaming import streamed_batches
from autosample_tf.synthetic import synthetic

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

RULES = ("random:fraction=0.3", "leave-one-out", "leave-last:n=2")
CAP = 8


def write_table(folder: Path) -> str:
    """Three files of pairs with times and ratings, some rows twice; the pattern that names them.

    The users' ids are integers, whose order is not that of their text; a user has 2 pairs.
    """
    folder.mkdir(parents=True)
    data = synthetic(60, 80, mean_pairs=15)
    pairs = data.train.union(data.test)
    rng = np.random.default_rng(5)
    rows = [
        f"{user * 7},é{item},{rng.integers(1000)},{rng.integers(1, 6)}"
        for user, item in zip(pairs.users, pairs.items, strict=True)
    ]
    rows = [*rows, *rows[::9], "9999,é1,5,5", "9999,é2,6,5"]
    for part in range(3):
        text = "\n".join(["user,item,timestamp,rating", *rows[part::3]])
        (folder / f"part-{part}.csv").write_text(text, encoding="utf-8")
    return str(folder / "part-*.csv")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(tmp_path_factory.mktemp("table") / "log")


@pytest.fixture(scope="module")
def folder(table: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table, sharded into 3 files, by the first rule; no user has a capped positive."""
    path = tmp_path_factory.mktemp("sharded") / "shards"
    write_sharded(table, path, TableOptions(split_by=RULES[0]), seed=4, num_shards=3)
    return path


@pytest.fixture(scope="module")
def capped(table: str, tmp_path_factory: pytest.TempPathFactory) -> ShardedDataset:
    path = tmp_path_factory.mktemp("capped") / "shards"
    return write_sharded(table, path, TableOptions(), most_positives=CAP)


@pytest.fixture(scope="module")
def in_memory(table: str) -> Dataset:
    return with_validation(autosample_tf.load(table, split_by=RULES[0], seed=4), 0.1, seed=4)


def assert_same_pairs(streamed: StreamedPairs, pairs: Interactions) -> None:
    """Also where only some users are read at a time."""
    read = streamed.in_memory()
    np.testing.assert_array_equal(read.offsets, pairs.offsets)
    np.testing.assert_array_equal(read.items, pairs.items)
    np.testing.assert_array_equal(streamed.degrees, pairs.degrees)
    np.testing.assert_array_equal(streamed.popularity, pairs.popularity)
    assert (streamed.num_pairs, streamed.num_users) == (pairs.num_pairs, pairs.num_users)


# --- preparation


@pytest.mark.parametrize("rule", RULES)
def test_sharded_data_is_what_is_read_in_memory(
    table: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "_USERS_PER_PART", 7)
    found = write_sharded(
        table, tmp_path / "shards", TableOptions(split_by=rule), valid_fraction=0.2, seed=11
    )
    wanted = with_validation(autosample_tf.load(table, split_by=rule, seed=11), 0.2, seed=11)
    for split in ("train", "valid", "test"):
        assert_same_pairs(getattr(found, split), getattr(wanted, split))
    assert_same_pairs(found.seen, wanted.seen)
    np.testing.assert_array_equal(found.user_ids, wanted.user_ids)
    np.testing.assert_array_equal(found.item_ids, wanted.item_ids)
    duplicates = wanted.notes["duplicate_pairs"]
    assert found.counts() | {"duplicate_pairs": duplicates} == wanted.counts()


def test_rows_are_filtered_one_by_one(table: str, tmp_path: Path) -> None:
    """One of the files has no row late enough."""
    late = tmp_path / "part-9.csv"
    late.write_text("user,item,timestamp,rating\n1,é1,5,5\n")
    for path in sorted(Path(table).parent.glob("*.csv")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    options = {"min_rating": 3.0, "since": "100", "until": "900"}
    files = str(tmp_path / "*.csv")
    found = write_sharded(files, tmp_path / "shards", TableOptions(**options))
    wanted = with_validation(autosample_tf.load(files, **options), 0.1, seed=0)
    for split in ("train", "valid", "test"):
        assert_same_pairs(getattr(found, split), getattr(wanted, split))


def test_ids_that_no_row_is_left_of_do_not_order_the_others(tmp_path: Path) -> None:
    """Whole numbers are ordered as such where all that are left are."""
    rows = [f"{user},{item},{3 + item % 3}" for user in range(12) for item in range(1, 12)]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["user,item,rating", *rows, "7,x9,1"]))
    found = write_sharded(str(file), tmp_path / "shards", TableOptions(min_rating=2.0))
    wanted = with_validation(autosample_tf.load(str(file), min_rating=2.0), 0.1, seed=0)
    assert wanted.item_ids.tolist() == [str(item) for item in range(1, 12)]
    assert found.item_ids.tolist() == wanted.item_ids.tolist()
    for split in ("train", "valid", "test"):
        assert_same_pairs(getattr(found, split), getattr(wanted, split))


def test_what_is_warned_of_in_memory_is_told_of_shards(tmp_path: Path) -> None:
    rows = ["user,item,timestamp,rating,title", *(f"a,{at},{at + 7},-1,x" for at in range(9))]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    (tmp_path / "b.csv").write_text("\n".join([rows[0], 'a,90,99,1,"x\ny"', "a,91,8,-1,x"]))
    (tmp_path / "c.csv").write_text(rows[0])
    files = str(tmp_path / "*.csv")
    found = write_sharded(files, tmp_path / "shards", TableOptions())
    wanted = autosample_tf.load(files)
    for name in ("ratings_up_to_0", "rows_of_several_lines"):
        assert found.notes[name] == wanted.notes[name] > 0
    assert found.time_span == wanted.time_span == (7, 99)


def test_the_number_of_files_changes_no_checksum_but_another_seed_does(
    table: str, folder: Path, tmp_path: Path
) -> None:
    options = TableOptions(split_by=RULES[0])
    alone = write_sharded(table, tmp_path / "alone", options, seed=4, num_shards=1)
    other = write_sharded(table, tmp_path / "other", options, seed=5)
    assert len(alone.train.shards.paths) == 1
    assert len(read_sharded(folder).train.shards.paths) == 3
    assert alone.checksum() == read_sharded(folder).checksum() != other.checksum()


def test_a_folder_is_whole(folder: Path) -> None:
    """And nothing of the pipeline's stays beside it."""
    assert [path.name for path in folder.parent.iterdir()] == ["shards"]
    manifest = json.loads((folder / "sharded.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"sharded.json", *manifest["files"]}


def test_users_with_capped_positives_are_counted(capped: ShardedDataset) -> None:
    most = int(np.sum(capped.train.degrees > CAP))
    assert most > 0
    assert capped.counts()["users_with_capped_positives"] == most


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "time"}, "Expected a split of each user's pairs by themselves"),
        ({"split_by": "tiem"}, "Unknown rule of a split 'tiem'"),
        ({"k_core": 2}, "where each row counts by itself; received k_core=2"),
        ({"label_column": "rating"}, "where each row counts by itself; received label_column"),
        ({"user_column": "usr"}, "usr"),
        ({"split_by": "random:fraction=2"}, "Expected a fraction to hold out between 0 and 1"),
        ({"until": "0"}, "Expected rows that count; received none in any file"),
    ],
)
def test_what_cannot_be_sharded_is_told_and_leaves_nothing(
    table: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        write_sharded(table, tmp_path / "shards", TableOptions(**options))
    assert "\n" not in str(raised.value)
    assert "while running" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item\n1,2\n1,\n")
    with pytest.raises(InputError, match=r"a\.csv"):
        write_sharded(str(tmp_path / "a.csv"), tmp_path / "shards", TableOptions())
    assert not (tmp_path / "shards").exists()


def test_names_of_columns_that_have_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"user": 1, "item": 2}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, whose columns have names; received columns="):
        write_sharded(
            str(tmp_path / "a.jsonl"), tmp_path / "shards", TableOptions(columns="user,item")
        )
    assert not (tmp_path / "shards").exists()


def test_splits_and_other_formats_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("user,item\n1,2\n")
    for source, told in ((tmp_path, "which has splits"), (folder, "sharded")):
        with pytest.raises(InputError, match=f"parts of one table.*{told}"):
            write_sharded(str(source), tmp_path / "shards", TableOptions())


def test_a_folder_that_is_there_stays(table: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder that is not there yet"):
        write_sharded(table, tmp_path, TableOptions())


@pytest.mark.parametrize("option", ["most_positives", "num_shards"])
def test_numbers_out_of_range_are_refused(table: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of at least 1; received 0"):
        write_sharded(table, tmp_path / "shards", TableOptions(), **{option: 0})


def test_sharded_data_can_be_converted(folder: Path, in_memory: Dataset, tmp_path: Path) -> None:
    write_dataset(read_sharded(folder), tmp_path / "converted", source={})
    converted = autosample_tf.load(tmp_path / "converted")
    for split, pairs in in_memory.splits.items():
        np.testing.assert_array_equal(converted.splits[split].keys, pairs.keys)


def test_without_beam_the_extra_is_named(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"pip install 'autosample-tf\[beam\]'"):
        write_sharded(table, tmp_path / "shards", TableOptions())


# --- reading


@pytest.mark.parametrize("file", ["sharded.json", "train.degrees.npy", "records"])
def test_a_damaged_folder_is_told(folder: Path, file: str, tmp_path: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    damaged = next(tmp_path.glob("records/*.tfrecord*")) if file == "records" else tmp_path / file
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(
        InputError, match=r"as `autosample-tf data shard` writes it.*Shard it again"
    ):
        autosample_tf.load(tmp_path)


def test_options_of_a_table_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no options of a table"):
        autosample_tf.load(folder, min_rating=3.0)


def test_row_sums_are_those_in_memory(folder: Path, in_memory: Dataset) -> None:
    values = np.random.default_rng(0).random(in_memory.num_items)
    streamed = read_sharded(folder).seen.row_sums(values)
    np.testing.assert_allclose(streamed, in_memory.seen.row_sums(values))


def test_a_sample_has_at_most_so_many_pairs_of_each_user(folder: Path, in_memory: Dataset) -> None:
    streamed, pairs = read_sharded(folder).train, in_memory.train
    some = streamed.sample(3)
    np.testing.assert_array_equal(some.degrees, np.minimum(pairs.degrees, 3))
    assert pairs.contains(some.users, some.items).all()
    assert_same_pairs(streamed, streamed.sample(pairs.num_items))


# --- batches


def epoch_of(pairs: StreamedPairs, size: int, number: int = 0, seed: int = 0) -> list[dict]:
    steps = steps_per_epoch(pairs.num_pairs, size)
    batches = streamed_batches(pairs, size, seed=seed, first_epoch=number)
    return list(batches.take(steps).as_numpy_iterator())


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of several batches each, of which an epoch has several."""
    monkeypatch.setattr(streaming, "_USERS_PER_WINDOW", 13)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("split", ["train", "seen"])
def test_an_epoch_has_every_pair_once(folder: Path, in_memory: Dataset, split: str) -> None:
    pairs = getattr(in_memory, split)
    counted: Counter[tuple[int, int]] = Counter()
    batches = epoch_of(getattr(read_sharded(folder), split), 32, number=2)
    for step, batch in enumerate(batches, start=2 * len(batches)):
        real = batch["weight"] > 0
        counted.update(zip(batch["user"][real], batch["positive"][real], strict=True))
        np.testing.assert_array_equal(batch["position"], step * 32 + np.arange(32))
        np.testing.assert_allclose(batch["weight"].sum(), 32, rtol=1e-6)
    assert counted == Counter(zip(pairs.users, pairs.items, strict=True))
    assert (batches[-1]["weight"] == 0).any()


@pytest.mark.parametrize("own", [0, 7])
def test_the_programs_own_seed_changes_nothing(folder: Path, own: int) -> None:
    train = read_sharded(folder).train
    before = epoch_of(train, 64)
    tf.random.set_seed(own)
    for one, two in zip(before, epoch_of(train, 64), strict=True):
        np.testing.assert_array_equal(one["positive"], two["positive"])


def test_batches_have_static_shapes(capped: ShardedDataset) -> None:
    spec = streamed_batches(capped.train, 32, seed=0).element_spec
    assert {name: tuple(each.shape) for name, each in spec.items()} == {
        "user": (32,), "positive": (32,), "weight": (32,), "position": (32,),
        TRAIN_POSITIVES: (32, CAP),
    }  # fmt: skip
    assert spec[TRAIN_POSITIVES].dtype == spec["user"].dtype == tf.int32


@pytest.mark.usefixtures("narrow")
def test_a_run_that_goes_on_sees_what_it_would_have_seen(folder: Path) -> None:
    train = read_sharded(folder).train
    steps = steps_per_epoch(train.num_pairs, 64)
    whole = list(streamed_batches(train, 64, seed=3).take(3 * steps).as_numpy_iterator())
    for name, values in whole[2 * steps].items():
        np.testing.assert_array_equal(values, epoch_of(train, 64, number=2, seed=3)[0][name])
    orders = {tuple(batch["positive"]) for batch in whole[::steps]}
    assert len(orders) == 3
    assert tuple(epoch_of(train, 64, seed=4)[0]["positive"]) not in orders


def test_a_row_has_its_users_positives_or_an_even_choice(
    capped: ShardedDataset, folder: Path, in_memory: Dataset
) -> None:
    own = capped.train.in_memory()
    for batch in epoch_of(capped.train, 64):
        for user, held in zip(batch["user"], batch[TRAIN_POSITIVES], strict=True):
            row = own.row(user)
            kept = min(len(row), CAP)
            np.testing.assert_array_equal(held[:kept], row[np.arange(kept) * len(row) // kept])
            assert (held[kept:] == NO_ITEM).all()
    for batch in epoch_of(read_sharded(folder).seen, 64)[:2]:  # two splits in one ascending row
        for user, held in zip(batch["user"], batch[TRAIN_POSITIVES], strict=True):
            np.testing.assert_array_equal(held[held != NO_ITEM], in_memory.seen.row(user))


def test_what_batches_bring_masks_as_the_pairs_do(folder: Path, in_memory: Dataset) -> None:
    members = PairSet(in_memory.train)
    every = tf.tile(tf.range(in_memory.num_items)[None, :], [64, 1])
    for batch in epoch_of(read_sharded(folder).train, 64)[:3]:
        rows = BatchRows(tf.constant(batch[TRAIN_POSITIVES]))
        np.testing.assert_array_equal(
            rows.contains(tf.constant(batch["user"]), every),
            members.contains(tf.constant(batch["user"]), every),
        )


def test_rows_of_positives_answer_for_their_own_batch_alone() -> None:
    rows = BatchRows(tf.constant([[1, 4, NO_ITEM], [NO_ITEM] * 3, [0, 1, 2]]))
    asked = tf.constant([[0, 1, 4, 9], [0, 1, 4, 9], [0, 1, 2, 3]])
    found = rows.contains(tf.constant([5, 6, 7]), asked)
    np.testing.assert_array_equal(found, [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]])
    with pytest.raises(ValueError, match="incompatible"):
        rows.contains(tf.constant([5, 6]), asked[:2])
    some = rows.of_rows(tf.constant([0, 2]))
    np.testing.assert_array_equal(some.contains(tf.constant([5, 7]), asked[::2]), found[::2])


# --- evaluation


@pytest.mark.parametrize("per_part", [7, 1000])
def test_metrics_are_those_in_memory(
    folder: Path, in_memory: Dataset, per_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "_USERS_PER_PART", per_part)
    data = read_sharded(folder)
    model = MF(data.num_users, data.num_items, dim=8, init_scale=0.5)
    for split, seen in (("valid", "train"), ("test", "seen")):
        found, wanted = (
            Evaluator(model, getattr(each, split), getattr(each, seen), [5, 20], each.train)
            for each in (data, in_memory)
        )
        np.testing.assert_array_equal(found.users, wanted.users)
        per_user = wanted.per_user()
        assert found.mean() == pytest.approx(wanted.mean(), abs=1e-6)
        for name, values in found.per_user().items():
            np.testing.assert_allclose(values, per_user[name], atol=1e-6)


# --- runs


def test_every_sampler_works_on_streamed_pairs_or_says_that_it_does_not(folder: Path) -> None:
    data = read_sharded(folder)
    refused = ("adasir", "given", "irgan", "nscaching", "srns")
    for name in SAMPLERS:
        sampler = build_sampler(name)
        if name in refused:
            with pytest.raises(InputError, match="data in memory"):
                sampler.check(Feedback(data.train))
        else:
            sampler.check(Feedback(data.train))
            sampler.build(Feedback(data.train), 8)


def test_a_run_streams(folder: Path, tmp_path: Path) -> None:
    """Searched, refitted, evaluated, retrained and asked for lists."""
    run = tmp_path / "run"
    settings = dataclasses.replace(LEAST, samplers=("rns", "pns"), refit=True)
    metrics = training.search(str(folder), settings, run_dir=run)
    found = training.evaluate(run)
    assert found == pytest.approx(metrics["test"], abs=1e-6)
    before = fingerprints(run)
    training.retrain(run, run_dir=tmp_path / "retrained", changes={"seed": 9})
    lists = tmp_path / "top.jsonl"
    autosample_tf.recommend(run, output=lists, top_k=3)
    assert fingerprints(run) == before
    assert len(lists.read_text().splitlines()) == 61


def test_the_model_learns_as_in_memory(folder: Path, in_memory: Dataset, tmp_path: Path) -> None:
    """Another order of the same pairs: both find what is to be found, far above chance."""
    settings = autosample_tf.Settings(
        dim=8, samplers=("rns",), objective="uniform", search_epochs=10, retrain_epochs=0,
        batch_size=64, learning_rate=0.02, time_samplers=False,
    )  # fmt: skip
    valid = [
        training.search(source, settings, run_dir=tmp_path / str(number))["valid"]["ndcg@20"]
        for number, source in enumerate((str(folder), in_memory))
    ]
    assert valid[0] == pytest.approx(valid[1], rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lightgcn"}, "a graph model"),
        ({"model": "ngcf"}, "a graph model"),
        ({"samplers": ("rns", "warp:k=1")}, "samplers that look up each user's train pairs"),
        ({"samplers": ("rns:exact=True",)}, "samplers that look up each user's train pairs"),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_a_folder_is_written(
    folder: Path, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    settings = dataclasses.replace(LEAST, **options)
    with pytest.raises(InputError, match=f"Expected data in memory for {message}"):
        training.search(str(folder), settings, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pairs(tmp_path: Path) -> None:
    """From 10^6 to 10^7 pairs of ten times the users, a search may take 250 MB more.

    Users take a hundred bytes or two each; on two cores it was 117 MB, and 954 MB in memory.
    """
    piece = Path(__file__).with_name("sharded_memory.py")
    peaks = []
    for num_users in (10_000, 100_000):
        command = [sys.executable, piece, str(num_users), tmp_path / str(num_users), "streamed"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 250e6


# --- the command


def test_the_command_shards_and_a_search_streams_it(
    table: str, tmp_path: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    shards, run = tmp_path / "shards", tmp_path / "run"
    shard = ["data", "shard", "--dataset", table, "--output", shards]
    code, out, _ = command(*shard, "--shards", 2, "--most-positives", CAP, "--json")
    assert code == 0
    assert "shards has times, which the split random ignores" in caplog.text
    told = json.loads(out)
    assert told["folder"] == str(shards)
    assert told["users"] == 61
    assert told["users_with_capped_positives"] > 0
    assert "a folder that is not there yet" in told_in_one_line(command(*shard))
    code, out, _ = command("data", "describe", "--dataset", shards)
    assert (code, out.splitlines()[0]) == (0, "shards")
    small = ["--search-epochs", 1, "--retrain-epochs", 1, "--drop-warmup", 0, "--sampler", "rns"]
    code, out, _ = command(
        "search", "--dataset", shards, "--run-dir", run, "--objective", "uniform", *small, "--json"
    )
    assert (code, json.loads(out)["dataset"]) == (0, "shards")


def test_a_warning_comes_through_the_chatter(tmp_path: Path) -> None:
    """Beam logs to whatever stands for the terminal when it is loaded."""
    rows = "user,item,rating\n" + "".join(f"a,{at},-1\n" for at in range(9))
    (tmp_path / "t.csv").write_text(rows)
    given = ["data", "shard", "--dataset", tmp_path / "t.csv", "--output", tmp_path / "shards"]
    done = subprocess.run(
        [*PROGRAM, *map(str, given)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "9 rows of shards have a rating of 0 or less" in done.stderr


def test_the_command_asks_for_files(command: Command, tmp_path: Path) -> None:
    code, _, err = command("data", "shard", "--output", tmp_path / "shards")
    assert code == 2
    assert "--dataset names the files to shard" in err
