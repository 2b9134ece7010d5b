"""The second stage alone: from another run's search, into a folder of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import (
    LEAST,
    WHOLE,
    Stopped,
    fingerprints,
    history,
    parameters,
    stop_in,
    variables,
    without_seconds,
)

import autosample_tf
from autosample_tf import training
from autosample_tf.checkpoints import write_parameters
from autosample_tf.errors import InputError
from autosample_tf.models import build_model
from autosample_tf.pipeline import steps_per_epoch
from autosample_tf.runs import Run
from autosample_tf.stages import fitting, trial
from autosample_tf.stages.results import read_search_result
from autosample_tf.stages.retraining import _refit

STILL = {"retrain_epochs": 0, "refit": False}  # the parameters that retraining starts from


def read(run_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((run_dir / name).read_text(encoding="utf-8"))


def assert_same_values(one: Path, other: Path) -> None:
    mine, its = parameters(one), parameters(other)
    assert mine.keys() == its.keys()
    for name, values in mine.items():
        np.testing.assert_array_equal(values, its[name])


@pytest.fixture(scope="module")
def retrained(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """`whole_run` retrained without a change; whether that left it as it was."""
    run_dir = tmp_path_factory.mktemp("retrained") / "run"
    before = fingerprints(whole_run)
    autosample_tf.retrain(whole_run, run_dir=run_dir)
    return run_dir, before == fingerprints(whole_run)


def test_retraining_leaves_the_searched_run_untouched(retrained: tuple[Path, bool]) -> None:
    assert retrained[1]


def test_retraining_without_a_change_gives_the_searched_runs_result(
    retrained: tuple[Path, bool], whole_run: Path
) -> None:
    run_dir = retrained[0]
    mine, its = (without_seconds(read(folder, "metrics.json")) for folder in (run_dir, whole_run))
    assert mine == its
    assert_same_values(run_dir / "retrain/parameters", whole_run / "retrain/parameters")
    for name in ("retrain", "retrain/refit"):
        assert history(run_dir / name / "history.csv") == history(whole_run / name / "history.csv")


def test_the_config_names_the_searched_run_by_a_relative_path(
    retrained: tuple[Path, bool], whole_run: Path
) -> None:
    config = read(retrained[0], "config.json")
    assert config["command"] == "retrain"
    assert not os.path.isabs(config["searched"])
    assert (retrained[0] / config["searched"]).resolve() == whole_run.resolve()
    assert not (retrained[0] / "search").exists()


def test_a_retrained_run_is_evaluated_like_any(retrained: tuple[Path, bool]) -> None:
    again = autosample_tf.evaluate(retrained[0])
    assert again == pytest.approx(read(retrained[0], "metrics.json")["test"], abs=1e-12)


def test_a_stopped_retraining_goes_on_to_the_same_result(
    retrained: tuple[Path, bool], whole_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(Stopped):
        autosample_tf.retrain(whole_run, run_dir=run_dir, reporter=stop_in("retrain", 2))
    autosample_tf.retrain(whole_run, run_dir=run_dir, resume=True)
    mine, its = (without_seconds(read(folder, "metrics.json")) for folder in (run_dir, whole_run))
    assert mine == its
    finished = fingerprints(run_dir)
    metrics = autosample_tf.retrain(whole_run, run_dir=run_dir, resume=True)
    assert metrics == read(run_dir, "metrics.json")
    assert fingerprints(run_dir) == finished
    with pytest.raises(InputError, match=r"others: settings\.seed was 3, is 4\. Resume"):
        autosample_tf.retrain(whole_run, run_dir=run_dir, resume=True, changes={"seed": 4})


# --- where it starts


def test_it_starts_from_the_searchs_best_epoch(whole_run: Path, tmp_path: Path) -> None:
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes={**STILL, "init": "search"})
    assert_same_values(tmp_path / "r/retrain/parameters", whole_run / "search/parameters")
    metrics = read(tmp_path / "r", "metrics.json")
    best = read(whole_run, "metrics.json")["search"]["best_epoch"]
    row = history(whole_run / "search" / "history.csv")[best - 1]
    assert metrics["valid"] == {name: float(row[name]) for name in metrics["valid"]}
    assert metrics["retrain"]["init"] == "search"
    assert (metrics["retrain"]["epochs"], metrics["retrain"]["best_epoch"]) == (0, 0)


def test_or_from_a_rewound_epoch(whole_run: Path, tmp_path: Path) -> None:
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes={**STILL, "init": "rewind"})
    assert_same_values(tmp_path / "r/retrain/parameters", whole_run / "search/epoch-1")
    valid = read(tmp_path / "r", "metrics.json")["valid"]
    row = history(whole_run / "search" / "history.csv")[0]
    assert valid == {name: float(row[name]) for name in valid}


@pytest.mark.parametrize("seed", [3, 4])
def test_or_from_scratch_by_the_seed(seed: int, whole_run: Path, tmp_path: Path) -> None:
    changes = {**STILL, "init": "scratch", "seed": seed}
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes=changes)
    model = training.load_run(tmp_path / "r").model
    train = training.load_run(whole_run).data.train
    initial = fitting.stage_seed(dataclasses.replace(WHOLE, seed=seed), "initial")
    fresh = build_model("mf", train, dim=WHOLE.dim, seed=initial)
    for mine, its in zip(model.trainable_variables, fresh.trainable_variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())


@pytest.mark.parametrize("init", ["search", "rewind"])
def test_the_optimizer_goes_on_where_it_stood(init: str, whole_run: Path, tmp_path: Path) -> None:
    name = {"search": "parameters", "rewind": "epoch-1"}[init]
    stood = optimizers(whole_run / "search" / name)
    changes = {"init": init, "shrink": 1, "refit": False, "retrain_epochs": 1}
    changes["learning_rate"] = 1e-12
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes=changes)
    stands = optimizers(latest(tmp_path / "r/retrain"))
    assert stands["iterations"] == stood["iterations"] + steps_of_an_epoch(whole_run)
    assert stands["learning_rate"] == np.float32(1e-12)  # the run's own, not the search's
    rows = {name: values for name, values in stood.items() if np.ndim(values) == 2}
    assert len(rows) == 4  # both moments of both tables
    for name, values in rows.items():  # sums that decay by .999 at the most: the old is in the new
        assert np.corrcoef(values.ravel(), stands[name].ravel())[0, 1] > 0.3, name


@pytest.mark.parametrize("init", ["search", "rewind"])
def test_what_the_search_left_is_shrunk_and_gets_noise(
    init: str, whole_run: Path, tmp_path: Path
) -> None:
    """Before the first epoch, which changes nothing here; the start is kept where it is better."""
    name = {"search": "parameters", "rewind": "epoch-1"}[init]
    left = parameters(whole_run / "search" / name)
    changes = {"init": init, "shrink": 0.4, "refit": False, "retrain_epochs": 1}
    changes["learning_rate"] = 1e-12
    metrics = autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes=changes)
    begun = variables(latest(tmp_path / "r/retrain"))
    noise = [begun[f"autosample/{name}"] - 0.4 * values for name, values in left.items()]
    for one in noise:
        assert one.std() == pytest.approx(0.01, rel=0.1)
        assert abs(one.mean()) < 4 * 0.01 / one.size**0.5
    rows = min(len(one) for one in noise)
    assert abs(np.corrcoef(*(one[:rows].ravel() for one in noise))[0, 1]) < 4 / noise[0].size ** 0.5
    if metrics["retrain"]["best_epoch"] == 0:
        assert_same_values(tmp_path / "r/retrain/parameters", whole_run / "search" / name)


@pytest.mark.parametrize(
    "change", [{"init": "scratch"}, {"shrink": 0.5}, {"shrink": 1, "optimizer": "adam"}]
)
def test_or_begins_anew_from_scratch_shrunk_and_as_another(
    change: dict[str, Any], whole_run: Path, tmp_path: Path
) -> None:
    changes = {"init": "search", "refit": False, "retrain_epochs": 1, **change}
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes=changes)
    found = optimizers(latest(tmp_path / "r/retrain"))
    assert found["iterations"] == steps_of_an_epoch(whole_run)


def test_a_search_without_the_optimizers_state_is_refused(whole_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole_run, tmp_path / "copy")
    write_parameters(training.load_run(whole_run).model, copy / "search" / "parameters")
    changes = {"init": "search", "shrink": 1}
    with pytest.raises(InputError, match=r"the state of this optimizer in .*search/parameters"):
        autosample_tf.retrain(copy, run_dir=tmp_path / "r", changes=changes)


def optimizers(path: Path) -> dict[str, np.ndarray]:
    """The model's optimizer in a checkpoint, variables by the ends of their names."""
    own = re.compile(r"(?:autosample/)?optimizer/_(.*)/\.ATTRIBUTES/VARIABLE_VALUE")
    found = {own.fullmatch(name): values for name, values in variables(path).items()}
    return {match[1]: values for match, values in found.items() if match}


def latest(folder: Path) -> Path:
    return Path(tf.train.latest_checkpoint(str(folder)))


def steps_of_an_epoch(run_dir: Path) -> int:
    num_pairs = training.load_run(run_dir).data.train.num_pairs
    return steps_per_epoch(num_pairs, WHOLE.batch_size)


def test_another_seed_keeps_the_split_and_so_the_data(whole_run: Path, tmp_path: Path) -> None:
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes={**STILL, "seed": 9})
    mine, its = (read(folder, "config.json") for folder in (tmp_path / "r", whole_run))
    assert mine["dataset"] == its["dataset"]
    assert (mine["split_seed"], mine["settings"]["seed"]) == (3, 9)
    again = autosample_tf.evaluate(tmp_path / "r", split="valid")
    assert again == pytest.approx(read(tmp_path / "r", "metrics.json")["valid"], abs=1e-12)


def test_other_cutoffs_are_those_of_its_metrics(whole_run: Path, tmp_path: Path) -> None:
    metrics = autosample_tf.retrain(
        whole_run, run_dir=tmp_path / "r", changes={**STILL, "top_k": (3,)}
    )
    assert {name.partition("@")[2] for name in metrics["test"]} == {"3"}


# --- what is refused, with nothing written


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"rewind_epoch": 2, "init": "rewind"}, r"kept, 1; received --rewind-epoch 2"),
     ({"dim": 16}, r"a setting of the retraining alone \(.*init.*\); received dim"),
     ({"samplers": ("rns",)}, "received samplers"), ({"objective": "joint"}, "Search again"),
     ({"top_k": (81,)}, "received 81"), ({"learning_rate": -1.0}, "--learning-rate above 0"),
     ({"optimizer": "sgd"}, "Known: adam, row-sparse-adam")],
)  # fmt: skip
def test_what_retraining_cannot_change_is_refused(
    changes: dict[str, Any], told: str, whole_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        autosample_tf.retrain(whole_run, run_dir=tmp_path / "r", changes=changes)
    assert not (tmp_path / "r").exists()


def test_a_retrained_run_has_no_search_to_retrain_from(
    retrained: tuple[Path, bool], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="`searched` in its config"):
        autosample_tf.retrain(retrained[0], run_dir=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_refit_follows_the_rates_that_led_to_the_best_epoch(
    small_data: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(LEAST, patience=1, retrain_epochs=12, refit=True)
    metrics = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    retrained = history(tmp_path / "run" / "retrain" / "history.csv")
    assert {round(float(row["lr"]), 6) for row in retrained} == {0.01, 0.002}
    first, second = metrics["retrain"]["epochs_by_rate"]
    assert first + second > 0
    refitted = history(tmp_path / "run" / "retrain" / "refit" / "history.csv")
    np.testing.assert_allclose(
        [float(row["lr"]) for row in refitted], [0.01] * first + [0.002] * second, rtol=1e-6
    )


def test_what_no_better_epoch_left_to_refit_was_not_trained_on_validation(
    whole_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without learning no epoch of retraining is better than the search's."""
    changes = {"refit": True, "retrain_epochs": 1, "trial_epochs": 0, "learning_rate": 1e-12}
    autosample_tf.retrain(whole_run, run_dir=tmp_path / "refit", changes=changes)
    assert "there is none to refit" in caplog.text
    without = {**changes, "refit": False}
    caplog.clear()
    plain = autosample_tf.retrain(whole_run, run_dir=tmp_path / "plain", changes=without)
    assert "which are the result: the search's" in caplog.text
    metrics = read(tmp_path / "refit", "metrics.json")
    assert (metrics["retrain"]["best_epoch"], metrics["retrain"]["refit"]) == (0, False)
    assert metrics["test"] == plain["test"]
    assert autosample_tf.evaluate(tmp_path / "refit", split="valid") == pytest.approx(
        plain["valid"]
    )
    trained = training.load_run(tmp_path / "refit")
    np.testing.assert_array_equal(trained.learned.offsets, trained.data.train.offsets)


def test_a_refit_is_not_shrunk_where_retraining_went_back_to_where_it_began(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose first rate led to no better epoch."""
    shrunk: list[object] = []
    monkeypatch.setattr(trial.Start, "shrink", lambda self, model: shrunk.append(model))
    job = fitting.Job(Run(tmp_path / "r"), training.load_run(whole_run).data, WHOLE)
    start = trial.Start(job, Run(whole_run), read_search_result(Run(whole_run)))
    for epochs, times in (([0, 0], 0), ([0, 1], 0), ([1, 0], 1)):
        del shrunk[:]
        shutil.rmtree(tmp_path / "r", ignore_errors=True)
        _refit(start, {"rns": 1.0}, epochs)
        assert len(shrunk) == times


def test_a_search_without_retraining_lowers_the_rate_itself(
    small_data: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(LEAST, patience=1, search_epochs=12, retrain_epochs=0)
    autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "alone")
    settings = dataclasses.replace(settings, retrain_epochs=1)
    autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "both")
    alone, both = (
        {round(float(row["lr"]), 6) for row in history(tmp_path / name / "search" / "history.csv")}
        for name in ("alone", "both")
    )
    assert (alone, both) == ({0.01, 0.002}, {0.01})


def test_a_search_that_stopped_before_the_rewind_epoch_says_so(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without learning no epoch is better than the first: patience 1 ends the search at 2."""
    settings = dataclasses.replace(
        LEAST, search_epochs=4, patience=1, learning_rate=1e-12, init="rewind", rewind_epoch=3
    )
    with pytest.raises(InputError, match="at least 3 epochs to rewind to; received one that"):
        autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    changes = {"init": "search", "retrain_epochs": 0}  # the search is not lost
    autosample_tf.retrain(tmp_path / "run", run_dir=tmp_path / "r", changes=changes)


# --- folders that were moved


def test_a_copied_run_evaluates_and_retrains(whole_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(whole_run, copy)
    test = read(whole_run, "metrics.json")["test"]
    assert autosample_tf.evaluate(copy) == pytest.approx(test, abs=1e-12)
    autosample_tf.retrain(copy, run_dir=tmp_path / "r", changes={**STILL, "init": "search"})
    assert_same_values(tmp_path / "r/retrain/parameters", whole_run / "search/parameters")


def test_a_run_whose_data_moved_takes_it_from_where_it_is_now(
    whole_run: Path, small_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_data, tmp_path / "small")
    config = read(whole_run, "config.json")
    config["source"]["dataset"] = str(tmp_path / "gone")
    copy = tmp_path / "copy"
    shutil.copytree(whole_run, copy)
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="Name where it is now with --dataset"):
        autosample_tf.evaluate(copy)
    test = read(whole_run, "metrics.json")["test"]
    again = autosample_tf.evaluate(copy, source=tmp_path / "small")
    assert again == pytest.approx(test, abs=1e-12)
