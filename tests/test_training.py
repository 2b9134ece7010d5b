"""Whole runs: test read once, peculiar data gone on with, the useless dropped, seeds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import LEAST, WHOLE, flags, history, without_seconds, write_pairs

import autosample_tf
from autosample_tf.errors import InputError
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset
from autosample_tf.models import MF
from autosample_tf.settings import LOWERED
from autosample_tf.splits import with_validation
from autosample_tf.stages import retraining, searching, trial
from autosample_tf.synthetic import synthetic

NUM_ITEMS = 80  # of the peculiar dataset


def read(run_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((run_dir / name).read_text(encoding="utf-8"))


# --- a dataset with all that is peculiar; test is read once


@dataclasses.dataclass
class Observed:
    """A run during which each `Evaluator` and each of its `mean` calls was noted."""

    run_dir: Path
    data: Dataset
    metrics: dict[str, Any]
    calls: list[str]  # what was evaluated, in order: valid or test


@pytest.fixture(scope="module")
def peculiar(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """User 0 has every item of train, users 1 and 2 test pairs only, one of them of an item
    that only test has. User 5's line and a pair of user 3's are there twice, and two test
    lines are empty.
    """
    folder = tmp_path_factory.mktemp("peculiar") / "odd"
    folder.mkdir()
    data = synthetic(40, NUM_ITEMS - 1, mean_pairs=12)
    write_pairs(folder / "train.txt", data.train.select(data.train.users > 2))
    write_pairs(folder / "test.txt", data.test.select(data.test.users > 2))
    twice = " ".join(map(str, [5, *data.train.row(5)]))
    whole = " ".join(map(str, [0, *range(NUM_ITEMS - 1)]))
    with (folder / "train.txt").open("a", encoding="utf-8") as train:
        train.write(f"{whole}\n{twice}\n3 78 78\n")
    with (folder / "test.txt").open("a", encoding="utf-8") as test:
        test.write(f"1 4 5\n2 {NUM_ITEMS - 1}\n0\n39\n")
    calls: list[str] = []
    loaded = with_validation(autosample_tf.load(str(folder)), LEAST.valid_fraction, seed=LEAST.seed)

    class Noted(Evaluator):
        def __init__(self, model: MF, held_out: Any, *others: Any):
            super().__init__(model, held_out, *others)
            same = {
                name
                for name, split in loaded.splits.items()
                if np.array_equal(split.keys, held_out.keys)
            }
            (self.split,) = same

        def per_user(self) -> dict[str, np.ndarray]:
            calls.append(self.split)
            return super().per_user()

    with pytest.MonkeyPatch.context() as patch:
        for module in (searching, trial, retraining):
            patch.setattr(module, "Evaluator", Noted)
        metrics = autosample_tf.search(str(folder), LEAST, run_dir=folder / "run")
    return Observed(folder / "run", loaded, metrics, calls)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"dim": np.int64(8)}, 8), ({"l2": np.float32(0.5)}, 0.5), ({"l2": 1}, 1.0),
        ({"top_k": np.array([5, 10])}, (5, 10)), ({"refit": np.bool_(True)}, True),
    ],
)  # fmt: skip
def test_settings_are_plain_numbers(given: dict[str, Any], kept: Any) -> None:
    ((name, _),) = given.items()
    settings = autosample_tf.Settings(**given)
    assert getattr(settings, name) == kept
    json.dumps(settings.to_dict())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"dim": 8.0}, "a whole number as --dim; received 8.0"),
        ({"dim": "8"}, "a whole number as --dim; received '8'"),
        ({"dim": True}, "a whole number as --dim; received True"),
        ({"seed": 1.5}, "a whole number as --seed"),
        ({"l2": "much"}, "a number as --l2"),
        ({"top_k": (5.5,)}, "a whole number as --top-k"),
        ({"samplers": (7,)}, "text as --sampler"),
        ({"refit": 1}, "True or False as --refit"),
    ],
)
def test_settings_of_another_type_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        autosample_tf.Settings(**given)


def test_a_batch_has_no_more_rows_than_there_are_pairs() -> None:
    assert autosample_tf.Settings(batch_size=5000).resolved(1000).batch_size == 1000
    assert autosample_tf.Settings(batch_size=500).resolved(1000).batch_size == 500
    assert autosample_tf.Settings().resolved(50).batch_size == 50


def test_what_is_resolved_though_it_was_given_is_known_to_be_lowered() -> None:
    given = autosample_tf.Settings(search_epochs=2, drop_warmup=1).resolved(10**6)
    given = dataclasses.replace(given, drop_warmup=5)
    changed = [
        name
        for name, value in given.to_dict().items()
        if given.resolved(100).to_dict()[name] != value
    ]
    assert sorted(changed) == sorted(LOWERED)


def test_test_is_evaluated_once_and_last(peculiar: Observed) -> None:
    """Validation: after each search epoch, before retraining, after each of its epochs, and of
    what was chosen."""
    epochs = LEAST.search_epochs + LEAST.retrain_epochs
    assert peculiar.calls == ["valid"] * (epochs + 2) + ["test"]


def test_what_is_peculiar_is_counted_and_gone_on_with(peculiar: Observed) -> None:
    counts = read(peculiar.run_dir, "config.json")["dataset"]["counts"]
    assert counts["users"] == 40
    assert counts["items"] == NUM_ITEMS
    assert counts["users_without_train_pairs"] == 2
    assert counts["test_items_never_in_train"] == 1
    assert counts["duplicate_pairs"] == peculiar.data.train.degrees[5] + (
        peculiar.data.valid.degrees[5] + 1
    )
    assert counts["empty_test_lines"] == 2


def test_a_user_with_the_whole_catalogue_is_counted_and_gone_on_with(peculiar_run: Path) -> None:
    counts = read(peculiar_run, "config.json")["dataset"]["counts"]
    assert counts["users_with_whole_catalogue"] == 1
    assert read(peculiar_run, "metrics.json")["test_users_without_train_pairs"] == 1


def test_test_users_without_train_pairs_are_counted_in_the_metrics(peculiar: Observed) -> None:
    tested = peculiar.data.test.degrees > 0
    newcomers = tested & (peculiar.data.train.degrees == 0)
    assert peculiar.metrics["test_users"] == tested.sum()
    assert peculiar.metrics["test_users_without_train_pairs"] == newcomers.sum() == 2
    again = autosample_tf.evaluate(peculiar.run_dir)
    assert again == pytest.approx(peculiar.metrics["test"], abs=1e-12)


# --- what is equal and what is not


@pytest.mark.slow
def test_another_seed_gives_another_result(small_data: Path, tmp_path: Path) -> None:
    """Without training: other initial values, other splits."""
    one, other = (
        autosample_tf.search(
            str(small_data),
            dataclasses.replace(LEAST, retrain_epochs=0, init="scratch", seed=seed),
            run_dir=tmp_path / str(seed),
        )
        for seed in (0, 1)
    )
    assert without_seconds(one) != without_seconds(other)


def test_a_dataset_in_memory_has_to_be_given_again(tmp_path: Path) -> None:
    data = synthetic(30, 40, mean_pairs=8)
    settings = dataclasses.replace(LEAST, retrain_epochs=0)
    metrics = autosample_tf.search(data, settings, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="source=… in Python"):
        autosample_tf.evaluate(tmp_path / "run")
    again = autosample_tf.evaluate(tmp_path / "run", source=data)
    assert again == pytest.approx(metrics["test"], abs=1e-12)


def test_a_run_finds_its_data_from_another_folder(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was named by a relative path; and where it has gone, a message says so."""
    moved = tmp_path / "here"
    shutil.copytree(small_data, moved / "clicks")
    monkeypatch.chdir(moved)
    metrics = autosample_tf.search("clicks", LEAST, run_dir=tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    again = autosample_tf.evaluate(tmp_path / "run")
    assert again == pytest.approx(metrics["test"], abs=1e-12)
    moved.rename(tmp_path / "there")
    with pytest.raises(InputError, match="Name where it is now with --dataset"):
        autosample_tf.evaluate(tmp_path / "run")
    moved_to = str(tmp_path / "there" / "clicks")
    assert autosample_tf.evaluate(tmp_path / "run", source=moved_to) == again


def test_evaluate_takes_other_cutoffs(tiny_run: Path) -> None:
    own = autosample_tf.evaluate(tiny_run)
    both = autosample_tf.evaluate(tiny_run, top_k=[3, 10])
    assert all(both[name] == own[name] for name in own if name.endswith("@10"))
    assert 0 < both["recall@3"] < both["recall@10"]
    with pytest.raises(InputError, match="between 1 and"):
        autosample_tf.evaluate(tiny_run, top_k=[0])


def test_one_sampler_and_one_cutoff_need_no_tuple() -> None:
    settings = autosample_tf.Settings(samplers="rns", top_k=10)
    assert (settings.samplers, settings.top_k) == (("rns",), (10,))


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0), (3, 2), (4, 3), (5, 4), (10, 4)])
def test_a_search_shorter_than_its_warm_up_learns_in_its_last_epoch(
    epochs: int, warmup: int
) -> None:
    settings = autosample_tf.Settings(search_epochs=epochs).resolved(1000)
    assert settings.drop_warmup == warmup
    assert settings.rewind_epoch == max(warmup, 1)


def test_a_refit_needs_epochs_to_repeat() -> None:
    with pytest.raises(InputError, match="--retrain-epochs of at least 1 beside --refit"):
        autosample_tf.Settings(refit=True, retrain_epochs=0)


def test_without_a_better_epoch_there_is_nothing_to_refit(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(LEAST, refit=True, learning_rate=1e-12)
    metrics = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert metrics["retrain"]["best_epoch"] == 0
    assert metrics["retrain"]["refit"] is False
    assert "there is none to refit" in caplog.text


def test_a_weight_of_0_is_not_handed_on(small_data: Path, tmp_path: Path) -> None:
    """A low temperature rounds weights to 0, which `--drop-threshold 0` drops none for."""
    settings = dataclasses.replace(
        LEAST, samplers=("rns", "dns:pool=8"), objective="validation", temperature=1e-6,
        drop_threshold=0.0, search_epochs=2,
    )  # fmt: skip
    metrics = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert len(metrics["search"]["weights"]) == 1
    assert metrics["retrain"]["weights"] == metrics["search"]["weights"]


PLANTED = '''
import dataclasses

import tensorflow as tf
from autosample_tf.samplers.uniform import RNS

class Loud(RNS):
    """Uniform negatives whose loss counts ten times."""

    card = None

    def sample(self, context):
        scale = tf.fill([context.users.shape[0]], 10.0)
        return dataclasses.replace(super().sample(context), scale=scale)
'''


def test_a_planted_candidate_is_dropped_and_retraining_does_without_it(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`joint` leaves the sampler with the larger loss, a step of Adam's 0.01 at a time: the
    logits part by 0.02 in each of the 22 steps of an epoch, and after two of them its weight
    is 1 / (1 + exp(0.88)) = .29, under .8 of one half.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "planted.py").write_text(PLANTED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = "mine.planted:Loud"
    settings = dataclasses.replace(
        WHOLE, samplers=("rns", spec), drop_threshold=0.8, refit=False, retrain_epochs=1
    )
    metrics = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert [drop["sampler"] for drop in metrics["search"]["dropped"]] == [spec]
    assert metrics["search"]["weights"] == {"rns": 1.0}
    assert metrics["search"]["survivors"] == ["rns"]
    (row,) = history(tmp_path / "run" / "retrain" / "history.csv")
    assert [name for name in row if name.startswith("weight/")] == ["weight/rns"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
@pytest.mark.parametrize("mixing", ["loss", "instance"])
def test_the_standard_set_runs_twice_to_the_same_metrics(
    model: str, mixing: str, tmp_path: Path
) -> None:
    """On `synthetic`, of which no step fits one processor core."""
    settings = autosample_tf.Settings(
        model=model, mixing=mixing, search_epochs=3, retrain_epochs=2, layers=2
    )
    one, other = (
        autosample_tf.search("synthetic", settings, run_dir=tmp_path / name) for name in "ab"
    )
    assert without_seconds(one) == without_seconds(other)


def test_flags_say_what_settings_say() -> None:
    """The tests' own translation leaves nothing out."""
    given = [flag for flag in flags(WHOLE) if flag.startswith("--")]
    for name, value in WHOLE.to_dict().items():
        flag = "--sampler" if name == "samplers" else "--" + name.replace("_", "-")
        if value is False:
            flag = "--no-" + flag.removeprefix("--")
        assert (flag in given) == (value is not None)
