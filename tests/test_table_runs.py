"""A run on a table: its options are written down, and read again by every later command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Command
from feedback import rows_of, write
from small_runs import LEAST, fingerprints, flags

ROWS = rows_of(40, 30)
OPTIONS = {"min-rating": 1.0, "k-core": 3, "since": "2020-09-13", "split-by": "leave-last:n=2"}


@pytest.fixture
def run(tmp_path: Path, command: Command) -> Path:
    """A finished run on the parts of a compressed table, its options in a YAML file."""
    for part in range(3):
        write(tmp_path / "log", f"part-{part}.csv.gz", ROWS[part::3])
    config = tmp_path / "options.yaml"
    config.write_text("".join(f"{name}: {value}\n" for name, value in OPTIONS.items()))
    pattern = f"{tmp_path}/log/*.gz"
    options = ["--dataset", pattern, "--config", config, *flags(LEAST)]
    code, _, err = command("search", *options, "--run-dir", tmp_path / "run", "--quiet")
    assert (code, err) == (0, "")
    return tmp_path / "run"


def test_options_and_seed_are_recorded_and_hold(run: Path, command: Command) -> None:
    config = json.loads((run / "config.json").read_text())
    asked = {name.replace("-", "_"): value for name, value in OPTIONS.items()}
    assert config["source"].items() >= asked.items()
    assert config["split_seed"] == LEAST.seed
    counts = config["dataset"]["counts"]
    assert counts["test"] == counts["valid"] == 2 * counts["users"]

    metrics = json.loads((run / "metrics.json").read_text())
    evaluated = json.loads(command("evaluate", "--run", run, "--json").out)
    assert evaluated == pytest.approx(metrics["test"])

    before = fingerprints(run)
    assert command("search", "--resume", "--run-dir", run, "--quiet").code == 0
    assert fingerprints(run) == before
    moved = run.parent / "elsewhere"
    (run.parent / "log").rename(moved)
    assert command("evaluate", "--run", run).code == 1
    again = command("evaluate", "--run", run, "--dataset", f"{moved}/*.gz", "--json").out
    assert json.loads(again) == evaluated
    other = command("evaluate", "--run", run, "--dataset", f"{moved}/*.gz", "--k-core", "4")
    assert (other.code, "received other data" in other.err) == (1, True)
    moved.rename(run.parent / "log")

    refused = command("search", "--resume", "--run-dir", run, "--k-core", "4")
    assert refused.code == 1
    assert "source.k_core was 3, is 4" in refused.err


def test_options_of_a_table_need_the_dataset(run: Path, command: Command) -> None:
    code, _, err = command("evaluate", "--run", run, "--split-by", "time")
    assert code == 1
    assert "Expected --dataset beside --split-by; received none" in err


def test_a_run_of_a_pattern_is_named_after_its_folder(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "log", "a.parquet", ROWS)
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("search", "--dataset", "log/*.parquet", *flags(LEAST), "--json")
    assert code == 0
    assert Path(json.loads(out)["run_dir"]).name.startswith("log-mf-")
    assert json.loads(out)["dataset"] == "log"
