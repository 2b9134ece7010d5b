"""One generated dataset under one mixture, stage by stage: seconds and memory of each.

    python benchmarks/growth_piece.py path/to/folder dns:pool=32

is what `growth.py` starts in a process of its own, without samplers for the standard set,
searched; it prints JSON. The stages are those of `autosample-tf search`, with its defaults for
MF. Seconds are on the clock and of all cores, the second of which other work disturbs less.
Memory is the process's peak during a stage (on Linux; elsewhere until its end), what earlier
stages have left included.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from workers.protocol import peak_mib

from autosample_tf.catalog import load
from autosample_tf.commands.terminal import suit_threads
from autosample_tf.splits import with_validation

STEPS_PER_CALL, BATCH_SIZE = 64, 2048
STEPS = 640  # at most, of an epoch
USERS = 2048  # that are ranked for


class Stages:
    """What each stage took, by name."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times and weighs what is done within."""
        forget_peak()
        began, began_cpu = time.perf_counter(), time.process_time()
        yield
        self.told[name] = {
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - began_cpu,
            "peak_mib": peak_mib(),
        }


def forget_peak() -> None:
    """Has Linux count a process's peak memory from what it has now."""
    control = Path("/proc/self/clear_refs")
    if control.exists():
        control.write_text("5")


def main(folder: str, *samplers: str) -> None:
    """Goes through all stages and prints what they took."""
    print(json.dumps(measure(folder, samplers)))


def measure(folder: str, samplers: tuple[str, ...]) -> dict[str, Any]:
    """The stages, and what they were of.

    Args:
      folder: of the files.
      samplers: specs; none: the standard set, searched, else equal weights.
    """
    stages = Stages()
    stage = stages.stage
    with stage("start"):
        suit_threads("mf")
        from autosample_tf.autosample import AutoSample
        from autosample_tf.evaluation import Ranker
        from autosample_tf.models import MF
        from autosample_tf.optimizers import RowSparseAdam
        from autosample_tf.pipeline import steps_per_epoch, training_batches

        MF(1, 1)  # TensorFlow makes its devices
    with stage("read"):
        data = load(folder)
    with stage("split"):
        data = with_validation(data, 0.1, seed=0)
    with stage("describe"):  # for config.json
        counts, _ = data.counts(), data.checksum()
    with stage("build"):
        model = MF(data.num_users, data.num_items)
        kind = {"samplers": samplers, "objective": "uniform"} if samplers else {}
        trained = AutoSample(model, data.train, validation=data.valid, l2=0.05, **kind)
        steps = min(STEPS, steps_per_epoch(data.train.num_pairs, BATCH_SIZE))
        call = min(steps, STEPS_PER_CALL)
        steps -= steps % call
        trained.compile(RowSparseAdam(3e-3), steps_per_execution=call)
        first, batches = (
            training_batches(data.train, BATCH_SIZE, seed=0, first_epoch=epoch) for epoch in (0, 1)
        )
    with stage("trace"):  # and the first steps
        trained.fit(first, steps_per_epoch=call, verbose=0)
    with stage("steps"):
        trained.fit(batches, steps_per_epoch=steps, verbose=0)
    with stage("evaluator"):
        ranker = Ranker(model, data.train, 20)
        users = np.random.default_rng(0).permutation(data.num_users)[:USERS]
    with stage("rank first"):
        ranker.rank(users)
    with stage("rank"):
        ranker.rank(users)
    return {"data": counts, "steps": steps, "ranked_users": len(users), "stages": stages.told}


if __name__ == "__main__":
    main(*sys.argv[1:])
