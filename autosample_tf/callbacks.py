"""What happens between epochs: evaluate, drop, keep the best, record, back up.

Every callback's state can be read back from the run folder (the history's rows, the
checkpoint), so that a resumed run goes on as if it had not stopped. They belong in this
order, since each may read what those before it put into the epoch's `logs`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.checkpoints import read_optimizer, read_parameters, readable, write_parameters
from autosample_tf.cost import sampler_costs
from autosample_tf.errors import TrainingDivergedError
from autosample_tf.evaluation import Evaluator
from autosample_tf.runs import DROPPED, History, dropped_of, in_a_column, weights_of

log = logging.getLogger(__name__)
DECAY = 0.2  # of the learning rate
Row = Mapping[str, Any]


class StopOnDivergence(tf.keras.callbacks.Callback):
    """Raises when the mean loss of the epoch so far, or a parameter, is not finite.

    The parameters are looked at before the epoch is backed up, since an epoch's last step
    can spoil them while its loss is still finite. Squares that overflow count as infinite:
    scores, which are products, would too.
    """

    def on_train_batch_end(self, batch: int, logs: Row | None = None) -> None:
        if not math.isfinite(loss := logs["loss"]):
            raise TrainingDivergedError(
                f"Expected a finite loss; received {loss} at step {batch + 1} of the epoch. "
                f"{TrainingDivergedError.REMEDY}"
            )

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        for variable in self.model.model.trainable_variables:
            if not math.isfinite(norm := float(tf.reduce_sum(tf.square(variable)))):
                raise TrainingDivergedError(
                    f"Expected finite parameters; received a sum of squares of {norm} in "
                    f"{variable.name} after epoch {epoch + 1}. {TrainingDivergedError.REMEDY}"
                )


class RefreshSamplers(tf.keras.callbacks.Callback):
    """Lets every active sampler renew what it renews once an epoch."""

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        self.model.refresh_samplers()


class ReportHealth(tf.keras.callbacks.Callback):
    """Puts what the samplers' negatives were like into the epoch's logs."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs.update(self.model.health())


class TimeSamplers(tf.keras.callbacks.Callback):
    """Puts each sampler's cost into the logs, timed anew when others than before are active.

    Args:
      batch: what steps are timed on.
    """

    def __init__(self, batch: dict[str, tf.Tensor]):
        super().__init__()
        self._batch = batch
        self._timed: list[str] = []
        self._costs: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Row | None = None) -> None:
        if self.model.survivors != self._timed:
            self._timed = self.model.survivors
            self._costs = sampler_costs(self.model, self._batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs.update({f"cost_ms/{spec}": ms for spec, ms in self._costs.items()})


class EvaluateEpoch(tf.keras.callbacks.Callback):
    """Puts the epoch's seconds and the held-out metrics into the logs.

    Args:
      evaluator: None where nothing is held out.
      evaluate_from: the first epoch whose metrics are asked for.
    """

    def __init__(self, evaluator: Evaluator | None, evaluate_from: int = 0):
        super().__init__()
        self._evaluator, self._evaluate_from = evaluator, evaluate_from

    def on_epoch_begin(self, epoch: int, logs: Row | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        trained = time.perf_counter()
        asked = self._evaluator and epoch + 1 >= self._evaluate_from
        metrics = self._evaluator.mean() if asked else {}
        logs.update(
            seconds=trained - self._began,
            evaluation_seconds=time.perf_counter() - trained,
            **metrics,
        )


class DropSamplers(tf.keras.callbacks.Callback):
    """Drops samplers whose weight stays under a share of an equal weight.

    A sampler goes when its weight ends two epochs in a row under
    `threshold` / (number of active samplers), after the warm-up; the one with the largest
    weight always stays. The next epoch's step is traced without those dropped, which takes
    seconds: so they wait for each other, or for the end, until what they no longer take of the
    steps that are left is worth it.

    Args:
      threshold: in [0, 1); 0 drops none.
      warmup: epochs before the first drop.
      steps_to_trace: how many steps take as long as tracing another one.
    """

    def __init__(self, threshold: float, warmup: int, steps_to_trace: int = 0):
        super().__init__()
        self._threshold, self._warmup = threshold, warmup
        self._steps_to_trace = steps_to_trace
        self._low_before: set[str] = set()
        self._steps_an_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Row | None = None) -> None:
        self._steps_an_epoch = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        weights = self.model.weights_by_spec()
        low = self._low(weights)
        to_drop = low & self._low_before if epoch + 1 > self._warmup else set()
        if to_drop and self._is_worth_it(epoch + 1, len(to_drop) / len(weights)):
            # Numbers all, as Keras' own callbacks want them.
            logs.update({f"{DROPPED}{spec}": weights[spec] for spec in sorted(to_drop)})
            log.info("epoch %d: dropped %s", epoch + 1, ", ".join(sorted(to_drop)))
            self.model.drop(to_drop)
        self._low_before = low

    def replay(self, rows: Sequence[Row]) -> None:
        """Takes up the state that the last of the history's rows left."""
        if rows:
            self._low_before = self._low(weights_of(rows[-1]))

    def _is_worth_it(self, epochs: int, share: float) -> bool:
        """Whether dropping a share of the samplers after so many epochs is, or there is no step
        to trace."""
        left = self._steps_an_epoch * (self.params["epochs"] - epochs)
        return self.model.stop_training or not left or left * share >= self._steps_to_trace

    def _low(self, weights: Mapping[str, float]) -> set[str]:
        limit = self._threshold / len(weights)
        strongest = max(weights, key=weights.__getitem__)
        return {s for s, weight in weights.items() if weight < limit and s != strongest}


class KeepBest(tf.keras.callbacks.Callback):
    """Writes the parameters of the best epoch; goes back to them, or stops, where none is better.

    After `patience` epochs without a better one training goes on from the best one's parameters
    and optimizer's state, at a fifth of the learning rate, until that has been done `decays`
    times; then it stops. Training that rises to its last epochs does so too, in time for each
    rate to have a sixth of all epochs (or what leaves half of them to the full rate).
    `tf.keras.callbacks.ReduceLROnPlateau` would go on from where it is, which on small data is
    past the best, and a resumed run would have to be told what it knew.

    Args:
      monitor: the metric that is to rise.
      patience: epochs in a row without a better one than those before: what training started
        from may be better than all of them.
      path: what the parameters are written to, as `tf.train.Checkpoint` does.
      last_epoch: what training stops with at the latest.
      decays: of the learning rate.
      with_optimizer: its state too, which decays need, for training that goes on from there.

    Attributes:
      best: the metric of the best epoch.
      best_epoch: from 1; 0: the parameters from before the first one.
      epochs_by_rate: at each learning rate so far, the epochs that lead to the best one.
    """

    def __init__(
        self,
        monitor: str,
        patience: int,
        path: Path,
        last_epoch: int,
        *,
        decays: int = 0,
        with_optimizer: bool = False,
    ):
        super().__init__()
        self._monitor, self._patience, self._path = monitor, patience, path
        self._last_epoch = last_epoch
        # Of each lowered rate where patience asks for none; half of all are at the full one.
        self._epochs_a_rate = last_epoch // max(6, 2 * decays)
        self._decays, self._with_optimizer = decays, with_optimizer or decays > 0
        self.best = -math.inf
        self.best_epoch = 0
        self.epochs_by_rate = [0]
        self._began = 0  # the epoch after which the rate became what it is
        self._highest = -math.inf  # of the epochs, the start not among them
        self._worse = 0

    def start_from(
        self, value: float, model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer
    ) -> None:
        """Counts the parameters before the first epoch as epoch 0's.

        A resumed run's file may hold a later epoch's already, and stays.
        """
        self.best = value
        if not self._path.with_name(self._path.name + ".index").exists():
            self._write(model, optimizer)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model, optimizer = self.model.model, self.model.optimizer
        logs["lr"] = float(optimizer.learning_rate)
        if self._is_best(epoch + 1, logs[self._monitor]):
            self._write(model, optimizer)
        if self._is_to_decay(epoch + 1):
            self._has_decayed(epoch + 1)
            read_parameters(model, self._path)
            read_optimizer(optimizer, self._path)
            optimizer.learning_rate = logs["lr"] * DECAY
            logs["back_to"] = self.best_epoch
        self.model.stop_training = self.model.stop_training or self._has_stopped()

    def replay(self, rows: Sequence[Row]) -> bool:
        """Takes up the state that the history's rows left; whether it had stopped."""
        for row in rows:
            self._is_best(row["epoch"], row[self._monitor])
            if row.get("back_to") is not None:
                self._has_decayed(row["epoch"])
        return self._has_stopped()

    def _write(self, model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer) -> None:
        write_parameters(model, self._path, optimizer if self._with_optimizer else None)

    def _is_best(self, epoch: int, value: float) -> bool:
        self._worse = 0 if value > self._highest else self._worse + 1
        self._highest = max(value, self._highest)
        if value <= self.best:
            return False
        self.best, self.best_epoch = value, epoch
        self.epochs_by_rate[-1] = epoch - self._began
        return True

    def _is_to_decay(self, epoch: int) -> bool:
        left = self._decays + 1 - len(self.epochs_by_rate)
        # While no epoch is better than what training started from, there is none to go back to.
        is_late = self.best_epoch and 0 < self._last_epoch - epoch <= left * self._epochs_a_rate
        return left > 0 and bool(is_late or self._worse >= self._patience)

    def _has_decayed(self, epoch: int) -> None:
        """Begins another wait for a better epoch."""
        self.epochs_by_rate.append(0)
        self._began, self._worse, self._highest = epoch, 0, self.best

    def _has_stopped(self) -> bool:
        return self._worse >= self._patience


def rates(first: float, epochs_by_rate: Sequence[int]) -> list[float]:
    """The learning rate of each epoch that led to `KeepBest`'s best one."""
    return [first * DECAY**k for k, epochs in enumerate(epochs_by_rate) for _ in range(epochs)]


class Record(tf.keras.callbacks.Callback):
    """Writes the epoch's number and logs to the history, who was dropped in one column, and, as
    scalars, for TensorBoard.

    Args:
      history: the stage's table.
      log_dir: TensorBoard's folder.
    """

    def __init__(self, history: History, log_dir: Path):
        super().__init__()
        self._history, self._log_dir = history, log_dir

    def on_train_begin(self, logs: Row | None = None) -> None:
        self._writer = tf.summary.create_file_writer(str(self._log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        kept = {name: value for name, value in logs.items() if not name.startswith(DROPPED)}
        row = {"epoch": epoch + 1, **kept}
        if dropped := dropped_of(logs):
            row["dropped"] = in_a_column(dropped)
        self._history.append(row)
        with self._writer.as_default(step=epoch + 1):
            for name, value in logs.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def on_train_end(self, logs: Row | None = None) -> None:
        self._writer.close()


class KeepEpoch(tf.keras.callbacks.Callback):
    """Writes the parameters and the optimizer's state after one epoch, for `--init rewind`."""

    def __init__(self, epoch: int, path: Path):
        super().__init__()
        self._epoch, self._path = epoch, path

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        if epoch + 1 == self._epoch:
            write_parameters(self.model.model, self._path, self.model.optimizer)


class BackUp(tf.keras.callbacks.Callback):
    """Checkpoints everything that training goes on from, once an epoch.

    `tf.keras.callbacks.BackupAndRestore` would do, but for the set of active samplers:
    after a restore the step has to be traced without the dropped ones.

    Args:
      autosample: what is trained; its optimizers and samplers are checkpointed with it.
      folder: of the checkpoints, of which only the last is kept.
    """

    def __init__(self, autosample: AutoSample, folder: Path):
        super().__init__()
        self._epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(autosample=autosample, epoch=self._epoch)
        self._manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=1)
        self._autosample = autosample

    def restore(self) -> int:
        """Restores the last checkpoint, if there is one; the number of epochs done."""
        folder = Path(self._manager.directory)
        with readable(
            "an epoch's checkpoint", folder, "Remove the folder to begin its stage anew."
        ):
            is_there = self._manager.restore_or_initialize()
        if is_there:
            self._autosample.restore_active()
        return int(self._epoch.numpy())

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        self._epoch.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)
