"""What fails while a command works: one line, exit code 1, and what can be gone on from."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from commands import ENVIRONMENT, PROGRAM, Command, separately, told_in_one_line
from rich.console import Console
from small_runs import LEAST, fingerprints, flags

from autosample_tf import training
from autosample_tf.cli import main
from autosample_tf.commands.terminal import reporting
from autosample_tf.errors import InputError
from autosample_tf.runs import Run

SHOWS_WHERE = "(`autosample-tf --debug …` shows where)"


def test_a_loss_that_becomes_nan_stops_the_run_in_one_line(
    small_data: Path, tmp_path: Path, command: Command
) -> None:
    run_dir = tmp_path / "run"
    arguments = ["search", "--dataset", small_data, *flags(LEAST), "--run-dir", run_dir]
    line = told_in_one_line(command(*arguments, "--learning-rate", "1e30"))
    assert "Expected a finite loss; received nan" in line
    assert "lower --learning-rate" in line
    assert not (run_dir / "metrics.json").exists()
    with Run(run_dir).locked():  # let go of
        pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("Expected this;\n received that."), "Expected this; received that."),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (
            PermissionError(13, "Permission denied", "runs"),
            "Expected leave to read or write runs; received 'Permission denied'. "
            "Choose another place (--run-dir, --output), or change who may.",
        ),
        (ImportError("no module"), "no module"),
        (
            tf.errors.InvalidArgumentError(
                None,
                None,
                "Graph execution error:\n\nDetected at node while/Gather defined at (most recent "
                'call last):\n  File "a.py", line 3\n\nindices[0,1] = 9 is not in [0, 6)\n\t '
                "[[{{node while/Gather}}]] [Op:__inference_steps_12]",
            ),
            f"InvalidArgumentError: indices[0,1] = 9 is not in [0, 6) {SHOWS_WHERE}",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "out of memory\n\nDetected at …\n"),
            f"ResourceExhaustedError: out of memory {SHOWS_WHERE}",
        ),
        (KeyError("x"), f"KeyError: 'x' {SHOWS_WHERE}"),
        (MemoryError(), f"MemoryError: no message {SHOWS_WHERE}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_fails_is_told_in_one_line_and_with_debug_in_full(
    error: Exception, told: str, tiny_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(training, "evaluate", fail)
    assert command("evaluate", "--run", tiny_run) == (1, "", f"Error: {told}\n")
    with pytest.raises(type(error)) as raised:
        main(["--debug", "evaluate", "--run", str(tiny_run)])
    assert raised.value is error


def test_an_interruption_ends_in_one_line_and_lets_go_of_the_folder(
    small_data: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "search_stage", interrupt)
    run_dir = tmp_path / "run"
    arguments = ["search", "--dataset", small_data, *flags(LEAST), "--run-dir", run_dir]
    line = told_in_one_line(command(*arguments))
    assert line.strip().endswith(
        f"Interrupted. Go on with: autosample-tf search --resume --run-dir {run_dir}"
    )
    assert list(fingerprints(run_dir)) == ["config.json"]
    with Run(run_dir).locked():
        pass


def test_a_bar_gives_the_terminal_back_when_training_fails(whole_run: Path) -> None:
    console = Console(force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115
    reports = []

    def fail_in_training() -> None:
        with reporting(console, whole_run) as reporter:
            reports.append(reporter("search", 1))
            reports[0].on_train_begin()
            assert reports[0]._bar.live.is_started
            raise InputError

    with pytest.raises(InputError):
        fail_in_training()
    assert not reports[0]._bar.live.is_started
    console.file.close()


def test_a_pipe_that_nobody_reads_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "data", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


# --- in a process of its own, where TensorFlow's own messages would show


def test_an_error_is_one_line_on_the_terminal_too(tmp_path: Path) -> None:
    done = separately("evaluate", "--run", tmp_path)
    told_in_one_line((done.returncode, done.stdout, done.stderr))


def test_debug_shows_the_traceback() -> None:
    short = separately("data", "describe", "--dataset", "nope")
    told_in_one_line((short.returncode, short.stdout, short.stderr))
    long = separately("--debug", "data", "describe", "--dataset", "nope")
    assert long.returncode == 1
    assert long.stderr.startswith("Traceback")


@pytest.mark.parametrize("name", ["search", "evaluate", "retrain", "export", "recommend"])
def test_keras_3_is_refused_in_one_line(name: str, tiny_run: Path) -> None:
    run = ["--run", tiny_run] if name != "search" else []
    done = separately(name, *run, env={"TF_USE_LEGACY_KERAS": "0"})
    line = told_in_one_line((done.returncode, done.stdout, done.stderr))
    assert "Unset it, or set it to 1" in line


def test_doctor_tells_what_to_do_about_keras_3() -> None:
    done = separately("doctor", "--json", env={"TF_USE_LEGACY_KERAS": "0"})
    assert (done.returncode, done.stderr) == (1, "")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert "TF_USE_LEGACY_KERAS=1" in findings["tf.keras"]["remedy"]


# Where the tests run in the background SIGINT is ignored, also by their children.
HEEDING_CONTROL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from autosample_tf.cli import main
main()
"""


@pytest.mark.slow
def test_control_c_ends_a_search_that_then_resumes(small_data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(LEAST, search_epochs=150, patience=150)
    run_dir = tmp_path / "run"
    arguments = ["search", "--dataset", small_data, *flags(settings), "--run-dir", run_dir]
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING_CONTROL_C, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    for line in process.stdout:
        if line.startswith("search 2/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate()
    line = told_in_one_line((process.returncode, out, err))
    assert "Interrupted" in line
    with Run(run_dir).locked():
        pass
    metrics = training.search(str(small_data), settings, run_dir=run_dir, resume=True)
    assert metrics["search"]["epochs"] == 150
