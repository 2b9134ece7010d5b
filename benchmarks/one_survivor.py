"""What an epoch costs after dropping to one sampler, against training with it alone.

    python benchmarks/one_survivor.py path/to/gowalla

Two models train on the same batches in turn, an epoch each, several rounds: one under the
standard set of which all but `dns:pool=32` were dropped, one under `dns:pool=32` from the
start. Beside them stands the epoch of the whole set before the drop. Writes
`benchmarks/results/one-survivor.json`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from record import RESULTS, machine

import autosample_tf
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.settings import STANDARD_SET
from autosample_tf.splits import with_validation

SURVIVOR, ROUNDS, BATCH_SIZE = "dns:pool=32", 5, 2048


def main(path: str) -> None:
    """Times the epochs and writes medians and their ratio."""
    data = with_validation(autosample_tf.load(path), 0.1, seed=0)
    steps = steps_per_epoch(data.train.num_pairs, BATCH_SIZE)

    def build(samplers: tuple[str, ...]) -> autosample_tf.AutoSample:
        model = autosample_tf.MF(data.num_users, data.num_items)
        built = autosample_tf.AutoSample(
            model, data.train, samplers=samplers, validation=data.valid, l2=0.05
        )
        built.compile(optimizer=RowSparseAdam(3e-3), steps_per_execution=64)
        return built

    def epoch(trained: autosample_tf.AutoSample) -> float:
        batches = training_batches(data.train, BATCH_SIZE, seed=0)
        began = time.perf_counter()
        trained.fit(batches, steps_per_epoch=steps, verbose=0)
        return time.perf_counter() - began

    seen_on = machine()
    searched, alone = build(STANDARD_SET), build((SURVIVOR,))
    epoch(searched)  # traces
    whole_set = epoch(searched)
    searched.drop([spec for spec in searched.specs if spec != SURVIVOR])
    epoch(searched)  # traces anew
    epoch(alone)
    times = [(epoch(searched), epoch(alone)) for _ in range(ROUNDS)]
    dropped, plain = (statistics.median(column) for column in zip(*times, strict=True))
    result = {
        "machine": seen_on,
        "epoch_of_the_whole_set": whole_set,
        "epoch_after_dropping_to_one": dropped,
        "epoch_with_it_alone": plain,
        "ratio": statistics.median(a / b for a, b in times),
        "rounds": times,
    }
    (RESULTS / "one-survivor.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
