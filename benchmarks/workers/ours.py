"""autosample-tf as a worker; it is also what ranks everybody's vectors."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from protocol import Task, serve

from autosample_tf import training
from autosample_tf.autosample import AutoSample
from autosample_tf.catalog import load
from autosample_tf.commands.terminal import suit_threads
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.models import MF, LightGCN, Recommender
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.settings import STANDARD_SET, Settings
from autosample_tf.splits import with_validation
from autosample_tf.stages.fitting import make_optimizer

STEPS_PER_CALL, CUTOFF = 64, 20  # as in a run


class Ours:
    """One mixture, prepared: its step is traced, its parameters are the initial ones."""

    def __init__(self, task: Task):
        suit_threads(task.model)  # as the commands do
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(task.threads))
        tf.config.threading.set_inter_op_parallelism_threads(task.threads)
        self._task, self._data = task, read_pairs(Path(task.folder))
        self._epochs = 0

    def build(self) -> None:
        """Makes what `epoch` trains, traces its step, and puts everything back."""
        task, train = self._task, self._data.train
        self._trained = AutoSample(
            self._model(),
            train,
            samplers=STANDARD_SET if task.standard else task.samplers,
            objective="validation" if task.standard else "uniform",
            validation=self._data.valid if task.standard else None,
            l2=task.l2,
            seed=task.seed,
        )
        self._steps = steps_per_epoch(train.num_pairs, task.batch_size)
        block = min(self._steps, STEPS_PER_CALL)
        self._trained.compile(self._optimizer(), steps_per_execution=block)
        self._model_to_rank: Recommender = self._trained.model
        initial = [(variable, variable.numpy()) for variable in self._variables()]
        self._fit(0, block)
        for variable, value in initial:
            variable.assign(value)

    def _model(self) -> Recommender:
        task, train = self._task, self._data.train
        if task.model == "mf":
            return MF(train.num_users, train.num_items, dim=task.dim, seed=task.seed)
        return LightGCN(train, layers=task.layers, dim=task.dim, seed=task.seed)

    def _optimizer(self) -> tf.keras.optimizers.Optimizer:
        """The model's default."""
        task = self._task
        settings = Settings(model=task.model, learning_rate=task.learning_rate)
        return make_optimizer(settings.resolved(self._data.train.num_pairs))

    def _variables(self) -> list[tf.Variable]:
        trained = self._trained
        optimizers = trained.optimizer, trained.logits_optimizer, trained.sampler_optimizer
        return [*trained.variables, *(v for each in optimizers for v in each.variables)]

    def epoch(self) -> None:
        """One more epoch."""
        self._fit(self._epochs, self._steps)
        self._epochs += 1

    def _fit(self, first_epoch: int, steps: int) -> None:
        batches = training_batches(
            self._data.train, self._task.batch_size, seed=self._task.seed, first_epoch=first_epoch
        )
        self._trained.fit(batches, steps_per_epoch=steps, verbose=0)

    def evaluate(self) -> dict[str, float]:
        """Ranks the whole catalogue for every test user, as the parameters stand."""
        if not hasattr(self, "_evaluator"):
            self._evaluator = self._evaluator_of(self._trained.model)
        return self._evaluator.mean()

    def export(self, path: str) -> None:
        """Writes the users' and the items' vectors."""
        write_vectors(self._model_to_rank, Path(path))

    def rank(self, path: str) -> dict[str, float]:
        """The test metrics of vectors that a worker has exported."""
        with np.load(path) as vectors:
            users, items = vectors["users"], vectors["items"]
        ranked = MF(len(users), len(items), dim=users.shape[1])
        ranked.set_weights([users, items])
        return self._evaluator_of(ranked).mean()

    def _evaluator_of(self, model: Recommender) -> Evaluator:
        return Evaluator(model, self._data.test, self._data.seen, [CUTOFF])

    def search(self, source: str, run_dir: str, folder: str) -> list[dict[str, Any]]:
        """The whole of `search` with its defaults.

        Returns:
          For each epoch of both stages its `stage`, its `seconds` since the beginning (of
          training alone, as `history.csv` has them) and the name of the file of its vectors.
        """
        saved = SavedEpochs(Path(folder))
        training.search(source, run_dir=run_dir, reporter=saved.stage)
        return saved.epochs

    def search_whole(self, source: str) -> dict[str, float]:
        """Reading, search, retraining and evaluation, as the command does them; test metrics."""
        with tempfile.TemporaryDirectory() as folder:
            metrics = training.search(source, run_dir=f"{folder}/run")
            self._model_to_rank = training.load_run(f"{folder}/run").model
        return metrics["test"]

    def load(self, source: str) -> None:
        """Reads the files and holds a tenth out."""
        with_validation(load(source), 0.1, seed=0)


class SavedEpochs:
    """Writes the vectors after each epoch of a run's stages.

    Args:
      folder: where they go.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.epochs: list[dict[str, Any]] = []
        self.seconds = 0.0

    def stage(self, stage: str, epochs: int) -> tf.keras.callbacks.Callback:
        """What `search` calls when a stage begins."""
        return SaveEpoch(self, stage)

    def save(self, stage: str, model: Recommender, seconds: float) -> None:
        """Writes one epoch's."""
        self.seconds += seconds
        name = f"epoch-{len(self.epochs) + 1}"
        write_vectors(model, self.folder / f"{name}.npz")
        self.epochs.append({"stage": stage, "seconds": self.seconds, "vectors": name})


class SaveEpoch(tf.keras.callbacks.Callback):
    """Has an epoch's vectors saved when it ends."""

    def __init__(self, saved: SavedEpochs, stage: str):
        super().__init__()
        self._saved, self._stage = saved, stage

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._saved.save(self._stage, self.model.model, logs["seconds"])


def write_vectors(model: Recommender, path: Path) -> None:
    """Writes the users' and the items' vectors."""
    state = model.propagate()
    users = model.users(state, np.arange(model.num_users))
    items = model.items(state, np.arange(model.num_items))
    np.savez(path, users=users.numpy(), items=items.numpy())


def read_pairs(folder: Path) -> Dataset:
    """The splits that `pair_files` wrote."""
    with np.load(folder / "pairs.npz") as pairs:
        size = {"num_users": int(pairs["num_users"]), "num_items": int(pairs["num_items"])}
        train, valid, test = (
            Interactions.from_pairs(pairs[f"{name}_users"], pairs[f"{name}_items"], **size)
            for name in ("train", "valid", "test")
        )
    user_ids = np.arange(size["num_users"]).astype(str)
    item_ids = np.arange(size["num_items"]).astype(str)
    return Dataset("pairs", train, test, user_ids, item_ids, valid)


if __name__ == "__main__":
    serve(Ours)
