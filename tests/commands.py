"""Running `autosample-tf …`, here or in a process of its own, and what a failure looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import autosample_tf

Command = Callable[..., "tuple[int, str, str]"]  # conftest's `command`: code, stdout, stderr
PROGRAM = [sys.executable, "-m", "autosample_tf.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(autosample_tf.__file__).parents[1])}


def separately(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`autosample-tf …` in a process of its own."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**ENVIRONMENT, **(env or {})},
    )


def with_small_files(limit: int, *arguments: object) -> tuple[int, str, str]:
    """`autosample-tf …` where no file may grow past so many bytes.

    It stands for a full disk: writing fails alike, in the kernel. POSIX only.
    """
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2); "
        "sys.argv[0] = 'autosample-tf'; runpy.run_module('autosample_tf.cli', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    return done.returncode, done.stdout, done.stderr


def told_in_one_line(outcome: tuple[int, str, str]) -> str:
    """The line on stderr of a command that failed with exit code 1."""
    code, _, err = outcome
    assert code == 1
    assert err.startswith("Error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err
