"""Search, retraining from the CPU's run, and evaluation: a GPU against the CPU beside it.

    python benchmarks/gpu.py path/to/gowalla mf

Each is one `autosample-tf` command in a process of its own, on the CPU, on the GPU, and on the
GPU under `--jit`, and under `--precision mixed_bfloat16` too. Retraining and evaluation begin
with what the CPU's search left, so that they show that a run changes devices. Seconds are those
of training, as the run tells them, and of the whole command; metrics stand beside them. Writes
`benchmarks/results/gpu-mf.json`, or -lightgcn. Where TensorFlow sees no GPU it says so and ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
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


def main(path: str, model: str) -> None:
    """Runs the commands one after the other, writes and prints what each took."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        print("TensorFlow sees no GPU here: there is nothing to compare.")
        return
    with tempfile.TemporaryDirectory() as name:
        results = commands(Path(name), path, model)
    seen_on = {**machine(), "gpu": tf.config.experimental.get_device_details(gpus[0])}
    seen_on["gpu"] = {key: str(value) for key, value in seen_on["gpu"].items()}
    record = {"machine": seen_on, "results": results}
    (RESULTS / f"gpu-{model}.json").write_text(json.dumps(record, indent=2) + "\n")
    for command, devices in results.items():
        for device, found in devices.items():
            print(
                f"{command:<9} {device:<19} {found['seconds']:7.1f} s, training "
                f"{found['training_seconds']:7.1f} s, NDCG {found['ndcg']:.4f}"
            )


def commands(folder: Path, path: str, model: str) -> dict[str, dict[str, dict[str, float]]]:
    """What each command took, by command and device."""
    runs = {device: folder / str(place) for place, device in enumerate(TRAINED_ON)}
    # Timing the samplers would be in the seconds of some devices and not of others.
    search = ["search", "--dataset", path, "--model", model, "--no-time-samplers"]
    from_cpu = ["--run", runs["cpu"]]
    return {
        "search": {
            device: timed(*search, "--run-dir", runs[device], *options)
            for device, options in TRAINED_ON.items()
        },
        "retrain": {
            device: timed("retrain", *from_cpu, "--run-dir", f"{runs[device]}-again", *options)
            for device, options in TRAINED_ON.items()
        },
        "evaluate": {
            device: timed("evaluate", *from_cpu, *options)
            for device, options in EVALUATED_ON.items()
        },
    }


def timed(*arguments: Any) -> dict[str, float]:
    """One command's seconds, those of its training among them, and its test NDCG."""
    command = [sys.executable, "-m", "autosample_tf.cli", *map(str, arguments), "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, result = time.perf_counter() - began, json.loads(done.stdout)
    stages = {"search": ("search", "retrain"), "retrain": ("retrain",)}.get(arguments[0], ())
    test = result.get("test", result)
    return {
        "seconds": seconds,
        "training_seconds": sum(result[stage]["seconds"] for stage in stages),
        "ndcg": next(value for name, value in test.items() if name.startswith("ndcg")),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
