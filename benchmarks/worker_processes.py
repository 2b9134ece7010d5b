"""Workers as seen from the benchmark: start one, ask it, have it end.

What they answer to is in `workers/protocol.py`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

SCRIPTS = {
    "autosample-tf": "ours.py",
    "RecBole": "with_recbole.py",
    "implicit": "with_implicit.py",
    "LensKit": "with_lenskit.py",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                     "NUMEXPR_NUM_THREADS", "LK_NUM_THREADS", "RAYON_NUM_THREADS")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a worker says of a request.

    Attributes:
      seconds: that the method took.
      peak_mib: the most memory that the process has had until then.
      value: of the method.
    """

    seconds: float
    peak_mib: int
    value: Any


class Worker:
    """A library's process, on as many CPUs as it has threads.

    Args:
      library: a key of `SCRIPTS`.
      python: the interpreter whose environment has the library.
      task: the fields of `protocol.Task` that differ from its defaults; its folder and threads.
    """

    def __init__(self, library: str, python: str | Path, task: dict[str, Any]):
        self.library = library
        script = Path(__file__).parent / "workers" / SCRIPTS[library]
        log, self._log = tempfile.mkstemp(dir=task["folder"], suffix=".log")
        self._process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(task["threads"]),
        )
        os.close(log)
        self._keep_to_cpus(task["threads"])
        self.ask("prepare", **task)

    def ask(self, request: str, **arguments: Any) -> Answer:
        """Asks and waits.

        Raises:
          RuntimeError: if the worker has died, with the last that it said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"ask": request, "with": arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            said = Path(self._log).read_text(errors="replace")[-4000:]
            raise RuntimeError(f"The worker of {self.library} died over {request}:\n{said}")
        return Answer(**json.loads(line))

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # closes its input, at which it ends

    def _keep_to_cpus(self, threads: int) -> None:
        if hasattr(os, "sched_setaffinity"):
            usable = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self._process.pid, usable[:threads])


def environment(threads: int) -> dict[str, str]:
    """A process' environment: so many threads, no GPU, no chatter."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), **quiet}


def ours(task: dict[str, Any]) -> Worker:
    """A worker of autosample-tf, in the environment that runs the benchmark."""
    return Worker("autosample-tf", sys.executable, task)
