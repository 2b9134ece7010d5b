"""What a step of the standard set takes with `--jit` and without.

    python benchmarks/jit.py path/to/gowalla mf

Batch 2,048, the objective `validation`, stretches of steps in turns. Milliseconds on the clock,
and of all cores together, which other work on the machine disturbs less. Writes
`benchmarks/results/jit-mf.json`, or -lightgcn.
"""

from __future__ import annotations

import json
import statistics
import sys

from record import RESULTS, machine
from turns import stretches_in_turns

import autosample_tf
from autosample_tf.commands.terminal import suit_threads
from autosample_tf.models import build_model
from autosample_tf.settings import MODEL_DEFAULTS
from autosample_tf.splits import with_validation
from autosample_tf.stages.fitting import make_optimizer

STEPS = {"mf": 320, "lightgcn": 64}
ROUNDS, BATCH_SIZE = 5, 2048


def main(path: str, name: str) -> None:
    """Times the steps and writes medians."""
    suit_threads(name)  # as `autosample-tf search` does
    data = with_validation(autosample_tf.load(path), 0.1, seed=0)
    seen_on = machine()
    trained = {case: _built(data, name, jit=case == "jit") for case in ("plain", "jit")}
    stretches = stretches_in_turns(
        trained, data.train, steps=STEPS[name], rounds=ROUNDS, batch_size=BATCH_SIZE
    )
    first = {case: each[0].seconds for case, each in stretches.items()}  # traces and compiles
    times = {
        case: [tuple(1e3 * seconds / STEPS[name] for seconds in stretch) for stretch in each[1:]]
        for case, each in stretches.items()
    }
    result = {
        "machine": seen_on,
        "first_seconds": first,
        "milliseconds": {case: statistics.median(t for t, _ in times[case]) for case in times},
        "core_milliseconds": {case: statistics.median(t for _, t in times[case]) for case in times},
        "rounds": times,
    }
    (RESULTS / f"jit-{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    for case in times:
        clock, cores = result["milliseconds"][case], result["core_milliseconds"][case]
        print(f"{name} {case:<6} {clock:6.2f} ms, {cores:6.2f} core-ms, first {first[case]:.0f} s")


def _built(data: autosample_tf.Dataset, name: str, *, jit: bool) -> autosample_tf.AutoSample:
    settings = autosample_tf.Settings(model=name).resolved(data.train.num_pairs)
    autosample = autosample_tf.AutoSample(
        build_model(name, data.train), data.train, validation=data.valid,
        l2=MODEL_DEFAULTS[name]["l2"],
    )  # fmt: skip
    autosample.compile(make_optimizer(settings), jit_compile=jit, steps_per_execution=32)
    return autosample


if __name__ == "__main__":
    main(*sys.argv[1:])
