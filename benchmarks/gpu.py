"""Search, retraining from the CPU's run, and evaluation: a GPU against the CPU beside it.

    python benchmarks/gpu.py path/to/gowalla mf
    python benchmarks/gpu.py path/to/gowalla mf --search-epochs 5 --retrain-epochs 5

Each is one `autosample-tf` command in a process of its own, on the CPU, on the GPU, and on the
GPU under `--jit`, and under `--precision mixed_bfloat16` too; options after the model are those
of `search`. Retraining and evaluation begin with what the CPU's search left, so that they show
that a run changes devices. Seconds are those of the whole command, and of an epoch and of its
evaluation: medians over a stage's epochs but its first, which traces and compiles. Metrics stand
beside them. Writes `benchmarks/results/gpu-mf.json`, or -lightgcn, anew after each command.
Where TensorFlow sees no GPU it says so and ends.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from record import RESULTS, machine

CPU = ("--device", "cpu")
GPU = ("--device", "gpu")
TRAINED_ON = {
    "cpu": CPU,
    "gpu": GPU,
    "gpu, jit": (*GPU, "--jit"),
    "gpu, jit, bfloat16": (*GPU, "--jit", "--precision", "mixed_bfloat16"),
}
EVALUATED_ON = {"cpu": CPU, "gpu": GPU}


def main(path: str, model: str, *options: str) -> None:
    """Runs the commands one after the other, writes and prints what each took."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        print("TensorFlow sees no GPU here: there is nothing to compare.")
        return
    details = tf.config.experimental.get_device_details(gpus[0])
    seen_on = {**machine(), "gpu": {key: str(value) for key, value in details.items()}}
    results: list[dict[str, Any]] = []
    record = {"machine": seen_on, "options": options, "results": results}
    with tempfile.TemporaryDirectory() as name:
        for found in commands(Path(name), path, model, options):
            results.append(found)
            (RESULTS / f"gpu-{model}.json").write_text(json.dumps(record, indent=2) + "\n")
            print(told(found), flush=True)


def commands(
    folder: Path, path: str, model: str, options: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """What each command took, as soon as it has ended."""
    runs = {device: folder / str(place) for place, device in enumerate(TRAINED_ON)}
    # Timing the samplers would be in the seconds of some devices and not of others.
    search = ["search", "--dataset", path, "--model", model, "--no-time-samplers", *options]
    from_cpu = ["--run", runs["cpu"]]
    for device, choice in TRAINED_ON.items():
        done = timed(*search, "--run-dir", runs[device], *choice)
        yield {"command": "search", "device": device, **done, **epochs(runs[device])}
    for device, choice in TRAINED_ON.items():
        again = runs[device].with_name(f"{runs[device].name}-again")
        done = timed("retrain", *from_cpu, "--run-dir", again, *choice)
        yield {"command": "retrain", "device": device, **done, **epochs(again)}
    for device, choice in EVALUATED_ON.items():
        yield {"command": "evaluate", "device": device, **timed("evaluate", *from_cpu, *choice)}


def timed(*arguments: Any) -> dict[str, float]:
    """One command's seconds, and its NDCG on test."""
    command = [sys.executable, "-m", "autosample_tf.cli", *map(str, arguments), "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, result = time.perf_counter() - began, json.loads(done.stdout)
    test = result.get("test", result)
    ndcg = next(value for name, value in test.items() if name.startswith("ndcg"))
    return {"seconds": seconds, "ndcg": ndcg}


def epochs(run: Path) -> dict[str, dict[str, float]]:
    """Seconds of training and of evaluation in an epoch of each stage of a run."""
    return {
        stage: {
            name: statistics.median(float(row[name]) for row in rows[1:] or rows)
            for name in ("seconds", "evaluation_seconds")
        }
        for stage in ("search", "retrain")
        if (rows := history(run / stage / "history.csv"))
    }


def history(path: Path) -> list[dict[str, str]]:
    """A stage's rows, none where it did not run."""
    if not path.is_file():
        return []
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def told(found: dict[str, Any]) -> str:
    """One command's line."""
    stages = "; ".join(
        f"{stage}: {found[stage]['seconds']:.2f} s an epoch, its evaluation "
        f"{found[stage]['evaluation_seconds']:.2f}"
        for stage in ("search", "retrain")
        if stage in found
    )
    whole = f"{found['seconds']:7.1f} s, NDCG {found['ndcg']:.4f}"
    return f"{found['command']:<9} {found['device']:<19} {whole} {stages}"


if __name__ == "__main__":
    main(*sys.argv[1:])
