"""What a step under the standard set takes, against one under `dns:pool=32` alone.

    python benchmarks/standard_set.py path/to/gowalla

MF, batch 2,048. Stretches of 320 steps in turns, about as long as it takes `aobpr` to sort
its factors once. `dns:pool=32` alone; the standard set,
searched; the same with equal weights for good. Writes `benchmarks/results/standard-set.json`.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from record import RESULTS, machine
from turns import milliseconds_in_turns

import autosample_tf
from autosample_tf.commands.terminal import suit_threads
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.settings import STANDARD_SET
from autosample_tf.splits import with_validation

STEPS, ROUNDS, BATCH_SIZE = 320, 11, 2048
CASES: dict[str, dict[str, Any]] = {
    "dns:pool=32 alone": {"samplers": ("dns:pool=32",)},
    "standard set": {"samplers": STANDARD_SET},
    "standard set, equal weights": {"samplers": STANDARD_SET, "objective": "uniform"},
}


def main(path: str) -> None:
    """Times the steps and writes medians and ratios to the first case, round by round."""
    suit_threads("mf")  # as `autosample-tf search` does
    data = with_validation(autosample_tf.load(path), 0.1, seed=0)
    seen_on = machine()
    trained = {}
    for name, settings in CASES.items():
        model = autosample_tf.MF(data.num_users, data.num_items)
        trained[name] = autosample_tf.AutoSample(
            model, data.train, validation=data.valid, l2=0.05, **settings
        )
        trained[name].compile(RowSparseAdam(3e-3), steps_per_execution=64)
    times = milliseconds_in_turns(
        trained, data.train, steps=STEPS, rounds=ROUNDS, batch_size=BATCH_SIZE
    )
    first = times[next(iter(CASES))]
    result = {
        "machine": seen_on,
        "milliseconds": {name: statistics.median(each) for name, each in times.items()},
        "fastest": {name: min(each) for name, each in times.items()},
        "ratio": {
            name: statistics.median(a / b for a, b in zip(each, first, strict=True))
            for name, each in times.items()
        },
        "rounds": times,
    }
    (RESULTS / "standard-set.json").write_text(json.dumps(result, indent=2) + "\n")
    for name in CASES:
        print(
            f"{name:<30} {result['milliseconds'][name]:6.2f} ms, ratio {result['ratio'][name]:.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
