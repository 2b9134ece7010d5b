"""The objective `branches`: who is kept, what comes back, and that a search goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import (
    LEAST,
    Stopped,
    history,
    parameters,
    stop_in,
    without_seconds,
    write_small_data,
)

from autosample_tf import settings as known
from autosample_tf.errors import InputError, TrainingDivergedError
from autosample_tf.runs import Run
from autosample_tf.settings import Settings
from autosample_tf.stages.branching import MIXTURE, Decision, _Tree, better_half, decide
from autosample_tf.stages.fitting import Job
from autosample_tf.training import load_data, retrain, search

BRANCHES = dataclasses.replace(
    LEAST,
    samplers=("rns", "pns", "dns:pool=4", "aobpr"),
    objective="branches",
    drop_warmup=2,
    branch_epochs=1,
    search_epochs=5,
)


@pytest.mark.parametrize(
    ("ranked", "kept"),
    [
        (["d", MIXTURE, "b", "a", "c"], ["b", "d"]),
        (["d", "b", "a", "c", MIXTURE], ["b", "d"]),
        (["c", "a", MIXTURE, "b"], ["a", "c"]),  # rounded up
        ([MIXTURE, "d", "b"], ["a", "b", "c", "d"]),
        (["a", "b", MIXTURE], ["a"]),
    ],
)
def test_the_better_half_goes_on_and_all_where_the_mixture_was_best(
    ranked: list[str], kept: list[str]
) -> None:
    assert better_half(ranked, ["a", "b", "c", "d"]) == kept


class Planted:
    """A world in which a sampler adds to the metric what it is said to, an epoch, and noise."""

    def __init__(self, gain: Callable[[str, int], float], names: str, noise: float, seed: int):
        self.candidates = list(names)
        self._gain, self._noise = gain, noise
        self._rng = np.random.default_rng(seed)
        self._state = 0.0
        guess = {c: gain(c, 0) + noise * self._rng.standard_normal() for c in names}
        self._proposed = sorted(guess, key=guess.__getitem__, reverse=True)
        self.asked: list[list[str]] = []
        self._found: dict[str, float] = {}

    def warm_up(self) -> tuple[float, list[str]]:
        return self._state, self._proposed

    def round(
        self, number: int, candidates: Sequence[str], first: int, last: int
    ) -> dict[str, float]:
        self.asked.append(list(candidates))
        epochs = range(first, last)
        gains = {c: sum(self._gain(c, e) for e in epochs) for c in self.candidates}
        found = {c: gains[c] for c in candidates}
        found[MIXTURE] = float(np.mean(list(gains.values())))
        noise = self._noise * self._rng.standard_normal(len(found))
        self._truth = {name: self._state + gain for name, gain in found.items()}
        return {name: true + n for (name, true), n in zip(self._truth.items(), noise, strict=True)}

    def hand_on(self, number: int, best: str) -> None:
        self._state = self._truth[best]


def decided(world: Planted, last_epoch: int = 19) -> Decision:
    return decide(world, warmup=4, last_epoch=last_epoch, length=1)


def test_the_best_is_found_in_95_of_100_worlds() -> None:
    """One of eight adds 1 an epoch, the others up to .7; a measurement's noise is .2."""
    wins = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        gains = dict(zip("abcdefgh", rng.permutation([1.0, *rng.uniform(0, 0.7, 7)]), strict=True))
        best = max(gains, key=gains.__getitem__)
        found = decided(Planted(lambda c, _, g=gains: g[c], "abcdefgh", 0.2, seed))
        wins += found.survivors == [best]
    assert wins >= 95


def test_what_was_dropped_comes_back_where_its_time_comes() -> None:
    """`a` is best until epoch 5, from then on it harms, and `h`, which is dropped first, is
    the only one that helps."""
    follows = 0
    for seed in range(100):
        rng = np.random.default_rng(1000 + seed)
        others = dict(zip("bcdefg", rng.uniform(0, 0.5, 6), strict=True))

        def gain(name: str, epoch: int, others: dict[str, float] = others) -> float:
            if epoch < 5:
                return {"a": 1.0, "h": 0.0}.get(name, others.get(name, 0.0))
            return {"a": -0.5, "h": 1.5}.get(name, 0.0)

        world = Planted(gain, "abcdefgh", 0.05, seed)
        found = decided(world, last_epoch=64)
        assert "h" not in world.asked[0]
        follows += found.survivors == ["h"]
    assert follows >= 95


def test_a_round_that_helps_nobody_ends_the_search_at_the_state_before() -> None:
    world = Planted(lambda name, epoch: -1.0 if name == "a" else -2.0, "abc", 0.0, 0)
    found = decided(world)
    assert (found.survivors, found.epoch, found.handed_on) == (["a"], 4, 0)
    assert len(found.rounds) == 1
    assert found.dropped == []


def test_where_the_mixture_stays_best_everybody_survives() -> None:
    world = Planted(lambda name, epoch: {"a": 3.0, "b": 0.0}[name], "ab", 0.0, 0)
    world.round = lambda number, candidates, first, last: {"a": 1.0, "b": 0.5, MIXTURE: 2.0 * last}  # type: ignore[method-assign]
    world.hand_on = lambda number, best: None  # type: ignore[method-assign]
    found = decided(world)
    assert found.survivors == ["a", "b"]
    assert found.dropped == []
    assert found.epoch == 19


def test_drops_tell_when_and_of_how_many() -> None:
    gains = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}
    found = decided(Planted(lambda c, _: gains[c], "abcd", 0.0, 0))
    assert found.survivors == ["a"]
    assert found.dropped == [
        {"sampler": "c", "epoch": 5, "weight": 1 / 4},
        {"sampler": "d", "epoch": 5, "weight": 1 / 4},
        {"sampler": "b", "epoch": 7, "weight": 1 / 2},
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_data(tmp_path_factory.mktemp("data") / "small"))


@pytest.fixture(scope="module")
def searched(data: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("searched") / "run")
    search(data, BRANCHES, run_dir=run.path)
    return run


def test_a_run_tells_its_rounds_and_keeps_the_winners_history(searched: Run) -> None:
    found = searched.metrics()["search"]
    rounds = found["rounds"]
    assert [each["epoch"] for each in rounds][:1] == [3]
    for each in rounds:
        assert each["best"] == max(each["valid"], key=each["valid"].__getitem__)
    rows = history(searched.search / "history.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, found["best_epoch"] + 1))
    by_round = {int(row["epoch"]): row["ndcg@10"] for row in rows if row["ndcg@10"]}
    for each in rounds:
        if each["epoch"] <= found["best_epoch"]:
            assert float(by_round[each["epoch"]]) == each["valid"][each["best"]]
    trained = sum(len(history(p)) for p in searched.search.glob("branches/*/history.csv"))
    assert found["epochs"] == BRANCHES.drop_warmup + trained
    assert sum(found["weights"].values()) == pytest.approx(1.0)
    assert not list(searched.search.glob("branches/1-*/ckpt*"))  # handed on, and not kept twice


def test_a_samplers_own_optimizer_begins_each_branch_anew(data: str, tmp_path: Path) -> None:
    """Else a search that was stopped and goes on would have another second round."""
    settings = dataclasses.replace(BRANCHES, samplers=("rns", "kbgan:pool=4,dim=2"))
    loaded = load_data(data, settings, 0)
    job = Job(Run(tmp_path), loaded, settings.resolved(loaded.train.num_pairs))
    tree = _Tree(job)
    own = tree._begun(tree.candidates[1]).sampler_optimizer.variables
    before = [variable.numpy() for variable in own]
    assert len(own) > 1
    for variable in own:
        variable.assign_add(tf.ones_like(variable))
    tree._begun(tree.candidates[1])
    for variable, value in zip(own, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_every_branch_of_a_round_leaves_from_the_same_state(data: str, tmp_path: Path) -> None:
    """So that it comes to the same whichever was trained before it."""
    settings = dataclasses.replace(BRANCHES, drop_warmup=1, search_epochs=2)
    loaded = load_data(data, settings, 0)
    found = []
    for name in ("forth", "back"):
        job = Job(Run(tmp_path / name), loaded, settings.resolved(loaded.train.num_pairs))
        tree = _Tree(job)
        tree.warm_up()
        found.append(tree.round(1, tree.candidates[:: 1 if name == "forth" else -1], 1, 2))
    assert found[0] == found[1]
    assert len(set(found[0].values())) > 1


@pytest.mark.parametrize(
    ("name", "epoch", "between"),
    [
        pytest.param("search", 2, True, marks=pytest.mark.slow),
        pytest.param("branch 1 dns:pool=4", 3, True, marks=pytest.mark.slow),
        pytest.param("branch 1 mixture", 3, False, marks=pytest.mark.slow),
        ("branch 2", 4, True),
    ],
)
def test_a_stopped_search_goes_on_as_if_it_had_not(
    data: str, searched: Run, tmp_path: Path, name: str, epoch: int, between: bool
) -> None:
    """Stopped after the warm-up, after and within a branch, and in a branch of two epochs."""
    run = Run(tmp_path / "stopped")
    with pytest.raises(Stopped):
        search(data, BRANCHES, run_dir=run.path, reporter=stop_at(name, epoch, between))
    search(data, BRANCHES, run_dir=run.path, resume=True)
    assert without_seconds(run.metrics()) == without_seconds(searched.metrics())
    for path in ("search/history.csv", "retrain/history.csv"):
        assert history(run.path / path) == history(searched.path / path)
    ours, theirs = parameters(run.search / "parameters"), parameters(searched.search / "parameters")
    for variable, values in ours.items():
        np.testing.assert_array_equal(values, theirs[variable])


def stop_at(stage: str, epoch: int, between: bool) -> Any:
    """`small_runs.stop_in` of the first stretch whose name begins so."""
    stop = stop_in("here", epoch, between=between)
    return lambda name, last: stop("here" if name.startswith(stage) else "elsewhere", last)


def diverging_in(stage: str) -> Any:
    """A reporter of stretches whose names begin so, at which training diverges."""

    class Diverging(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise TrainingDivergedError("Expected a finite loss; received nan.")

    sound = tf.keras.callbacks.Callback
    return lambda name, last: Diverging() if name.startswith(stage) else sound()


def test_a_branch_that_diverges_is_out_of_its_round(data: str, tmp_path: Path) -> None:
    metrics = search(
        data, BRANCHES, run_dir=tmp_path / "run", reporter=diverging_in("branch 1 dns:pool=4")
    )
    first = metrics["search"]["rounds"][0]["valid"]
    assert set(first) == {"rns", "pns:alpha=0.75", "aobpr:mean_rank=500.0", MIXTURE}
    if metrics["search"]["rounds"][0]["best"] != MIXTURE:
        assert "dns:pool=4" in {each["sampler"] for each in metrics["search"]["dropped"]}


def test_a_round_whose_branches_all_diverge_ends_the_search(data: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError):
        search(data, BRANCHES, run_dir=tmp_path / "run", reporter=diverging_in("branch"))


def test_retraining_rewinds_to_the_warm_up(data: str, searched: Run, tmp_path: Path) -> None:
    metrics = retrain(
        searched.path, run_dir=tmp_path / "rewound", changes={"init": "rewind"}, source=data
    )
    assert metrics["retrain"]["init"] == "rewind"
    assert metrics["search"] == searched.metrics()["search"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"drop_warmup": 0}, "--drop-warmup at least 1"),
        ({"rewind_epoch": 3}, "within --drop-warmup, 2"),
        ({"branch_epochs": 0}, "--branch-epochs at least 1"),
    ],
)
def test_settings_that_leave_no_room_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        dataclasses.replace(BRANCHES, **changes)


def test_it_is_no_objective_of_a_step() -> None:
    assert "branches" in known.OBJECTIVES
    assert "branches" not in known.STEP_OBJECTIVES
    assert Settings(objective="branches").objective == "branches"
