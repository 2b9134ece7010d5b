"""How the memory of LightGCN and NGCF grows with the pairs.

    python benchmarks/graph_memory.py            # 10^5 to 10^7 pairs: 4 minutes, 6.2 GiB

Random pairs, 3 users and 3 items to 100 of them; three layers, `rns`, three steps of 2,048, each
size in a process of its own. Writes `benchmarks/results/graph-memory.json`: the process's peak
before the model is built and after the steps, in MiB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
from record import RESULTS, machine
from workers.protocol import peak_mib

MODELS, SIZES = ("lightgcn", "ngcf"), (10**5, 10**6, 4 * 10**6, 10**7)
STEPS, BATCH_SIZE = 3, 2048


def main() -> None:
    """Measures every model and size, and writes what they took."""
    result: dict[str, Any] = {"machine": machine()}
    for model in MODELS:
        result[model] = [in_its_own_process(model, size) for size in SIZES]
    output = RESULTS / "graph-memory.json"
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def in_its_own_process(model: str, size: int) -> dict[str, float]:
    """What `measure` prints there."""
    command = [sys.executable, __file__, model, str(size)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(f"{model:<9} {told['pairs']:>11,} pairs  {told['bytes_a_pair']:.0f} bytes a pair",
          flush=True)  # fmt: skip
    return told


def measure(name: str, size: int) -> dict[str, float]:
    """Builds a model over so many pairs and trains it for some steps."""
    import autosample_tf
    from autosample_tf.interactions import Interactions
    from autosample_tf.models import build_model
    from autosample_tf.pipeline import training_batches
    from autosample_tf.stages.fitting import make_optimizer

    rows, rng = 3 * size // 100, np.random.default_rng(0)
    users, skewed = rng.integers(0, rows, size), (rows * rng.random(size) ** 2).astype(int)
    train = Interactions.from_pairs(users, skewed, num_users=rows, num_items=rows)
    before = peak_mib()
    settings = autosample_tf.Settings(model=name).resolved(train.num_pairs)
    autosample = autosample_tf.AutoSample(
        build_model(name, train), train, samplers=["rns"], objective="uniform", l2=settings.l2
    )
    autosample.compile(make_optimizer(settings), steps_per_execution=STEPS)
    batches = training_batches(train, BATCH_SIZE, seed=0)
    autosample.fit(batches, steps_per_epoch=STEPS, verbose=0)
    after = peak_mib()
    return {
        "pairs": train.num_pairs,
        "mib_before": before,
        "mib_after": after,
        "bytes_a_pair": (after - before) * 2**20 / train.num_pairs,
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
