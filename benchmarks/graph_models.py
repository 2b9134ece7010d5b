"""What a step of NGCF takes beside one of LightGCN.

    python benchmarks/graph_models.py path/to/gowalla

Three layers of 64, batch 2,048, `rns`, stretches of steps in turns: milliseconds on the clock,
and of all cores together, which other work on the machine disturbs less. Writes
`benchmarks/results/graph-models.json`.
"""

from __future__ import annotations

import json
import statistics
import sys

from record import RESULTS, machine
from turns import stretches_in_turns

import autosample_tf
from autosample_tf.models import build_model
from autosample_tf.stages.fitting import make_optimizer

STEPS, ROUNDS, BATCH_SIZE = 12, 5, 2048
MODELS = ("lightgcn", "ngcf")


def main(path: str) -> None:
    """Times the steps and writes medians and their ratio."""
    data = autosample_tf.load(path)
    seen_on = machine()
    trained = {name: built(data, name) for name in MODELS}
    stretches = stretches_in_turns(
        trained, data.train, steps=STEPS, rounds=ROUNDS, batch_size=BATCH_SIZE
    )
    clock, cores = (
        {
            name: statistics.median(1e3 * stretch[i] / STEPS for stretch in each[1:])
            for name, each in stretches.items()
        }
        for i in range(2)
    )
    result = {
        "machine": seen_on,
        "data": {"name": data.name, **data.counts()},
        "milliseconds": clock,
        "core_milliseconds": cores,
        "ratio": clock["ngcf"] / clock["lightgcn"],
        "core_ratio": cores["ngcf"] / cores["lightgcn"],
    }
    (RESULTS / "graph-models.json").write_text(json.dumps(result, indent=2) + "\n")
    for name in MODELS:
        print(f"{name:<9} {clock[name]:7.1f} ms, {cores[name]:7.1f} core-ms")
    print(f"ratio {result['ratio']:.2f}, of core-ms {result['core_ratio']:.2f}")


def built(data: autosample_tf.Dataset, name: str) -> autosample_tf.AutoSample:
    """The model under `rns` with its default settings."""
    settings = autosample_tf.Settings(model=name).resolved(data.train.num_pairs)
    autosample = autosample_tf.AutoSample(
        build_model(name, data.train), data.train, samplers=["rns"], objective="uniform",
        l2=settings.l2,
    )  # fmt: skip
    autosample.compile(make_optimizer(settings), steps_per_execution=STEPS)
    return autosample


if __name__ == "__main__":
    main(*sys.argv[1:])
