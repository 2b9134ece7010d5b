"""The run folder: what was asked, how far it came, what came out. No TensorFlow.

config.json    settings, dataset (counts and checksum), versions, machine
metrics.json   the result, written last
search/        history.csv, checkpoints, parameters, result.json
retrain/       history.csv, checkpoints, parameters; trial.json, what a trial found, and trial/,
               the histories of the mixtures in it
per_user/      the metrics of each user that those of metrics.json are means of
tensorboard/   scalars of both stages
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

import autosample_tf
from autosample_tf.errors import InputError, expected
from autosample_tf.installed import installed_version
from autosample_tf.whole_files import whole

SCHEMA_VERSION = 1
_REPORTED_PACKAGES = ("tensorflow", "tf_keras", "tensorflow-recommenders", "numpy")


class Run:
    """One run's folder.

    Args:
      path: the folder, there or not.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)

    @classmethod
    def existing(cls, path: Path | str) -> Run:
        """A folder that holds a run.

        Raises:
          InputError: if it does not.
        """
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise expected(
                "a run folder with a config.json",
                received=path,
                remedy="Pass the folder that `autosample-tf search` printed.",
            )
        return run

    @property
    def search(self) -> Path:
        return self.path / "search"

    @property
    def retrain(self) -> Path:
        return self.path / "retrain"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def config(self) -> dict[str, Any]:
        return self.read_json("config.json")

    def resuming(self) -> str:
        """The command that goes on with the run."""
        config = self.config()
        searched = config.get("searched")  # relative to the folder
        origin = os.path.normpath(self.path / searched) if searched else None
        return resuming(config.get("command", "search"), self.path, origin)

    def check_is_one(self) -> None:
        """Refuses, with an `InputError`, a comparison's folder, which has several."""
        if (runs := self.path / "runs").is_dir():
            raise expected(
                f"a run in {self.path}",
                received="a comparison of several",
                remedy=f"Pass the folder of one of them, in {runs}.",
            )

    def metrics(self) -> dict[str, Any]:
        """The result.

        Raises:
          InputError: if the run did not get that far.
        """
        if not (self.path / "metrics.json").is_file():
            self.check_is_one()
            raise expected(
                f"a finished run in {self.path}",
                received="one without metrics.json",
                remedy=f"Finish it: {self.resuming()}",
            )
        return self.read_json("metrics.json")

    def read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"Expected JSON in {path}; received {error}. Restore it.") from error

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Writes a whole file or none; `schema_version` comes first."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema_version": SCHEMA_VERSION, **values}, indent=2)
        with whole(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def write_per_user(self, split: str, users: np.ndarray, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics that a mean is of, whole or not at all.

        Args:
          split: of the held-out pairs.
          users: [n], places in the catalogue of users.
          metrics: [n] by name.
        """
        path = self.path / "per_user" / f"{split}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, users=users, **metrics)

    def per_user(self, split: str) -> dict[str, np.ndarray]:
        """What `write_per_user` wrote: [n] by metric, and the `users`.

        Raises:
          InputError: if nothing did.
        """
        path = self.path / "per_user" / f"{split}.npz"
        try:
            with np.load(path) as stored:
                return dict(stored)
        except (OSError, ValueError) as error:
            raise InputError(
                f"Expected each user's metrics in {path}; received {error}. Run it again."
            ) from error

    def start(self, config: Mapping[str, Any], *, resume: bool) -> None:
        """Makes the folder with its `config.json`, or checks that a resumed run's agrees.

        Raises:
          InputError: if the folder is there and `resume` is not asked for, or the other
            way round, or the settings or the data changed.
        """
        if not resume:
            if self.path.exists() and any(p.name != "lock" for p in self.path.iterdir()):
                raise expected(
                    "a run folder that is not there yet",
                    received=self.path,
                    remedy="Choose another --run-dir, or go on with --resume.",
                )
            here = {**environment(), **config.get("environment", {})}
            self.write_json("config.json", {**config, "environment": here})
            return
        before = Run.existing(self.path).config()
        # The environment may be another.
        self.check_same(before, {**config, "environment": before["environment"]})

    def check_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Refuses to go on with other settings or data than before: parts of `config.json`.

        Raises:
          InputError: which tells what each was, and is.
        """
        if changed := list(_differences(before, now)):
            raise InputError(
                f"Expected the settings that the run in {self.path} began with; received "
                f"others: {'; '.join(changed)}. Resume with those, or start a new run."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process out of the folder.

        Raises:
          InputError: if another process is at work there, or no folder can be.
        """
        existed = self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise expected(
                "a run folder, or a place for one",
                received=f"{self.path}, at or above which is a file",
                remedy="Choose another --run-dir.",
            ) from error
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise expected(
                "a run folder that no other process works in",
                received=self.path,
                remedy="Wait for it to finish, or choose another --run-dir.",
            ) from error
        try:
            yield
        finally:
            # The file stays: whoever took the lock between a release and an unlinking would
            # hold one that the next process does not see.
            lock.release()
            if not existed and [path.name for path in self.path.iterdir()] == ["lock"]:
                (self.path / "lock").unlink()
                self.path.rmdir()  # refused before anything was written


class History:
    """A stage's table, `history.csv`: a row an epoch, rewritten whole so none is half there.

    Args:
      path: the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self.rows: list[dict[str, Any]] = []

    def load(self, epochs: int) -> None:
        """Takes up the rows of the first `epochs` epochs; later ones were not backed up."""
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = [{k: _parse(v) for k, v in row.items()} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["epoch"] <= epochs]

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds an epoch; columns that are new leave the earlier rows empty there."""
        self.rows.append({key: _plain(value) for key, value in row.items()})
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        columns.sort(key=lambda column: column not in ("epoch", "seconds", "evaluation_seconds"))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole(self._path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)


DROPPED = "dropped/"  # in an epoch's logs, and then a sampler's spec


def dropped_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """Whom an epoch dropped, by spec the weight that it ended with, of the epoch's logs."""
    return {
        name.removeprefix(DROPPED): value
        for name, value in logs.items()
        if name.startswith(DROPPED)
    }


def in_a_column(drops: Mapping[str, float]) -> str:
    """What an epoch dropped as the history's column `dropped` has it; `drops_of` reads it."""
    return ";".join(f"{spec}={weight:.6f}" for spec, weight in drops.items())


def drops_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Whom an epoch dropped, by spec the weight that it ended with, of its row in the history."""
    entries = (entry.rpartition("=") for entry in (row.get("dropped") or "").split(";") if entry)
    return {spec: float(weight) for spec, _, weight in entries}


def weights_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The mixture that an epoch ended with, by spec, of its row in the history or its logs."""
    return {
        name.removeprefix("weight/"): value
        for name, value in row.items()
        if name.startswith("weight/") and value is not None
    }


def leave_history(folder: Path) -> None:
    """Removes what a stretch of training left but its history: checkpoints, and the folder that
    TensorFlow writes one in, which stays where that was interrupted."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "history.csv":
            path.unlink()


def resuming(command: str, run_dir: Path, searched: str | Path | None = None) -> str:
    """The command that goes on with what another began.

    Args:
      command: the one that began it.
      run_dir: its folder.
      searched: the run that `retrain` goes on from.
    """
    origin = ["--run", str(searched)] if searched else []
    return shlex.join(["autosample-tf", command, "--resume", *origin, "--run-dir", str(run_dir)])


def folder_name(name: str) -> str:
    """A sampler's spec, or another name, as every file system takes it."""
    return re.sub(r"[^\w.=-]+", "_", name)


def environment() -> dict[str, Any]:
    """Versions and machine, as `config.json` has them."""
    return {
        "autosample_tf": autosample_tf.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: installed_version(name) for name in _REPORTED_PACKAGES},
    }


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for key in sorted({*before, *after} - {"schema_version"}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old!r}, is {new!r}"


def _parse(text: str) -> Any:
    if text == "":
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return int(text) if text.isdigit() else number


def _plain(value: Any) -> Any:
    """A Python number of a NumPy or TensorFlow scalar, written so that it reads back."""
    return value.item() if hasattr(value, "item") else value
