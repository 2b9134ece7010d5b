"""Every candidate alone, their mixture, and AutoSample: the same budget, honest figures."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from small_runs import LEAST, fingerprints, without_seconds, write_small_data

from autosample_tf.comparison.comparing import (
    AUTOSAMPLE,
    UNIFORM,
    Outcome,
    compare,
    contestants,
    summary,
)
from autosample_tf.comparison.page import markdown
from autosample_tf.comparison.processes import search_separately
from autosample_tf.errors import InputError, TrainingDivergedError
from autosample_tf.runs import Run
from autosample_tf.settings import Settings
from autosample_tf.training import Source, search

TWO = dataclasses.replace(LEAST, samplers=("rns", "dns:pool=4"), objective="validation")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_data(tmp_path_factory.mktemp("data") / "small"))


@pytest.fixture(scope="module")
def compared(data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("compared") / "all"
    return folder, compare(data, TWO, run_dir=folder, seeds=(1,))


def test_everybody_has_the_same_budget_data_and_seed() -> None:
    settings = Settings(samplers=("rns", "pns"), search_epochs=7, retrain_epochs=5, patience=3)
    everybody = contestants(settings)
    assert list(everybody) == ["rns", "pns:alpha=0.75", UNIFORM, AUTOSAMPLE]
    for own in everybody.values():
        assert own.search_epochs + own.retrain_epochs == 12
        assert (own.patience, own.seed, own.batch_size) == (3, settings.seed, settings.batch_size)
    assert everybody["rns"].samplers == ("rns",)
    assert everybody[UNIFORM].samplers == settings.samplers
    assert everybody[UNIFORM].objective == "uniform"
    assert everybody[UNIFORM].drop_threshold == 0
    assert dataclasses.replace(everybody[AUTOSAMPLE], time_samplers=None) == settings


def test_every_run_is_a_run_folder_and_its_figures_are_those_told(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = compared
    assert len(list((folder / "runs").glob("*/seed-*/metrics.json"))) == 4
    for name, each in found["contestants"].items():
        runs = [Run(path) for path in sorted((folder / "runs").glob("*/seed-*"))]
        own = [run for run in runs if name_of(run) == name]
        assert len(own) == 1
        for split in ("valid", "test"):
            told = each[split]["ndcg@10"]
            users = [len(run.per_user(split)["users"]) for run in own]
            means = [run.metrics()[split]["ndcg@10"] for run in own]
            assert told["count"] == sum(users)
            assert told["mean"] == pytest.approx(np.average(means, weights=users))


def name_of(run: Run) -> str:
    settings = run.config()["settings"]
    if settings["retrain_epochs"]:
        return AUTOSAMPLE
    return settings["samplers"][0] if len(settings["samplers"]) == 1 else UNIFORM


def test_a_candidate_alone_is_the_run_that_search_makes_of_it(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    alone = contestants(dataclasses.replace(TWO, seed=1))["dns:pool=4"]
    metrics = search(data, alone, run_dir=tmp_path / "alone")
    stored = Run(compared[0] / "runs" / "dns_pool=4" / "seed-1").metrics()
    assert without_seconds(metrics) == without_seconds(stored)


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_stopped(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole = compared[1]
    stopped_at = tmp_path / "stopped"

    def stop(outcome: Outcome) -> None:
        if outcome.contestant == UNIFORM:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(data, TWO, run_dir=stopped_at, seeds=(1,), on_outcome=stop)
    done = fingerprints(stopped_at / "runs" / "rns" / "seed-1")
    again = compare(data, TWO, run_dir=stopped_at, seeds=(1,), resume=True)
    assert fingerprints(stopped_at / "runs" / "rns" / "seed-1") == done
    assert without_cost(again) == without_cost(whole)


def without_cost(found: dict[str, Any]) -> Any:
    return without_seconds({key: value for key, value in found.items() if key != "cost"})


def test_other_seeds_are_another_comparison(
    data: str, compared: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match="seeds was"):
        compare(data, TWO, run_dir=compared[0], seeds=(0,), resume=True)


@pytest.mark.slow
def test_a_comparison_goes_on_with_more_seeds(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(compared[0], folder)
    done = fingerprints(folder / "runs" / "rns" / "seed-1")
    found = compare(data, TWO, run_dir=folder, seeds=(1, 2), resume=True)
    assert found["seeds"] == Run(folder).config()["seeds"] == [1, 2]
    assert fingerprints(folder / "runs" / "rns" / "seed-1") == done
    users = found["contestants"]["rns"]["test"]["ndcg@10"]["count"]
    assert users == 2 * compared[1]["contestants"]["rns"]["test"]["ndcg@10"]["count"]


def test_it_may_be_held_against_named_samplers_alone(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A candidate, and a sampler that is none."""
    asked: dict[str, Settings] = {}

    def runner(source: Any, settings: Settings, *, run_dir: Path, **how: Any) -> None:
        asked[run_dir.parent.name] = settings
        shutil.copytree(compared[0] / "runs" / "rns" / "seed-1", run_dir)

    found = compare(data, TWO, run_dir=tmp_path / "new", seeds=(1,), runner=runner,
                    against=("dns:pool=4", "bns:pool=2"))  # fmt: skip
    alone = ["dns:pool=4", "bns:pool=2,weight=5.0,prior=1.0"]
    assert list(found["contestants"]) == [*alone, AUTOSAMPLE]
    assert list(found["choices"]) == ["best in hindsight", "picked by validation"]
    assert found["against"] == Run(tmp_path / "new").config()["against"]
    assert asked["autosample"].samplers == TWO.samplers
    assert [own.samplers for own in asked.values()][:2] == [(spec,) for spec in alone]
    assert "the samplers held against it" in markdown(found)
    mixed = contestants(TWO, against=("rns", UNIFORM))
    assert list(mixed) == ["rns", UNIFORM, AUTOSAMPLE]
    with pytest.raises(InputError, match="against was"):
        compare(data, TWO, run_dir=tmp_path / "new", seeds=(1,), resume=True, runner=runner)


def test_what_a_variant_leaves_open_is_its_own(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Not AutoSample's: another objective has another temperature."""
    folder = tmp_path / "one more"
    shutil.copytree(compared[0], folder)
    asked: list[Settings] = []

    def runner(_: str, settings: Settings, **how: Any) -> None:
        asked.append(settings)
        raise KeyboardInterrupt

    joint = {"joint": {"objective": "joint"}}
    with pytest.raises(KeyboardInterrupt):
        compare(data, TWO, run_dir=folder, seeds=(1,), variants=joint, resume=True, runner=runner)
    stored = Run(folder / "runs" / AUTOSAMPLE / "seed-1").config()["settings"]
    assert stored["temperature"] == 0.3
    assert asked[0].resolved(1_000).temperature == 1.0


def test_a_finished_run_of_other_settings_is_not_taken_for_a_contestants(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "another"
    shutil.copytree(compared[0], folder)
    shutil.copytree(folder / "runs" / "rns", folder / "runs" / "mine")
    mine = {"mine": {"objective": "joint"}}
    with pytest.raises(InputError, match=r"run in .*mine.*settings.objective was 'uniform', is 'j"):
        compare(data, TWO, run_dir=folder, seeds=(1,), variants=mine, resume=True)


def outcome(name: str, seed: int, valid: list[float], test: list[float], seconds: float) -> Outcome:
    def of(values: list[float]) -> dict[str, np.ndarray]:
        users = np.arange(len(values))
        return {"users": users, "ndcg@20": np.array(values), "recall@20": np.array(values) / 2}

    return Outcome(name, seed, 10, seconds, {name: 1.0}, {"valid": of(valid), "test": of(test)})


def test_the_summary_by_hand() -> None:
    """Seed 0: validation picks `a`; seed 1: `b`. On test `b` is the better one."""
    outcomes = [
        outcome("a", 0, [0.4, 0.4], [0.1, 0.2], 10.0),
        outcome("a", 1, [0.1, 0.1], [0.2, 0.1], 10.0),
        outcome("b", 0, [0.3, 0.3], [0.4, 0.2], 30.0),
        outcome("b", 1, [0.3, 0.3], [0.3, 0.2], 30.0),
        outcome(UNIFORM, 0, [0.3, 0.3], [0.3, 0.1], 7.0),
        outcome(UNIFORM, 1, [0.3, 0.3], [0.3, 0.1], 7.0),
        outcome(AUTOSAMPLE, 0, [0.5, 0.5], [0.4, 0.3], 8.0),
        outcome(AUTOSAMPLE, 1, [0.5, 0.5], [0.4, 0.3], 12.0),
    ]
    found = summary(outcomes, "ndcg@20", "recall@20")
    ours = found["contestants"][AUTOSAMPLE]
    assert ours["test"]["ndcg@20"]["mean"] == pytest.approx(0.35)
    assert ours["test"]["recall@20"]["mean"] == pytest.approx(0.175)
    assert ours["seconds"] == 10.0
    assert found["cost"] == {"autosample": 20.0, "exhaustive": 80.0, "ratio": 0.25}
    choices = found["choices"]
    assert choices["best in hindsight"]["candidate"] == "b"
    differences = np.array([0.0, 0.1, 0.1, 0.1])
    assert choices["best in hindsight"]["difference"] == pytest.approx(differences.mean())
    error = differences.std(ddof=1) / 2
    assert choices["best in hindsight"]["standard_error"] == pytest.approx(error)
    assert choices["picked by validation"]["candidate"] == ["a", "b"]
    picked = np.array([0.3, 0.1, 0.1, 0.1])
    assert choices["picked by validation"]["difference"] == pytest.approx(picked.mean())
    assert choices[UNIFORM]["difference"] == pytest.approx(0.15)
    assert "against" not in ours
    by_user = {"a": [0.25, 0.15], "b": [0.05, 0.1], UNIFORM: [0.1, 0.2]}  # means over seeds
    p = [stats.ttest_1samp(values, 0).pvalue for values in by_user.values()]
    told = [found["contestants"][name]["against"]["p"] for name in by_user]
    np.testing.assert_allclose(told, stats.false_discovery_control(p), rtol=1e-6)


def test_the_page_ranks_by_test_and_tells_the_verdicts(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    found = compared[1]
    page = markdown(found)
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert rows[0][0].startswith("| ---")
    tests = [float(row[2].split(" ± ")[0]) for row in rows[1:]]
    assert tests == sorted(tests, reverse=True)
    assert len(tests) == 4
    for name, each in found["choices"].items():
        assert f"AutoSample - {name}" in page
        assert f"{each['difference']:+.4f} ± {each['standard_error']:.4f}" in page


def test_mixtures_that_lost_a_trial_count_in_the_cost(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = Run(shutil.copytree(compared[0] / "runs", tmp_path / "runs") / AUTOSAMPLE / "seed-1")
    before = compared[1]["contestants"][AUTOSAMPLE]
    metrics = run.metrics()
    metrics["retrain"]["trial"] = {"epochs": 7, "seconds": 20.0, "evaluation_seconds": 3.0}
    run.write_json("metrics.json", metrics)
    shutil.copytree(tmp_path / "runs", tmp_path / "all" / "runs")
    shutil.copy(compared[0] / "config.json", tmp_path / "all")
    found = compare(data, TWO, run_dir=tmp_path / "all", seeds=(1,), resume=True)
    ours = found["contestants"][AUTOSAMPLE]
    assert ours["epochs"] == before["epochs"] + 7
    assert ours["seconds"] == pytest.approx(before["seconds"] + 23)


def test_a_short_comparison_goes_on_with_the_settings_that_it_began_with(
    data: str, tmp_path: Path
) -> None:
    """Which are resolved then: of a short search the warm-up is shorter."""
    folder, settings = tmp_path / "short", dataclasses.replace(TWO, drop_warmup=4, search_epochs=2)

    def stop(source: Any, own: Settings, **how: Any) -> None:
        search(source, own, **how)
        (how["run_dir"] / "metrics.json").unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(data, settings, run_dir=folder, seeds=(1,), runner=stop)
    stored = Settings.from_dict(Run(folder).config()["settings"])
    assert stored.drop_warmup == 1
    compare(data, stored, run_dir=folder, seeds=(1,), resume=True)


def test_whose_training_diverges_is_left_out_with_every_seed_and_told(
    data: str, compared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    begun, found = compared
    folder = tmp_path / "failing"
    shutil.copytree(begun, folder)
    failing = folder / "runs" / "dns_pool=4" / "seed-1"
    shutil.rmtree(failing)

    def fail(source: Any, own: Settings, **how: Any) -> None:
        assert how["run_dir"] == failing
        raise TrainingDivergedError("Expected a finite loss; received nan.")

    left = compare(data, TWO, run_dir=folder, seeds=(1,), resume=True, runner=fail)
    told = {"seed": 1, "error": "Expected a finite loss; received nan."}
    assert left["diverged"] == {"dns:pool=4": told}
    assert list(left["contestants"]) == ["rns", UNIFORM, AUTOSAMPLE]
    assert left["contestants"]["rns"]["test"] == found["contestants"]["rns"]["test"]
    assert left["choices"]["best in hindsight"]["candidate"] == "rns"
    assert "- dns:pool=4 diverged with seed 1, and is left out: Expected a" in markdown(left)
    again = compare(data, TWO, run_dir=folder, seeds=(1,), resume=True)
    assert again["diverged"] == found["diverged"] == {}
    assert without_seconds(again["contestants"]) == without_seconds(found["contestants"])


def test_without_autosample_or_any_sampler_alone_there_is_no_comparison(
    data: str, tmp_path: Path
) -> None:
    def fail(source: Any, own: Settings, **how: Any) -> None:
        raise TrainingDivergedError(f"{own.samplers} diverged")

    with pytest.raises(InputError, match=r"\('dns:pool=4',\) diverged"):
        compare(data, TWO, run_dir=tmp_path / "all", seeds=(1,), runner=fail)
    assert not (tmp_path / "all" / "comparison.json").exists()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (f"Error: Expected a finite loss; received nan. {TrainingDivergedError.REMEDY}",
         TrainingDivergedError),
        ("Error: Expected a file; received none. Check it.", InputError),
    ],
)  # fmt: skip
def test_a_process_that_diverged_is_told_from_one_that_failed(
    line: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended = subprocess.CompletedProcess([], 1, stderr=f"warned\n{line}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(InputError, match="the run in") as raised:
        search_separately(Source("data"), TWO, run_dir=tmp_path, resume=False)
    assert raised.type is error


def test_of_a_single_user_no_figure_has_an_error(data: str) -> None:
    def outcome(name: str, value: float) -> Outcome:
        one = {"users": np.array([0]), "ndcg@20": np.array([value]), "recall@20": np.array([value])}
        return Outcome(name, 0, 1, 1.0, {}, {"valid": one, "test": one})

    told = summary([outcome("rns", 0.5), outcome(AUTOSAMPLE, 0.75)], "ndcg@20", "recall@20")
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["contestants"]["rns"]["against"]["standard_error"] is None
    told |= {"dataset": "d", "model": "mf", "seeds": [0], "against": None, "patience": 5,
             "rate_decays": 1, "most_epochs": 70, "diverged": {}}  # fmt: skip
    assert "| **autosample** | 0.7500 | 0.7500 |" in markdown(told)


@pytest.mark.parametrize(
    ("changes", "how", "told"),
    [
        ({"refit": True}, {}, "without --refit"),
        ({"select_on_test": True}, {}, "choices validation makes; received --select-on-test"),
        ({"samplers": ("rns",)}, {}, "several candidates"),
        ({}, {"seeds": (0, 0)}, "different seeds"),
        ({}, {"seeds": ()}, "different seeds"),
        ({}, {"seeds": (-1,)}, "different seeds"),
        ({}, {"against": ()}, "at least one sampler"),
        ({}, {"against": (UNIFORM,)}, "hold AutoSample against; received 'uniform mixture' alone"),
        ({}, {"against": ("rns", "rns")}, "different samplers"),
        ({}, {"against": ("nobody",)}, "nobody"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    data: str, tmp_path: Path, changes: dict[str, Any], how: dict[str, Any], told: str
) -> None:
    settings = dataclasses.replace(TWO, **changes)
    with pytest.raises(InputError, match=told):
        compare(data, settings, run_dir=tmp_path / "none", **how)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_command_writes_the_table_three_times(command: Any, data: str, tmp_path: Path) -> None:
    given = ["--dataset", data, "--sampler", "rns", "--sampler", "pns", "--dim", 4]
    given += ["--search-epochs", 1, "--retrain-epochs", 1, "--seeds", "3", "--run-dir"]
    code, out, err = command("compare", *given, tmp_path / "run", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    stored = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert found == {"run_dir": str(tmp_path / "run"), **stored}
    assert (tmp_path / "run" / "comparison.md").read_text() == markdown(stored)
    assert (tmp_path / "run" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("compare", "--resume", "--run-dir", tmp_path / "run")
    assert code == 0
    assert f"AutoSample - {UNIFORM}" in out
    code, out, _ = command("compare", *given, tmp_path / "one", "--json", "--against", "rns")
    assert code == 0
    assert list(json.loads(out)["contestants"]) == ["rns", AUTOSAMPLE]
    code, out, _ = command("compare", "--resume", "--run-dir", tmp_path / "one")
    assert (code, UNIFORM in out) == (0, False)
    code, _, err = command("compare", "--dataset", data, "--seed", 1)
    assert code == 2
    assert "--seeds" in err
