"""Runs one `autosample-tf` command and records what it gave and what it cost.

    python benchmarks/record.py gowalla-mf search --dataset path/to/gowalla --model mf

runs `autosample-tf search … --json` in a fresh process and writes
`benchmarks/results/gowalla-mf.json`: the command (paths cut to their last part), the
machine, seconds, peak memory, and the command's own JSON. Nothing is averaged or chosen.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def main(name: str, *arguments: str) -> None:
    """Records `autosample-tf ARGUMENTS --json` under `results/NAME.json`."""
    with tempfile.TemporaryDirectory() as folder:
        extra = []
        if arguments[0] in ("search", "retrain") and "--run-dir" not in arguments:
            extra = ["--run-dir", str(Path(folder) / "run")]
        command = [sys.executable, "-m", "autosample_tf.cli", *arguments, *extra, "--json"]
        seen_on = machine()
        began = time.perf_counter()
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - began
    result = json.loads(finished.stdout)
    result.pop("run_dir", None)
    RESULTS.mkdir(exist_ok=True)
    record = {
        "command": " ".join(["autosample-tf", *(_last_part(a) for a in arguments)]),
        "seconds": round(seconds, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "machine": seen_on,
        "result": result,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{name}: {seconds:.0f} s, {record['peak_mib']} MiB, test {result.get('test')}")


def machine() -> dict[str, Any]:
    """What the figures were seen on."""
    return {
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _last_part(argument: str) -> str:
    return Path(argument).name if os.sep in argument else argument


if __name__ == "__main__":
    main(*sys.argv[1:])
