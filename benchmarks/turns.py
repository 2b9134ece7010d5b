"""Training steps of several mixtures, timed in turns."""

from __future__ import annotations

import time

import autosample_tf
from autosample_tf.pipeline import training_batches


def milliseconds_in_turns(
    trained: dict[str, autosample_tf.AutoSample],
    pairs: autosample_tf.Interactions,
    *,
    steps: int,
    rounds: int,
    batch_size: int,
) -> dict[str, list[float]]:
    """Milliseconds of a step, by name and round; a first stretch, which traces, is left out.

    Each stretch is the beginning of another epoch: to go on within one, its batches would have
    to be made and skipped on the clock. All mixtures take theirs before any goes on.
    """
    times: dict[str, list[float]] = {name: [] for name in trained}
    for round_ in range(rounds + 1):
        for name, autosample in trained.items():
            batches = training_batches(pairs, batch_size, seed=0, first_epoch=round_)
            began = time.perf_counter()
            autosample.fit(batches, steps_per_epoch=steps, verbose=0)
            if round_:
                times[name].append(1e3 * (time.perf_counter() - began) / steps)
    return times
