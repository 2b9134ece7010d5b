"""Small runs that several test modules share: data, settings, stopping, comparing."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.settings import Settings
from autosample_tf.synthetic import synthetic

# All that a run can go through in a few epochs: `joint` leaves dns, the hardest, which is
# low after epochs 2 and 3, waits, and is dropped at the end; two cutoffs; a refit.
WHOLE = Settings(
    dim=8,
    samplers=("rns", "pns", "dns:pool=4"),
    objective="joint",
    drop_threshold=0.7,
    drop_warmup=1,
    time_samplers=False,
    search_epochs=4,
    retrain_epochs=3,
    init="rewind",
    trial_epochs=0,
    refit=True,
    batch_size=32,
    learning_rate=0.01,
    l2=1e-3,
    top_k=(10, 5),
    seed=3,
)
# The least there is to train: one sampler, equal weights, an epoch a stage.
LEAST = dataclasses.replace(
    WHOLE,
    samplers=("rns",),
    objective="uniform",
    init="search",
    search_epochs=1,
    retrain_epochs=1,
    refit=False,
)


def flags(settings: Settings) -> list[str]:
    """What to give `search` on the command line for these settings."""
    given = []
    for name, value in settings.to_dict().items():
        flag = "--" + name.replace("_", "-")
        if name == "samplers":
            given += [part for spec in value for part in ("--sampler", spec)]
        elif isinstance(value, bool):
            given += [flag if value else "--no-" + flag.removeprefix("--")]
        elif value is not None:
            given += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return given


def write_small_data(folder: Path) -> Path:
    """A LightGCN folder of 60 users and 80 items, in which there is something to learn."""
    data = synthetic(60, 80, mean_pairs=15)
    folder.mkdir(parents=True, exist_ok=True)
    write_pairs(folder / "train.txt", data.train)
    write_pairs(folder / "test.txt", data.test)
    return folder


def write_pairs(path: Path, pairs: Interactions) -> None:
    """One line `user item item …` for each user that has items."""
    rows = [[user, *pairs.row(user)] for user in np.flatnonzero(pairs.degrees)]
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def fingerprints(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, the lock left out, which says nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def without_seconds(value: Any) -> Any:
    """The same with every measured time left out, which no two runs share."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not k.endswith("seconds")}
    return value


def history(path: Path) -> list[dict[str, str]]:
    """The rows of a history.csv as they stand there, times left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [without_seconds(row) for row in csv.DictReader(file)]


def parameters(path: Path) -> dict[str, np.ndarray]:
    """A recommender's of what `write_parameters` wrote, by name in the checkpoint."""
    return {name: value for name, value in variables(path).items() if name.startswith("model/")}


def variables(path: Path) -> dict[str, np.ndarray]:
    """All that is in a checkpoint."""
    reader = tf.train.load_checkpoint(str(path))
    names = [name for name in reader.get_variable_to_shape_map() if "VALUE" in name]
    return {name: reader.get_tensor(name) for name in names}


class Stopped(Exception):
    """Stands for a crash."""


def stop_in(
    stage: str, epoch: int, *, between: bool = True
) -> Callable[[str, int], tf.keras.callbacks.Callback]:
    """A reporter at which a run stops: after an epoch was backed up, or within one.

    Args:
      stage: search, retrain, refit, or `trial searched` and the like.
      epoch: counted from 1.
      between: after that epoch; else at the first chance within it.
    """

    class Stop(tf.keras.callbacks.Callback):
        def __init__(self, here: bool):
            super().__init__()
            self._here = here

        def on_epoch_begin(self, number: int, logs: Any = None) -> None:
            self._number = number + 1

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self._here and not between and self._number == epoch:
                raise Stopped

        def on_epoch_end(self, number: int, logs: Any = None) -> None:
            if self._here and between and number + 1 == epoch:
                raise Stopped

    return lambda name, _: Stop(name == stage)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard reads of a folder: by name, each step's value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        name: {each.step: float(make_ndarray(each.tensor_proto)) for each in events.Tensors(name)}
        for name in events.Tags()["tensors"]
    }
