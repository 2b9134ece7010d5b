"""Training steps of several mixtures, timed in turns."""

from __future__ import annotations

import time
from typing import NamedTuple

import autosample_tf
from autosample_tf.pipeline import training_batches


class Stretch(NamedTuple):
    """What some steps in a row took, in seconds: on the clock, and of all cores together."""

    seconds: float
    core_seconds: float


def stretches_in_turns(
    trained: dict[str, autosample_tf.AutoSample],
    pairs: autosample_tf.Interactions,
    *,
    steps: int,
    rounds: int,
    batch_size: int,
) -> dict[str, list[Stretch]]:
    """What so many steps took, by name and round; first of all a round that traces.

    Each stretch is the beginning of another epoch: to go on within one, its batches would have
    to be made and skipped on the clock. All mixtures take theirs before any goes on.
    """
    times: dict[str, list[Stretch]] = {name: [] for name in trained}
    for round_ in range(rounds + 1):
        for name, autosample in trained.items():
            batches = training_batches(pairs, batch_size, seed=0, first_epoch=round_)
            began, began_cores = time.perf_counter(), time.process_time()
            autosample.fit(batches, steps_per_epoch=steps, verbose=0)
            times[name].append(
                Stretch(time.perf_counter() - began, time.process_time() - began_cores)
            )
    return times


def milliseconds_in_turns(
    trained: dict[str, autosample_tf.AutoSample],
    pairs: autosample_tf.Interactions,
    *,
    steps: int,
    rounds: int,
    batch_size: int,
) -> dict[str, list[float]]:
    """Milliseconds of a step on the clock, by name and round, without the one that traces."""
    times = stretches_in_turns(trained, pairs, steps=steps, rounds=rounds, batch_size=batch_size)
    return {
        name: [1e3 * stretch.seconds / steps for stretch in each[1:]]
        for name, each in times.items()
    }
