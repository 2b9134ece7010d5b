"""The trial: retraining goes on with the mixture that validation prefers, searched or simpler."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import (
    LEAST,
    WHOLE,
    Stopped,
    history,
    parameters,
    stop_in,
    without_seconds,
)
from worlds import slow_but

import autosample_tf
from autosample_tf.callbacks import TrainingDivergedError
from autosample_tf.runs import Run, folder_name
from autosample_tf.settings import Settings
from autosample_tf.stages import trial
from autosample_tf.stages.results import SearchResult, read_search_result, trained_weights
from autosample_tf.stages.searching import _leaders
from autosample_tf.stages.trial import EQUAL, SEARCHED, Contender, mixtures_to_try

TRIED = dataclasses.replace(WHOLE, trial_epochs=2, retrain_epochs=4)
EQUAL_WEIGHTS = dict.fromkeys(("rns", "pns:alpha=0.75", "dns:pool=4"), 1 / 3)


# --- what is tried


def found(weights: dict[str, float], leaders: tuple[str, ...] = ()) -> SearchResult:
    return SearchResult(
        epochs=4, best_epoch=3, seconds=1.0, weights=weights, dropped=[], rewind_epoch=1,
        leaders=list(leaders),
    )  # fmt: skip


def test_the_equal_mixture_is_of_all_candidates_dropped_ones_too() -> None:
    tried = mixtures_to_try(TRIED, found({"rns": 1.0}))
    assert tried == {SEARCHED: {"rns": 1.0}, EQUAL: EQUAL_WEIGHTS}


@pytest.mark.parametrize(
    "leaders", [(), ("dns:pool=4",), ("pns:alpha=0.75",), ("pns:alpha=0.75", "dns:pool=4")]
)
def test_so_is_each_sampler_alone_that_led(leaders: tuple[str, ...]) -> None:
    """Dropped ones too: evidence fades once the model trains under it."""
    weights = {"rns": 0.4, "dns:pool=4": 0.6}
    alone = {spec: {spec: 1.0} for spec in leaders}
    tried = mixtures_to_try(TRIED, found(weights, leaders))
    assert tried == {SEARCHED: weights, EQUAL: EQUAL_WEIGHTS, **alone}


@pytest.mark.parametrize(
    "changes",
    [
        {"trial_epochs": 0},
        {"retrain_epochs": 0, "refit": False},
        {"objective": "uniform"},
        {"objective": "branches"},
        {"samplers": ("rns",)},
    ],
)
def test_there_is_no_trial_where_there_is_nothing_to_try(changes: dict[str, Any]) -> None:
    settings = dataclasses.replace(TRIED, **changes)
    assert mixtures_to_try(settings, found({"rns": 1.0})) == {SEARCHED: {"rns": 1.0}}


def test_nor_is_the_equal_mixture_tried_where_it_is_the_searched_one() -> None:
    assert list(mixtures_to_try(TRIED, found(EQUAL_WEIGHTS))) == [SEARCHED]


def test_leaders_are_in_the_order_in_which_they_came_to_it_and_of_equals_there_is_none() -> None:
    shares = [(0.5, 0.5), (0.4, 0.6), (0.7, 0.3), (0.2, 0.8), (None, 1.0)]
    rows = [{"epoch": 1, "weight/rns": rns, "weight/dns:pool=4": dns} for rns, dns in shares]
    assert _leaders(rows, 2) == ["dns:pool=4", "rns"]
    assert _leaders(rows[:1], 2) == _leaders([], 2) == []


@pytest.mark.parametrize(("largest", "leads"), [(0.19, False), (0.2, True)])
def test_of_ten_a_sampler_leads_that_has_twice_an_equal_weight(largest: float, leads: bool) -> None:
    """Who is little ahead of many others is not by far the best alone, and to try it costs."""
    weights = {f"weight/{k}": (1 - largest) / 9 for k in range(9)}
    found = _leaders([{"epoch": 1, **weights, "weight/rns": largest}], 10)
    assert found == (["rns"] if leads else [])


# --- a trial that each of them wins


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Tried:
    """A retraining with a trial, and the run whose search it is of."""

    searched: Path
    run: Path
    best: str

    @property
    def mixtures(self) -> dict[str, dict[str, float]]:
        """All that were tried."""
        return mixtures_to_try(TRIED, read_search_result(Run.existing(self.searched)))

    def folder_of(self, name: str) -> Path:
        """What is left of a mixture's trial."""
        return self.run / "retrain" / "trial" / folder_name(name)

    @property
    def weights(self) -> dict[str, float]:
        """The mixture that won."""
        return self.mixtures[self.best]


CHANGES = {"trial_epochs": 2, "retrain_epochs": 4}
# The winner, and what the search is made to have found.
WINNERS = {
    SEARCHED: found({"dns:pool=4": 1.0}),
    EQUAL: found({"pns:alpha=0.75": 1.0}),
    "dns:pool=4": found({"rns": 0.4, "pns:alpha=0.75": 0.6}, leaders=("dns:pool=4",)),
}


def searched_with(whole_run: Path, folder: Path, other: SearchResult) -> Path:
    """A copy of a run whose search ended with other weights, and had other leaders."""
    shutil.copytree(whole_run, folder)
    path = folder / "search" / "result.json"
    changes = {"weights": other.weights, "leaders": other.leaders}
    path.write_text(json.dumps({**read(path), **changes}))
    return folder


@pytest.fixture(scope="module", params=WINNERS)
def tried(
    request: pytest.FixtureRequest, whole_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tried:
    folder = tmp_path_factory.mktemp("tried")
    searched = searched_with(whole_run, folder / "searched", WINNERS[request.param])
    autosample_tf.retrain(searched, run_dir=folder / "run", changes=CHANGES)
    return Tried(searched, folder / "run", request.param)


def test_the_better_one_on_validation_wins(tried: Tried) -> None:
    """Its best epoch of the trial, wherever both begin; histories say what was seen."""
    verdict = read(tried.run / "metrics.json")["retrain"]["trial"]
    assert verdict["best"] == tried.best, verdict
    for name in tried.mixtures:
        rows = history(tried.folder_of(name) / "history.csv")
        assert verdict["valid"][name] == max(float(row["ndcg@10"]) for row in rows)
        assert name == tried.best or verdict["valid"][tried.best] > verdict["valid"][name]


def test_the_retraining_is_as_it_would_be_without_the_others(tried: Tried, tmp_path: Path) -> None:
    """Histories, weights and parameters are those of retraining the winner without a trial."""
    searched = searched_with(tried.searched, tmp_path / "searched", found(tried.weights))
    autosample_tf.retrain(
        searched, run_dir=tmp_path / "run", changes={**CHANGES, "trial_epochs": 0}
    )
    for path in ("retrain/history.csv", "retrain/refit/history.csv"):
        assert history(tried.run / path) == history(tmp_path / "run" / path)
    mine, its = (read(folder / "metrics.json") for folder in (tried.run, tmp_path / "run"))
    assert mine["retrain"]["weights"] == its["retrain"]["weights"] == tried.weights
    assert its["retrain"]["trial"] is None
    for name in ("valid", "test"):
        assert mine[name] == its[name]
    mine, its = (parameters(f / "retrain/parameters") for f in (tried.run, tmp_path / "run"))
    for name, values in mine.items():
        np.testing.assert_array_equal(values, its[name])


def test_a_trial_goes_on_as_the_search_ended_whatever_retraining_then_shrinks(
    tried: Tried, tmp_path: Path
) -> None:
    """Epoch by epoch it is what retraining would be that keeps the parameters as they are."""
    searched = searched_with(tried.searched, tmp_path / "searched", found(tried.weights))
    changes = {**CHANGES, "trial_epochs": 0, "retrain_epochs": 2, "shrink": 1.0, "refit": False}
    autosample_tf.retrain(searched, run_dir=tmp_path / "run", changes=changes)
    kept = history(tmp_path / "run" / "retrain" / "history.csv")
    in_trial = history(tried.folder_of(tried.best) / "history.csv")
    assert [row["ndcg@10"] for row in in_trial] == [row["ndcg@10"] for row in kept]
    begun = history(tried.run / "retrain" / "history.csv")
    assert begun[0]["ndcg@10"] != kept[0]["ndcg@10"]


def test_all_epochs_of_a_trial_are_at_one_rate(whole_run: Path, tmp_path: Path) -> None:
    """Of six the last would be at a lowered one in retraining, as those before the patience's."""
    searched = searched_with(whole_run, tmp_path / "searched", WINNERS[EQUAL])
    changes = {"trial_epochs": 6, "retrain_epochs": 6, "refit": False}
    autosample_tf.retrain(searched, run_dir=tmp_path / "run", changes=changes)
    for name in (SEARCHED, EQUAL):
        path = tmp_path / "run" / "retrain" / "trial" / folder_name(name) / "history.csv"
        assert len({row["lr"] for row in history(path)}) == 1
    retrained = history(tmp_path / "run" / "retrain" / "history.csv")
    assert len({row["lr"] for row in retrained}) == 2


def test_of_a_trial_histories_alone_stay(tried: Tried) -> None:
    folder = tried.run / "retrain" / "trial"
    left = {path for path in folder.rglob("*") if path.is_file()}
    assert left == {tried.folder_of(name) / "history.csv" for name in tried.mixtures}
    verdict = read(tried.run / "metrics.json")["retrain"]["trial"]
    rows = []
    for path in left:
        with path.open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    assert verdict["epochs"] == len(rows) == 2 * len(tried.mixtures)
    assert verdict["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in rows))


def diverging(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Training diverges in these mixtures' trials."""
    fit = Contender.fit

    def diverges(self: Contender, name: str, *given: Any, **how: Any) -> Any:
        if name.removeprefix("trial ") in names:
            raise TrainingDivergedError("Expected a finite loss; received nan")
        return fit(self, name, *given, **how)

    monkeypatch.setattr(Contender, "fit", diverges)


@pytest.mark.parametrize("out", [SEARCHED, EQUAL])
def test_a_mixture_under_which_training_diverges_is_out(
    out: str, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, out)
    searched = searched_with(whole_run, tmp_path / "searched", found({"rns": 1.0}))
    autosample_tf.retrain(searched, run_dir=tmp_path / "run", changes=CHANGES)
    trial = read(tmp_path / "run" / "metrics.json")["retrain"]["trial"]
    (left,) = {SEARCHED, EQUAL} - {out}
    assert (trial["best"], list(trial["valid"])) == (left, [left])
    assert list(trial["diverged"]) == [out]


def test_where_training_diverges_under_all_so_does_retraining(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, SEARCHED, EQUAL)
    searched = searched_with(whole_run, tmp_path / "searched", found({"rns": 1.0}))
    with pytest.raises(TrainingDivergedError, match="finite loss"):
        autosample_tf.retrain(searched, run_dir=tmp_path / "run", changes=CHANGES)


@pytest.mark.parametrize("tried", slow_but([], WINNERS), indirect=True)
def test_a_retraining_that_was_stopped_anywhere_ends_alike(
    tried: Tried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any part of the trial, before its verdict is followed, and after it."""
    run_dir, begun = tmp_path / "run", False

    def stops(**how: Any) -> None:
        nonlocal begun
        with pytest.raises(Stopped):
            autosample_tf.retrain(
                tried.searched,
                run_dir=run_dir,
                changes=CHANGES,
                resume=begun,
                **how,
            )
        begun = True

    for name in tried.mixtures:
        stops(reporter=stop_in(f"trial {name}", 1))
    with monkeypatch.context() as patch:
        patch.setattr(trial, "leave_history", _raise_stopped)
        stops()
    assert (run_dir / "retrain" / "trial.json").is_file()
    stops(reporter=stop_in("retrain", 3))
    autosample_tf.retrain(tried.searched, run_dir=run_dir, changes=CHANGES, resume=True)
    mine, its = (without_seconds(read(f / "metrics.json")) for f in (run_dir, tried.run))
    assert mine == its
    for path in (tried.run / "retrain", *map(tried.folder_of, tried.mixtures)):
        its = path / "history.csv"
        assert history(run_dir / its.relative_to(tried.run)) == history(its)


def _raise_stopped(*_: object) -> None:
    raise Stopped


# --- around it


def test_a_search_with_its_retraining_has_the_trial_too(small_data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        LEAST, samplers=WHOLE.samplers, objective="joint", trial_epochs=1, retrain_epochs=2
    )
    metrics = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    verdict = metrics["retrain"]["trial"]
    mixtures = mixtures_to_try(settings, read_search_result(Run.existing(tmp_path / "run")))
    assert {SEARCHED, EQUAL, *metrics["search"]["leaders"]} == set(mixtures)
    assert set(verdict["valid"]) == set(mixtures)
    assert metrics["retrain"]["weights"] == mixtures[verdict["best"]]
    assert metrics["retrain"]["epochs"] == 2


def test_a_run_of_before_there_were_trials_went_on_with_the_searchs_weights() -> None:
    metrics = {"search": {"weights": {"rns": 1.0}}, "retrain": {"init": "search"}}
    assert trained_weights(metrics) == {"rns": 1.0}


def test_weights_lean_harder_where_a_trial_makes_good_what_is_too_much() -> None:
    assert Settings().resolved(204_799).temperature == 0.3
    assert Settings().resolved(204_800).temperature == 0.1
    assert Settings(objective="bilevel").resolved(204_800).temperature == 1.0
    assert Settings(temperature=0.2).resolved(204_800).temperature == 0.2


def test_the_default_is_a_trial_where_validation_tells_and_no_longer_than_patience() -> None:
    """Longer ones would not tell more: each stops by itself after so many worse epochs."""
    assert Settings().resolved(65_535).trial_epochs == 0
    assert Settings().resolved(65_536).trial_epochs == Settings().patience
    assert Settings(trial_epochs=3).resolved(1_000).trial_epochs == 3
