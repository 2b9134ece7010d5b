"""What a worker is: one library in a process of its own, asked in JSON lines.

Standard library only, for workers run in several environments. A request is a line
`{"ask": "epoch", "with": {…}}`, a method and its arguments; the first one, `prepare`, is
answered by the class and makes the object that answers the others. The answer is a line with
the seconds that the method took, the process's peak memory until then and the method's value.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker trains, and on what.

    Attributes:
      folder: of the files that `pair_files` wrote.
      model: `mf` or `lightgcn`.
      samplers: specs of autosample-tf; a peer takes those that it knows.
      standard: search with the standard set, instead of `samplers`.
      epochs: how many are to come, which only some libraries want to know.
      layers: of LightGCN.
      dim: entries of a vector.
      batch_size: pairs a step, where the library has steps.
      learning_rate: of the library's Adam or SGD.
      l2: lambda, where the library has the penalty of the batch's rows.
      threads: of every library's own pools.
      seed: of everything.
    """

    folder: str
    model: str = "mf"
    samplers: tuple[str, ...] = ("rns",)
    standard: bool = False
    epochs: int = 1
    layers: int = 3
    dim: int = 64
    batch_size: int = 2048
    learning_rate: float = 3e-3
    l2: float = 1e-4
    threads: int = 2
    seed: int = 0


def serve(library: Any) -> None:
    """Answers requests from standard input until it is closed.

    Whatever the library prints goes to standard error: standard output is for answers.

    Args:
      library: a class made from a `Task`, with a method for each request.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    asked: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        arguments = request["with"]
        began = time.perf_counter()
        if request["ask"] == "prepare":
            asked = library(Task(**arguments))
            value = None
        else:
            value = getattr(asked, request["ask"])(**arguments)
        seconds = time.perf_counter() - began
        answers.write(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "value": value}))
        answers.write("\n")


def peak_mib() -> int:
    """This process's peak memory.

    `ru_maxrss` would do, but a process inherits it from the one that started it; Linux also
    tells its own peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM:")) // 1024
    units = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units
