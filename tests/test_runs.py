"""The run folder: history, refusals, the lock, and files that are whole or absent."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosample_tf import runs
from autosample_tf.errors import InputError
from autosample_tf.runs import SCHEMA_VERSION, History, Run, environment, leave_history
from autosample_tf.stages.results import read_search_result

CONFIG = {
    "command": "search",
    "dataset": {"name": "toy", "counts": {"users": 3, "train": 9}},
    "settings": {"dim": 64, "top_k": [10, 20], "layers": None},
}


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, with this one's import path."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def saved(path: Path) -> History:
    history = History(path)
    history.load(10**6)
    return history


# --- History


def test_numbers_read_back_equal(tmp_path: Path) -> None:
    row = {
        "epoch": 1,
        "seconds": 0.1 + 0.2,
        "third": 1 / 3,
        "tiny": 5e-324,
        "large": 1.7976931348623157e308,
        "negative": -2.5,
        "negative_count": -3,
        "zero": 0.0,
        "count": 2**53 + 1,  # no float64
        "numpy_float32": np.float32(0.1),
        "numpy_float64": np.float64(2**0.5),
        "numpy_int": np.int64(-7),
        "numpy_array": np.array(0.7),
    }
    history = History(tmp_path / "history.csv")
    history.append(row)
    assert saved(tmp_path / "history.csv").rows == [row]
    assert history.rows == [row]


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinities_read_back(tmp_path: Path, value: float) -> None:
    History(tmp_path / "h.csv").append({"epoch": 1, "loss": value})
    assert saved(tmp_path / "h.csv").rows[0]["loss"] == value


def test_nan_reads_back(tmp_path: Path) -> None:
    History(tmp_path / "h.csv").append({"epoch": 1, "loss": float("nan")})
    assert np.isnan(saved(tmp_path / "h.csv").rows[0]["loss"])


def test_an_epoch_reads_back_as_an_integer(tmp_path: Path) -> None:
    History(tmp_path / "h.csv").append({"epoch": np.int64(12), "loss": 1.0})
    row = saved(tmp_path / "h.csv").rows[0]
    assert isinstance(row["epoch"], int)
    assert isinstance(row["loss"], float)


def test_texts_read_back(tmp_path: Path) -> None:
    row = {"epoch": 1, "dropped": "dns:pool=8,top=5=0.051234;rns=0.020000", "note": 'a "b", ü\n'}
    History(tmp_path / "h.csv").append(row)
    assert saved(tmp_path / "h.csv").rows == [row]


def test_a_column_that_comes_later_is_empty_before(tmp_path: Path) -> None:
    history = History(tmp_path / "h.csv")
    history.append({"epoch": 1, "loss": 0.5})
    history.append({"epoch": 2, "loss": 0.25, "dropped": "rns=0.01"})
    history.append({"epoch": 3, "loss": 0.125})
    assert saved(tmp_path / "h.csv").rows == [
        {"epoch": 1, "loss": 0.5, "dropped": None},
        {"epoch": 2, "loss": 0.25, "dropped": "rns=0.01"},
        {"epoch": 3, "loss": 0.125, "dropped": None},
    ]


def test_the_table_is_plain_csv_that_begins_with_epoch_and_times(tmp_path: Path) -> None:
    history = History(tmp_path / "h.csv")
    history.append({"loss": 0.5, "seconds": 2.0, "weights/rns": 1.0, "epoch": 1})
    history.append({"epoch": 2, "evaluation_seconds": 0.5, "loss": 0.25, "seconds": 3.0})
    with (tmp_path / "h.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert set(header[:3]) == {"epoch", "seconds", "evaluation_seconds"}
    assert header[3:] == ["loss", "weights/rns"]
    assert dict(zip(header, lines[1], strict=True)) == {
        "epoch": "2",
        "seconds": "3.0",
        "evaluation_seconds": "0.5",
        "loss": "0.25",
        "weights/rns": "",
    }


def test_only_the_epochs_that_were_backed_up_are_taken_up(tmp_path: Path) -> None:
    history = History(tmp_path / "h.csv")
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "loss": 1 / epoch})
    resumed = History(tmp_path / "h.csv")
    resumed.load(2)
    assert [row["epoch"] for row in resumed.rows] == [1, 2]
    resumed.append({"epoch": 3, "loss": 9.0})
    assert saved(tmp_path / "h.csv").rows == [
        {"epoch": 1, "loss": 1.0},
        {"epoch": 2, "loss": 0.5},
        {"epoch": 3, "loss": 9.0},
    ]


def test_a_resumed_history_is_the_uninterrupted_one(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "a": 0.1}, {"epoch": 2, "a": 0.2, "b": 1 / 3}, {"epoch": 3, "c": "x"}]
    whole = History(tmp_path / "whole.csv")
    for row in rows:
        whole.append(row)
    for row in rows:
        resumed = History(tmp_path / "resumed.csv")
        resumed.load(row["epoch"] - 1)
        resumed.append(row)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "resumed.csv").read_bytes()


def test_there_is_nothing_to_take_up_where_there_is_no_file(tmp_path: Path) -> None:
    assert saved(tmp_path / "none.csv").rows == []


def test_the_caller_may_reuse_its_row(tmp_path: Path) -> None:
    history, row = History(tmp_path / "h.csv"), {"epoch": 1}
    history.append(row)
    row["epoch"] = 2
    history.append(row)
    assert [row["epoch"] for row in history.rows] == [1, 2]


# --- files that are whole or absent


@contextmanager
def crash_before_the_file_is_in_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def crash(*paths: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs.os, "replace", crash)
        yield


def test_a_crash_while_writing_json_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    run.write_json("a.json", {"value": 1})
    with crash_before_the_file_is_in_place(monkeypatch), pytest.raises(KeyboardInterrupt):
        run.write_json("a.json", {"value": 2, "long": "x" * 10**5})
    assert run.read_json("a.json")["value"] == 1
    run.write_json("a.json", {"value": 3})  # what the crash left behind is in nobody's way
    assert run.read_json("a.json")["value"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"]


def test_values_that_are_not_json_leave_the_old_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_json("a.json", {"value": 1})
    with pytest.raises(TypeError):
        run.write_json("a.json", {"value": object()})
    assert run.read_json("a.json")["value"] == 1


def test_a_crash_while_appending_leaves_the_earlier_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(tmp_path / "h.csv")
    history.append({"epoch": 1})
    with crash_before_the_file_is_in_place(monkeypatch), pytest.raises(KeyboardInterrupt):
        history.append({"epoch": 2})
    assert saved(tmp_path / "h.csv").rows == [{"epoch": 1}]


def test_json_begins_with_the_schema_version_and_reads_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    values = {"b": [1, 2.5, None], "a": {"ü": "ß"}, "third": 1 / 3}
    run.write_json("deep/er/a.json", values)
    assert list(json.loads((tmp_path / "deep/er/a.json").read_text())) == [
        "schema_version",
        *values,
    ]
    assert run.read_json("deep/er/a.json") == {"schema_version": SCHEMA_VERSION, **values}


@pytest.mark.parametrize("text", [None, "", "{", '{"a": 1', "\x00"])
def test_broken_json_is_bad_input(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"Expected JSON in .*a\.json"):
        Run(tmp_path).read_json("a.json")


# --- starting


def test_a_new_run_has_its_config_and_environment(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "r")
    run.start(CONFIG, resume=False)
    expected = {"schema_version": SCHEMA_VERSION, **CONFIG, "environment": environment()}
    assert run.config() == expected
    assert Run.existing(run.path).config() == expected


def test_an_empty_folder_or_one_with_only_the_lock_will_do(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.locked():
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
        run.start(CONFIG, resume=False)
    assert run.config()["command"] == "search"


@pytest.mark.parametrize("name", ["config.json", "notes.txt", "search/", ".hidden"])
def test_a_folder_with_anything_in_it_is_not_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name.endswith("/") else path.write_text("mine")
    with pytest.raises(InputError, match=r"not there yet.*--resume"):
        Run(tmp_path).start(CONFIG, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]
    assert path.is_dir() or path.read_text() == "mine"


@pytest.mark.parametrize("made", [False, True])
def test_there_is_nothing_to_resume_without_a_config(tmp_path: Path, made: bool) -> None:
    path = tmp_path / "r"
    if made:
        path.mkdir()
    with pytest.raises(InputError, match=r"run folder with a config\.json"):
        Run(path).start(CONFIG, resume=True)
    assert path.exists() == made


def test_a_run_resumes_with_its_own_settings_and_keeps_its_config(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.start(CONFIG, resume=False)
    before = (tmp_path / "config.json").read_bytes()
    run.start(CONFIG, resume=True)
    run.start(json.loads(json.dumps(CONFIG)), resume=True)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_resumes_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    run.start(CONFIG, resume=False)
    monkeypatch.setattr(runs, "environment", lambda: {"cpus": 10**6, "python": "4"})
    run.start(CONFIG, resume=True)
    assert run.config()["environment"] == environment()


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a value": ({**CONFIG, "command": "retrain"}, ["command was 'search', is 'retrain'"]),
    "a nested value": (
        {**CONFIG, "settings": {**CONFIG["settings"], "dim": 32}},
        ["settings.dim was 64, is 32"],
    ),
    "the data": (
        {**CONFIG, "dataset": {"name": "toy", "counts": {"users": 3, "train": 8}}},
        ["dataset.counts.train was 9, is 8"],
    ),
    "a list": (
        {**CONFIG, "settings": {**CONFIG["settings"], "top_k": [20, 10]}},
        ["settings.top_k was [10, 20], is [20, 10]"],
    ),
    "a new key": ({**CONFIG, "extra": 1}, ["extra was None, is 1"]),
    "a missing key": (
        {key: value for key, value in CONFIG.items() if key != "command"},
        ["command was 'search', is None"],
    ),
    "two values": (
        {**CONFIG, "command": "x", "settings": {**CONFIG["settings"], "layers": 2}},
        ["command was 'search', is 'x'", "settings.layers was None, is 2"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_resuming_with_other_settings_lists_them_all_and_no_others(
    tmp_path: Path, change: str
) -> None:
    config, listed = CHANGES[change]
    run = Run(tmp_path)
    run.start(CONFIG, resume=False)
    with pytest.raises(InputError) as refusal:
        run.start(config, resume=True)
    assert f"received others: {'; '.join(listed)}. Resume with those" in str(refusal.value)
    assert run.config()["command"] == "search"


def test_a_folder_without_a_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run folder with a config\.json"):
        Run.existing(tmp_path)


def test_of_what_a_stretch_left_the_history_stays(tmp_path: Path) -> None:
    """Also where a checkpoint's writing was interrupted, which leaves a folder."""
    for name in ("history.csv", "checkpoint", "ckpt-2.index", "ckpt-3_temp/part-0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    leave_history(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_a_comparisons_folder_says_where_its_runs_are(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="a comparison of several. Pass the folder of one of them"):
        Run(tmp_path).metrics()


def test_an_unfinished_run_has_no_metrics(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_json("config.json", {"command": "search"})
    with pytest.raises(InputError, match="finished run"):
        run.metrics()
    run.write_json("metrics.json", {"test": {"ndcg@20": 0.1}})
    assert run.metrics()["test"] == {"ndcg@20": 0.1}


# --- the lock

TRY_TO_ENTER = """
import sys
from autosample_tf.errors import InputError
from autosample_tf.runs import Run
try:
    with Run(sys.argv[1]).locked():
        print("in")
except InputError as error:
    print("refused:", error)
"""
STAY_INSIDE = """
import sys
from autosample_tf.runs import Run
with Run(sys.argv[1]).locked():
    print("in", flush=True)
    sys.stdin.read()
"""


def what_another_process_says(path: Path) -> str:
    process = python(TRY_TO_ENTER, path)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip()


def test_a_second_process_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    with Run(tmp_path).locked():
        refusal = what_another_process_says(tmp_path)
    assert refusal.startswith("refused: Expected a run folder that no other process works in")
    assert what_another_process_says(tmp_path) == "in"


def test_the_one_that_is_refused_leaves_the_lock_to_its_holder(tmp_path: Path) -> None:
    with Run(tmp_path).locked():
        assert what_another_process_says(tmp_path).startswith("refused")
        assert (tmp_path / "lock").exists()
        assert what_another_process_says(tmp_path).startswith("refused")


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    process = python(STAY_INSIDE, tmp_path)
    assert process.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="no other process"), Run(tmp_path).locked():
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Run(tmp_path).locked():
        pass


def test_an_error_inside_lets_go_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Run(tmp_path).locked():
        raise KeyError
    assert what_another_process_says(tmp_path) == "in"


def test_a_folder_in_which_nothing_was_written_is_taken_away_again(tmp_path: Path) -> None:
    with Run(tmp_path / "a" / "r").locked():
        pass
    assert not (tmp_path / "a" / "r").exists()


def test_a_folder_that_was_there_or_was_written_to_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "written"):
        run = Run(tmp_path / name)
        with run.locked():
            if name == "written":
                run.start(CONFIG, resume=False)
    assert (tmp_path / "there").is_dir()
    assert (tmp_path / "written" / "config.json").is_file()


# --- what it stands on


def test_the_environment_is_json_with_the_versions_that_matter() -> None:
    found = json.loads(json.dumps(environment()))
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["numpy"] == np.__version__
    assert set(found) == {"autosample_tf", "python", "platform", "cpus", "packages"}


def test_it_does_not_import_tensorflow() -> None:
    call = "import sys, autosample_tf.runs as runs; runs.environment()"
    process = python(call + "; print('tensorflow' in sys.modules)")
    output, errors = process.communicate()
    assert output.strip() == "False", errors


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="run folder, or a place for one"), Run(path).locked():
            pass


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"command": "search"}, "search --resume --run-dir"),
        ({"command": "retrain", "searched": "../origin"}, "retrain --resume --run {} --run-dir"),
    ],
)
def test_an_unfinished_run_tells_what_finishes_it(
    config: dict[str, str], told: str, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    run.write_json("config.json", config)
    expected = f"Finish it: autosample-tf {told.format(tmp_path / 'origin')} {run.path}"
    with pytest.raises(InputError, match=re.escape(expected)):
        run.metrics()


def test_a_comparisons_folder_is_no_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "all")
    run.write_json("config.json", {"command": "compare"})
    (run.path / "runs").mkdir()
    for read in (run.metrics, lambda: read_search_result(run)):
        with pytest.raises(InputError, match="received a comparison of several"):
            read()
