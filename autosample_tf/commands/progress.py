"""What a person sees while a run works, and the table at its end. Nothing else prints.

On a terminal a bar with the time left and the mixture as it stands; elsewhere (a pipe, a
log file) one plain line an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from autosample_tf.comparison.comparing import Outcome
from autosample_tf.runs import Run, dropped_of, weights_of
from autosample_tf.stages.trial import in_words

_MOST_WEIGHTS = 5  # in a line
_CHOSEN_ON_TEST = (
    "weights and epochs were chosen on test: these figures are optimistic, and comparable "
    "only with tables that did the same"
)


class Report(tf.keras.callbacks.Callback):
    """A stage's progress.

    Args:
      stage: its name.
      epochs: the most it may take.
      console: where to.
    """

    def __init__(self, stage: str, epochs: int, console: Console):
        super().__init__()
        self._stage, self._epochs, self._console = stage, epochs, console
        self._bar: Progress | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", table_column=Column(no_wrap=True)),
                BarColumn(bar_width=10, table_column=Column(no_wrap=True)),
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TextColumn("steps, left", table_column=Column(no_wrap=True)),
                TimeRemainingColumn(table_column=Column(no_wrap=True)),
                # What is too long for the terminal is cut off here, not from the others.
                TextColumn(
                    "{task.fields[state]}",
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                expand=True,
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=None, state="")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._steps_done = epoch * self.params["steps"]
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._bar:
            self._bar.update(
                self._task,
                total=self._epochs * self.params["steps"],
                completed=self._steps_done + batch + 1,
                state=f"loss {logs['loss']:.4f}  {_weights(logs)}",
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        metrics = "  ".join(f"{k} {v:.4f}" for k, v in logs.items() if k.startswith("ndcg@"))
        told = ", ".join(f"{spec} {weight:.2f}" for spec, weight in dropped_of(logs).items())
        dropped = f"  dropped {told}" if told else ""
        back = f"  back to epoch {logs['back_to']}, lr / 5" if "back_to" in logs else ""
        self._console.print(
            f"{self._stage} {epoch + 1}/{self._epochs}  {logs['seconds']:.1f} s  "
            f"loss {logs['loss']:.4f}  {metrics}  {_weights(logs)}{dropped}{back}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the terminal back, also where training ended with an error, and lets the model
        go: who made the report may keep it for longer."""
        if self._bar:
            self._bar.stop()
        self.model = None


def _weights(logs: Mapping[str, Any]) -> str:
    """The mixture, the largest weights first; of many samplers the largest alone."""
    ranked = sorted(weights_of(logs).items(), key=lambda each: -each[1])
    shown, rest = ranked[:_MOST_WEIGHTS], ranked[_MOST_WEIGHTS:]
    if rest and math.isclose(shown[0][1], rest[-1][1], rel_tol=1e-4):
        return f"{len(ranked)} samplers {shown[0][1]:.2f} each"
    told = [f"{spec} {weight:.2f}" for spec, weight in shown]
    if rest:
        told.append(f"{len(rest)} others {sum(weight for _, weight in rest):.2f}")
    return "  ".join(told)


def print_data(run_dir: Path, console: Console) -> None:
    """The dataset's counts and checksum as the run's config has them, and its folder."""
    data = Run.existing(run_dir).config()["dataset"]
    listed = ", ".join(f"{n:,} {key.replace('_', ' ')}" for key, n in data["counts"].items())
    console.print(
        f"{data['name']}: {listed}; sha256 {data['sha256']}\nrun folder: {run_dir}",
        highlight=False,
        soft_wrap=True,
    )


def print_outcome(outcome: Outcome, console: Console) -> None:
    """One line of a comparison's run that has ended."""
    valid = outcome.per_user["valid"]
    metrics = "  ".join(f"{k} {v.mean():.4f}" for k, v in valid.items() if k.startswith("ndcg@"))
    console.print(
        f"seed {outcome.seed}  {outcome.contestant}  valid {metrics}  {outcome.epochs} epochs  "
        f"{outcome.seconds:.1f} s",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def print_result(metrics: Mapping[str, Any], console: Console) -> None:
    """The table that a run ends with."""
    table = Table(title=f"{metrics['model']} on {metrics['dataset']}")
    table.add_column("")
    on_test = metrics.get("selected_on") == "test"
    splits = ("test",) if on_test else ("valid", "test")  # valid is test then
    for split in splits:
        table.add_column(split, justify="right")
    for name in metrics["test"]:  # a row each: several cutoffs are too many for columns
        table.add_row(name, *(f"{metrics[split][name]:.4f}" for split in splits))
    console.print(table)
    if on_test:
        console.print(_CHOSEN_ON_TEST, highlight=False, soft_wrap=True)
    found, retrained = metrics["search"], metrics["retrain"]
    weights = ", ".join(f"{spec} {weight:.3f}" for spec, weight in found["weights"].items())
    trial = retrained.get("trial")  # runs of before there were trials have none
    chosen = f", under {in_words(trial['best'])}" if trial else ""
    console.print(
        f"search: {found['epochs']} epochs, {found['seconds']:.1f} s, weights {weights}\n"
        f"retrain: best epoch {retrained['best_epoch']} of {retrained['epochs']}, "
        f"{retrained['seconds']:.1f} s, from {retrained['init']}{chosen}",
        highlight=False,
        soft_wrap=True,
    )
