"""`select_on_test`: every choice reads test pairs, all of train is trained on, and it says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command, told_in_one_line
from small_runs import (
    WHOLE,
    Stopped,
    fingerprints,
    flags,
    stop_in,
    without_seconds,
    write_pairs,
)
from worlds import slow_but

import autosample_tf
from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.models import Recommender
from autosample_tf.settings import Settings
from autosample_tf.splits import with_validation
from autosample_tf.stages import fitting, retraining, searching, trial
from autosample_tf.synthetic import synthetic
from autosample_tf.training import load_run

SELECTED = dataclasses.replace(
    WHOLE,
    samplers=("rns", "dns:pool=4"),
    objective="validation",
    refit=False,
    init="search",
    search_epochs=2,
    retrain_epochs=2,
    select_on_test=True,
)


@dataclasses.dataclass
class Observed:
    """A run, and the pairs that each part of it was given.

    Attributes:
      folder: of the data.
      run_dir: of the run.
      data: as its files have it, without a validation split carved from train.
      metrics: what the run gave.
      evaluated: each `Evaluator`'s held-out and seen pairs.
      trained: each stage's train pairs, and those held out that it was told of.
    """

    folder: Path
    run_dir: Path
    data: Dataset
    metrics: dict[str, Any]
    evaluated: list[tuple[Interactions, Interactions]]
    trained: list[tuple[Interactions, Interactions]]


@pytest.fixture(scope="module", params=slow_but(["no valid.txt"], ["no valid.txt", "valid.txt"]))
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """On a folder with a validation split of its own, and on one without."""
    folder = tmp_path_factory.mktemp("selected") / "small"
    folder.mkdir()
    data = synthetic(60, 80, mean_pairs=15)
    if request.param == "valid.txt":
        data = with_validation(data, 0.2, seed=1)
    for name, split in data.splits.items():
        write_pairs(folder / f"{name}.txt", split)
    evaluated, trained = [], []

    class NotedEvaluator(Evaluator):
        def __init__(self, model: Recommender, held_out: Any, seen: Any, *others: Any):
            evaluated.append((held_out, seen))
            super().__init__(model, held_out, seen, *others)

    class NotedAutoSample(AutoSample):
        def __init__(self, model: Any, train: Any, *, validation: Any = None, **others: Any):
            trained.append((train, validation))
            super().__init__(model, train, validation=validation, **others)

    with pytest.MonkeyPatch.context() as patch:
        for module in (searching, trial, retraining):
            patch.setattr(module, "Evaluator", NotedEvaluator)
        patch.setattr(fitting, "AutoSample", NotedAutoSample)
        metrics = autosample_tf.search(str(folder), SELECTED, run_dir=folder / "run")
    return Observed(folder, folder / "run", autosample_tf.load(folder), metrics, evaluated, trained)


def read(run_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((run_dir / name).read_text(encoding="utf-8"))


def same(one: Interactions, other: Interactions) -> bool:
    return np.array_equal(one.keys, other.keys)


# --- what is read for what


def test_every_choice_reads_test_and_leaves_out_train_alone(observed: Observed) -> None:
    """The search's evaluator, the retraining's, and the last one."""
    assert len(observed.evaluated) == 3
    for held_out, seen in observed.evaluated:
        assert same(held_out, observed.data.test)
        assert same(seen, observed.data.train)


def test_all_of_train_is_trained_on_and_what_is_held_out_is_test(observed: Observed) -> None:
    """In the search, whose weights' signal it is, and in the retraining."""
    assert len(observed.trained) == 2
    for train, held_out in observed.trained:
        assert same(train, observed.data.train)
        assert same(held_out, observed.data.test)


def test_the_metrics_are_those_of_sorting_all_scores_but_trains(observed: Observed) -> None:
    """Recall@5 by hand: the held-out items among the 5 best that are not in train."""
    trained = load_run(observed.run_dir)
    state, recalls = trained.model.propagate(), []
    scores = state.users.numpy() @ state.items.numpy().T
    for user in np.flatnonzero(observed.data.test.degrees):
        scores[user, observed.data.train.row(user)] = -np.inf
        best = np.argsort(-scores[user], kind="stable")[:5]
        held_out = observed.data.test.row(user)
        recalls.append(np.isin(best, held_out).sum() / len(held_out))
    assert observed.metrics["test"]["recall@5"] == pytest.approx(np.mean(recalls), abs=1e-12)


# --- what the run says


def test_metrics_and_config_say_what_was_selected_on(observed: Observed, whole_run: Path) -> None:
    metrics = read(observed.run_dir, "metrics.json")
    assert metrics["selected_on"] == "test"
    assert metrics["valid"] == pytest.approx(metrics["test"], abs=1e-12)
    assert read(observed.run_dir, "config.json")["settings"]["select_on_test"] is True
    assert read(whole_run, "metrics.json")["selected_on"] == "valid"
    assert read(whole_run, "config.json")["settings"]["select_on_test"] is False


def test_the_config_has_the_data_as_its_files_do(observed: Observed) -> None:
    stored = read(observed.run_dir, "config.json")["dataset"]
    assert stored["counts"] == observed.data.counts()
    assert stored["sha256"] == observed.data.checksum()


def test_evaluate_gives_the_metrics_again(observed: Observed) -> None:
    again = autosample_tf.evaluate(observed.run_dir)
    assert again == pytest.approx(read(observed.run_dir, "metrics.json")["test"], abs=1e-12)


def test_there_is_no_validation_to_evaluate_on(observed: Observed) -> None:
    with pytest.raises(InputError, match="received valid, of a run with --select-on-test"):
        autosample_tf.evaluate(observed.run_dir, split="valid")


def test_an_export_measures_its_quantizing_on_test(observed: Observed, tmp_path: Path) -> None:
    folder = autosample_tf.export(observed.run_dir, output=tmp_path, top_k=5, quantize="int8")
    told = read(folder, "export.json")["quantize"]
    assert told["split"] == "test"
    assert told["float32"] == pytest.approx(read(observed.run_dir, "metrics.json")["test"])


def test_the_command_says_it_in_plain_words(
    observed: Observed, tmp_path: Path, command: Command
) -> None:
    arguments = ["--dataset", observed.folder, *flags(SELECTED), "--run-dir", tmp_path / "run"]
    code, out, err = command("search", *arguments)
    assert (code, err) == (0, "")
    assert "weights and epochs were chosen on test: these figures are optimistic" in out
    mine = read(tmp_path / "run", "metrics.json")
    assert without_seconds(mine) == without_seconds(observed.metrics)


def test_help_says_what_such_results_are_worth(command: Command) -> None:
    told = " ".join(command("search", "--help").out.partition("--select-on-test")[2].split())
    assert "optimistic: compare them only with tables that did the same" in told


# --- recommendations


def test_users_are_offered_nothing_that_they_are_known_to_have(observed: Observed) -> None:
    """Of 80 items, all but train's, validation's and test's, every one."""
    known = observed.data.seen.union(observed.data.test)
    done = autosample_tf.recommend(observed.run_dir, top_k=80)
    for user, line in enumerate(done.lines):
        had = set(observed.data.item_ids[known.row(user)])
        assert set(line["items"]) == set(observed.data.item_ids) - had
    assert done.items == 60 * observed.data.num_items - known.num_pairs


def test_an_export_ranks_so_too(observed: Observed, tmp_path: Path) -> None:
    """`export` compares what it wrote with the run's own ranking, seen items among it."""
    folder = autosample_tf.export(observed.run_dir, output=tmp_path, top_k=10)
    assert (folder / "saved_model.pb").is_file()


# --- going on, and what is refused


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_result(observed: Observed, tmp_path: Path) -> None:
    run_dir, data = tmp_path / "run", str(observed.folder)
    with pytest.raises(Stopped):
        autosample_tf.search(data, SELECTED, run_dir=run_dir, reporter=stop_in("retrain", 1))
    changed = dataclasses.replace(SELECTED, select_on_test=False)
    with pytest.raises(InputError, match=r"settings\.select_on_test was True, is False"):
        autosample_tf.search(data, changed, run_dir=run_dir, resume=True)
    metrics = autosample_tf.search(data, SELECTED, run_dir=run_dir, resume=True)
    assert without_seconds(metrics) == without_seconds(observed.metrics)


def test_a_resumed_command_keeps_to_it(observed: Observed, command: Command) -> None:
    before = fingerprints(observed.run_dir)
    code, out, _ = command("search", "--resume", "--run-dir", observed.run_dir)
    assert code == 0
    assert "chosen on test" in out
    assert fingerprints(observed.run_dir) == before


def test_retraining_takes_it_from_the_run(observed: Observed, tmp_path: Path) -> None:
    metrics = autosample_tf.retrain(observed.run_dir, run_dir=tmp_path / "run")
    assert without_seconds(metrics) == without_seconds(observed.metrics)
    assert metrics["selected_on"] == "test"
    again = autosample_tf.evaluate(tmp_path / "run")
    assert again == pytest.approx(metrics["test"], abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"select_on_test": False}, "a setting of the retraining alone .* received select_on_test"),
        ({"refit": True}, "--select-on-test without --refit: .*; received both"),
    ],
)
def test_retraining_cannot_leave_it(
    changes: dict[str, Any], told: str, observed: Observed, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        autosample_tf.retrain(observed.run_dir, run_dir=tmp_path / "r", changes=changes)
    assert not (tmp_path / "r").exists()


def test_a_refit_has_nothing_to_refit_on(
    small_data: Path, tmp_path: Path, command: Command
) -> None:
    arguments = [
        "--dataset",
        small_data,
        "--select-on-test",
        "--refit",
        "--run-dir",
        tmp_path / "r",
    ]
    assert told_in_one_line(command("search", *arguments)) == (
        "Error: Expected --select-on-test without --refit: no validation pairs are left to refit "
        "on; received both. Leave one of them out.\n"
    )
    assert not (tmp_path / "r").exists()


def test_settings_read_back() -> None:
    assert Settings.from_dict(SELECTED.to_dict()) == SELECTED
    assert Settings.from_dict({}).select_on_test is False


def test_a_config_file_may_ask_for_it_and_a_flag_take_it_back(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autosample_tf import training

    asked: list[bool] = []

    def begin(source: object, settings: Settings, **_: object) -> None:
        asked.append(settings.select_on_test)
        raise InputError("begun")

    monkeypatch.setattr(training, "search", begin)
    (tmp_path / "config.yaml").write_text("select-on-test: true\n", encoding="utf-8")
    for flag in ([], ["--no-select-on-test"]):
        command("search", "--config", tmp_path / "config.yaml", "--run-dir", tmp_path / "r", *flag)
    assert asked == [True, False]
