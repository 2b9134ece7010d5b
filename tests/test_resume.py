"""A run that was stopped, wherever, ends as one that was not."""

from __future__ import annotations

import dataclasses
import json
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
    without_seconds,
    write_small_data,
)

import autosample_tf
from autosample_tf.callbacks import BackUp, TrainingDivergedError
from autosample_tf.errors import InputError
from autosample_tf.settings import Settings
from autosample_tf.stages import fitting, retraining, searching

STAGES = ("search", "retrain", "retrain/refit")


def assert_same_result(run_dir: Path, whole: Path) -> None:
    """Metrics, weights, drops and parameters to the last bit; histories but for times."""
    for name in ("metrics.json", "search/result.json"):
        mine, its = (
            without_seconds(json.loads((folder / name).read_text(encoding="utf-8")))
            for folder in (run_dir, whole)
        )
        assert mine == its
    for stage in STAGES:
        if (whole / stage).is_dir():
            assert history(run_dir / stage / "history.csv") == history(
                whole / stage / "history.csv"
            )
    for name in ("search/parameters", "retrain/best", "retrain/parameters"):
        mine, its = parameters(run_dir / name), parameters(whole / name)
        assert mine.keys() == its.keys()
        for variable, values in mine.items():
            np.testing.assert_array_equal(values, its[variable])


def stopped(
    data: Path, run_dir: Path, settings: Settings = WHOLE, *, resume: bool = True, **how: Any
) -> None:
    """Begins or goes on with a run, up to where `how` stops it: `stop_in`'s arguments."""
    with pytest.raises(Stopped):
        autosample_tf.search(
            str(data), settings, run_dir=run_dir, resume=resume, reporter=stop_in(**how)
        )
    assert not (run_dir / "metrics.json").exists()


def finished(data: Path, run_dir: Path, settings: Settings = WHOLE) -> dict[str, Any]:
    return autosample_tf.search(str(data), settings, run_dir=run_dir, resume=True)


def raise_stopped(*_: object, **__: object) -> None:
    raise Stopped


@pytest.mark.slow
def test_a_run_stopped_again_and_again_ends_as_one_that_was_not(
    small_data: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in each stage: between epochs, within one, and between a history's row and its
    checkpoint; and after each stage, before what it found was written."""
    run_dir = tmp_path / "run"
    stopped(small_data, run_dir, resume=False, stage="search", epoch=2)
    assert len(history(run_dir / "search" / "history.csv")) == 2
    with monkeypatch.context() as patch:
        patch.setattr(BackUp, "on_epoch_end", raise_stopped)
        with pytest.raises(Stopped):
            finished(small_data, run_dir)
    assert len(history(run_dir / "search" / "history.csv")) == 3  # the third is not backed up
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_STEPS_PER_CALL", 5)  # an epoch has 22: within it, then
        stopped(small_data, run_dir, stage="search", epoch=3, between=False)
    with monkeypatch.context() as patch:
        patch.setattr(searching, "_dropped", raise_stopped)
        with pytest.raises(Stopped):
            finished(small_data, run_dir)
    assert not (run_dir / "search" / "result.json").exists()
    stopped(small_data, run_dir, stage="retrain", epoch=1)
    stopped(small_data, run_dir, stage="retrain", epoch=2, between=False)
    stopped(small_data, run_dir, stage="refit", epoch=1)
    with monkeypatch.context() as patch:
        patch.setattr(retraining, "_on_test", raise_stopped)
        with pytest.raises(Stopped):
            finished(small_data, run_dir)
    finished(small_data, run_dir)
    assert_same_result(run_dir, whole_run)


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was_copied_to(
    small_data: Path, whole_run: Path, tmp_path: Path
) -> None:
    """The folder it began in is gone: nothing in it says where it was."""
    stopped(small_data, tmp_path / "here", resume=False, stage="search", epoch=2)
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "run")
    shutil.rmtree(tmp_path / "here")
    finished(small_data, tmp_path / "there" / "run")
    assert_same_result(tmp_path / "there" / "run", whole_run)


def test_a_run_stopped_after_a_drop_goes_on_without_the_dropped(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no step is too few to be traced anew, dns goes after the third epoch of four."""
    monkeypatch.setattr(searching, "_STEPS_TO_TRACE", 0)
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    metrics = autosample_tf.search(str(small_data), WHOLE, run_dir=whole)
    assert [drop["epoch"] for drop in metrics["search"]["dropped"]] == [3]
    stopped(small_data, run_dir, resume=False, stage="search", epoch=3)
    finished(small_data, run_dir)
    assert_same_result(run_dir, whole)
    before, after = history(whole / "search" / "history.csv")[-2:]
    assert before["weight/dns:pool=4"]
    assert not after["weight/dns:pool=4"]


VARIANTS = {
    "validation": dataclasses.replace(WHOLE, objective="validation", temperature=0.05),
    "asng": dataclasses.replace(WHOLE, objective="asng"),
    "instance": dataclasses.replace(WHOLE, mixing="instance"),
    "adam": dataclasses.replace(WHOLE, optimizer="adam"),
    "lightgcn": dataclasses.replace(WHOLE, model="lightgcn", layers=2),
    "scratch": dataclasses.replace(WHOLE, init="scratch"),
    "impatient": dataclasses.replace(WHOLE, patience=1, retrain_epochs=6),
    "lowered late": dataclasses.replace(WHOLE, retrain_epochs=6, rate_decays=3),
    "standard set": dataclasses.replace(WHOLE, samplers=Settings().samplers),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_runs_of_every_kind_go_on_in_either_stage(
    variant: str, small_data: Path, tmp_path: Path
) -> None:
    settings, epoch = VARIANTS[variant], 5 if variant == "lowered late" else 1
    autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "whole")
    run_dir = tmp_path / "run"
    stopped(small_data, run_dir, settings, resume=False, stage="search", epoch=1)
    stopped(small_data, run_dir, settings, stage="retrain", epoch=epoch)
    finished(small_data, run_dir, settings)
    assert_same_result(run_dir, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize(
    ("stage", "epoch"),
    [("search", 1), ("search", 2), ("search", 3), ("search", 4),
     ("retrain", 1), ("retrain", 3), ("refit", 1), ("refit", 2)],
)  # fmt: skip
def test_a_run_stopped_once_ends_as_one_that_was_not(
    stage: str, epoch: int, between: bool, small_data: Path, whole_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    stopped(small_data, run_dir, resume=False, stage=stage, epoch=epoch, between=between)
    finished(small_data, run_dir)
    assert_same_result(run_dir, whole_run)


# --- what is not gone on with


def test_a_finished_run_gives_its_metrics_and_is_left_as_it_is(
    small_data: Path, whole_run: Path
) -> None:
    before = fingerprints(whole_run)
    metrics = finished(small_data, whole_run)
    assert metrics == json.loads((whole_run / "metrics.json").read_text(encoding="utf-8"))
    assert fingerprints(whole_run) == before


def test_changed_settings_are_refused_and_listed(small_data: Path, whole_run: Path) -> None:
    changed = dataclasses.replace(WHOLE, dim=9, top_k=(5,), refit=False)
    with pytest.raises(InputError) as refusal:
        finished(small_data, whole_run, changed)
    listed = str(refusal.value).partition("received others: ")[2].partition(". Resume")[0]
    assert listed.split("; ") == [
        "settings.dim was 8, is 9",
        "settings.refit was True, is False",
        "settings.top_k was [10, 5], is [5]",
    ]


def test_changed_data_is_refused(whole_run: Path, tmp_path: Path) -> None:
    data = write_small_data(tmp_path / "small")
    with (data / "train.txt").open("a", encoding="utf-8") as train:
        train.write("0 79 78 77\n")
    with pytest.raises(InputError, match=r"dataset\.sha256 was '\w+', is '\w+'; source"):
        finished(data, whole_run)


# --- what a failure leaves to go on from


def test_a_run_that_diverges_keeps_the_last_good_checkpoint_to_go_on_from(
    small_data: Path, tmp_path: Path
) -> None:
    """A parameter is spoilt after the first epoch was backed up; the second one stops."""

    class Spoil(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            table = self.model.model.trainable_variables[0]
            table.assign(tf.fill(table.shape, np.nan))

    settings = dataclasses.replace(LEAST, search_epochs=2)
    run_dir = tmp_path / "run"
    with pytest.raises(TrainingDivergedError, match="Expected a finite loss; received nan"):
        autosample_tf.search(
            str(small_data), settings, run_dir=run_dir, reporter=lambda *_: Spoil()
        )
    assert [row["epoch"] for row in history(run_dir / "search" / "history.csv")] == ["1"]
    assert tf.train.latest_checkpoint(str(run_dir / "search")).endswith("ckpt-1")
    assert all(np.isfinite(v).all() for v in parameters(run_dir / "search" / "ckpt-1").values())
    metrics = finished(small_data, run_dir, settings)
    assert metrics["search"]["epochs"] == 2
