"""A search in a process of its own, which gives back all memory at its end. No TensorFlow.

TensorFlow keeps some of what it has traced until its process ends, some fifty MiB a run: a
comparison of dozens of runs would only grow.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from autosample_tf.errors import InputError, TrainingDivergedError
from autosample_tf.settings import Settings


def search_separately(
    source: Any, settings: Settings, *, run_dir: Path, resume: bool, device: str = "auto"
) -> None:
    """`training.search` by `autosample-tf search`, of a `training.Source`.

    Raises:
      InputError: with the command's own line, if it failed; a `TrainingDivergedError` if that is
        why.
      ChildProcessError: if a signal ended it, as where memory is short.
    """
    of_a_run = {"schema_version": 1, "source": dataclasses.asdict(source),
                "settings": settings.to_dict()}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(of_a_run, ensure_ascii=False), encoding="utf-8")
        command = [sys.executable, "-m", "autosample_tf.cli", "search", "--config", str(config),
                   "--run-dir", str(run_dir), "--device", device, "--quiet"]  # fmt: skip
        ended = subprocess.run(
            [*command, *(["--resume"] if resume else [])],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if ended.returncode < 0:
        raise ChildProcessError(f"The run in {run_dir} was ended by signal {-ended.returncode}.")
    if ended.returncode:
        told = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        message = told[-1].removeprefix("Error: ")
        diverged = message.endswith(TrainingDivergedError.REMEDY)
        error = TrainingDivergedError if diverged else InputError
        raise error(f"{message} (the run in {run_dir})")
