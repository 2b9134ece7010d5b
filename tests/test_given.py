"""Runs on data that brings its negatives along: found, kept, drawn from, and asked for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command, told_in_one_line
from small_runs import (
    LEAST,
    Stopped,
    fingerprints,
    flags,
    history,
    parameters,
    stop_in,
    without_seconds,
)

import autosample_tf
from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.stages import fitting
from autosample_tf.synthetic import synthetic
from autosample_tf.training import Source, load_run

# A search, a retraining and a refit, each of which has to draw from what is given.
RATED = dataclasses.replace(
    LEAST, samplers=("given", "rns"), init="scratch", retrain_epochs=2, refit=True
)
LABELS = ["--label-column", "stars", "--positive-from", "4"]
ASKED = "Expected data with given negatives for the sampler 'given'; received none. Name the"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 60 users: 4 or 5 stars for what they like, 1 to 3 for 6 items that they don't.

    User u dislikes the items from u on that it does not like; item 80 has one dislike only.
    """
    data = synthetic(60, 80, mean_pairs=15)
    liked = data.train.union(data.test)
    rows = [f"{user},{item},{4 + item % 2}" for user, item in zip(liked.users, liked.items,
                                                                  strict=True)]  # fmt: skip
    for user in range(60):
        others = [item for item in range(80) if item not in set(liked.row(user).tolist())]
        rows += [f"{user},{item},{1 + item % 3}" for item in np.roll(others, -user)[:6]]
    path = tmp_path_factory.mktemp("rated") / "ratings.csv"
    path.write_text("\n".join(["user,item,stars", *rows, "0,80,1"]) + "\n", encoding="utf-8")
    return path


def source(path: Path) -> Source:
    return Source(str(path), label_column="stars", positive_from=4)


@pytest.fixture(scope="module")
def rated(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A finished run, and the given negatives that each of its stages was trained with."""
    run_dir, seen = tmp_path_factory.mktemp("rated") / "run", []

    class Noted(AutoSample):
        def __init__(self, model: Any, train: Interactions, *, given: Any = None, **others: Any):
            seen.append(given)
            super().__init__(model, train, given=given, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "AutoSample", Noted)
        autosample_tf.search(source(ratings), RATED, run_dir=run_dir)
    return run_dir, seen


def read(run_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((run_dir / name).read_text(encoding="utf-8"))


def test_every_stage_has_the_given_negatives(rated: tuple[Path, list[Any]], ratings: Path) -> None:
    """361 of them, 6 a user and one more: in search, retraining and refit."""
    assert read(rated[0], "metrics.json")["retrain"]["best_epoch"] > 0  # or there is no refit
    assert len(rated[1]) == 3
    loaded = autosample_tf.load(ratings, label_column="stars", positive_from=4).given
    for given in rated[1]:
        assert given.num_pairs == 361
        np.testing.assert_array_equal(given.keys, loaded.keys)


def test_the_config_has_the_columns_and_the_count(
    rated: tuple[Path, list[Any]], ratings: Path
) -> None:
    config = read(rated[0], "config.json")
    assert Source(**config["source"]) == source(ratings)
    assert config["dataset"]["counts"]["given_negatives"] == 361
    assert config["dataset"]["counts"]["items"] == 81


def test_the_run_reads_its_data_again_by_itself(rated: tuple[Path, list[Any]]) -> None:
    again = autosample_tf.evaluate(rated[0])
    assert again == pytest.approx(read(rated[0], "metrics.json")["test"], abs=1e-12)
    assert load_run(rated[0]).data.given.num_pairs == 361


def test_the_command_says_what_python_says(
    rated: tuple[Path, list[Any]], ratings: Path, tmp_path: Path, command: Command
) -> None:
    arguments = ["--dataset", ratings, *LABELS, *flags(RATED), "--run-dir", tmp_path / "run"]
    code, out, err = command("search", *arguments)
    assert (code, err) == (0, "")
    assert "361 given negatives" in out
    mine, its = (read(folder, "metrics.json") for folder in (tmp_path / "run", rated[0]))
    assert without_seconds(mine) == without_seconds(its)


@pytest.mark.slow
def test_a_stopped_run_resumes_without_being_told_its_columns(
    rated: tuple[Path, list[Any]], ratings: Path, tmp_path: Path, command: Command
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(Stopped):
        autosample_tf.search(
            source(ratings), RATED, run_dir=run_dir, reporter=stop_in("retrain", 1)
        )
    line = told_in_one_line(command("search", "--resume", "--run-dir", run_dir,
                                    "--positive-from", "3"))  # fmt: skip
    assert "source.positive_from was 4, is 3.0" in line
    code, _, err = command("search", "--resume", "--run-dir", run_dir)
    assert (code, err) == (0, "")
    for stage in ("search", "retrain"):
        assert history(run_dir / stage / "history.csv") == history(rated[0] / stage / "history.csv")
    mine, its = (parameters(folder / "retrain" / "parameters") for folder in (run_dir, rated[0]))
    for name, values in mine.items():
        np.testing.assert_array_equal(values, its[name])


def test_retraining_draws_from_them_too(rated: tuple[Path, list[Any]], tmp_path: Path) -> None:
    metrics = autosample_tf.retrain(rated[0], run_dir=tmp_path / "run")
    assert without_seconds(metrics) == without_seconds(read(rated[0], "metrics.json"))


def test_describe_counts_them(ratings: Path, command: Command) -> None:
    told = json.loads(command("data", "describe", "--dataset", ratings, *LABELS, "--json").out)
    assert told["given_negatives"] == 361
    out = command("data", "describe", "--dataset", ratings, *LABELS).out
    assert ["given", "negatives", "361"] in [line.split() for line in out.splitlines()]


# --- what is refused, with nothing written


@pytest.fixture
def refused(tmp_path: Path, command: Command) -> Callable[..., str]:
    """The line that a command ends with, having left no run folder."""

    def refuse(name: str, *arguments: object) -> str:
        run_dir = tmp_path / "there" / "run"
        line = told_in_one_line(command(name, *arguments, "--run-dir", run_dir))
        assert not run_dir.parent.exists()
        return line

    return refuse


def test_without_negatives_the_sampler_asks_for_the_column(
    small_data: Path, ratings: Path, refused: Callable[..., str]
) -> None:
    for dataset in (small_data, ratings, "synthetic"):
        line = refused("search", "--dataset", dataset, "--sampler", "rns", "--sampler", "given")
        assert line.startswith(f"Error: {ASKED}")
        assert "--label-column" in line


def test_retraining_asks_too(
    rated: tuple[Path, list[Any]], ratings: Path, refused: Callable[..., str]
) -> None:
    """The dataset alone would be read as it was, its column of labels among the rest."""
    before = fingerprints(rated[0])
    line = refused("retrain", "--run", rated[0], "--dataset", ratings, "--min-rating", "0")
    assert line.startswith(f"Error: {ASKED}")
    assert fingerprints(rated[0]) == before


def test_a_dataset_in_memory_is_asked_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=ASKED):
        autosample_tf.search(synthetic(30, 40, mean_pairs=8), RATED, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_labels_are_other_data(
    rated: tuple[Path, list[Any]], ratings: Path, refused: Callable[..., str]
) -> None:
    labels = ["--label-column", "stars", "--positive-from", "5"]
    line = refused("retrain", "--run", rated[0], "--dataset", ratings, *labels)
    assert "received other data" in line
    assert "the same options" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--label-column", "item"], "received 'item', the item ids"),
        (["--label-column", "rating"], "received none among the columns user, item, stars"),
        (["--label-column", "stars", "--positive-from", "6"], "received at most 5"),
        (["--positive-from", "4"], "received --positive-from 4 alone"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    arguments: list[str], told: str, ratings: Path, refused: Callable[..., str]
) -> None:
    assert told in refused("search", "--dataset", ratings, *arguments)


@pytest.mark.parametrize("dataset", [[], ["--dataset", "gowalla"], ["--dataset", "folder"]])
def test_labels_of_what_is_no_table_are_refused(
    dataset: list[str], small_data: Path, refused: Callable[..., str]
) -> None:
    chosen = [str(small_data) if part == "folder" else part for part in dataset]
    line = refused("search", *chosen, "--label-column", "stars")
    assert "received label_column='stars'. Leave them out, or give the path of a table." in line


@pytest.mark.parametrize("name", ["evaluate", "recommend", "export", "retrain"])
def test_a_runs_labels_are_not_changed_without_naming_the_data(
    name: str, rated: tuple[Path, list[Any]], command: Command, tmp_path: Path
) -> None:
    extra = ["--run-dir", tmp_path / "new"] if name == "retrain" else []
    line = told_in_one_line(command(name, "--run", rated[0], *LABELS, *extra))
    assert line.startswith("Error: Expected --dataset beside --label-column, --positive-from;")
    assert not (tmp_path / "new").exists()
