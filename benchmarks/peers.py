"""autosample-tf beside the libraries that a user would take instead, in turns, in one run.

    python benchmarks/peers.py path/to/gowalla
    python benchmarks/peers.py --short                 # ours alone, about a minute

The first makes a virtual environment outside the checkout and installs RecBole, implicit and
LensKit in it. Then, case by case, each library gets a process of its own with the same train
pairs (a tenth held out, as `search` does), vectors of 64, batches of 2,048, the same number of
threads; prepares off the clock; and takes its rounds in turn with the others: an epoch, or an
evaluation, or a reading of the files. The vectors that everybody ends with are ranked by one
evaluator, ours, for the column Recall@20: nobody is fast by doing less. It compares libraries
after equally many epochs, a handful, and is no result of any of them.

Ratios are to the first line: `ratio` the median over the rounds, `of least` that of the fastest
rounds. Where the two disagree the machine was not quiet, and the second is nearer to the truth.

RecBole's dynamic sampling and LightGCN take minutes an epoch, and have `--slow-rounds`. Writes
`benchmarks/results/peers.json`; a part (`--case`) or `--short` only what `--output` names.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pair_files import write_pairs
from peer_environment import default_folder, peer_python, versions
from record import RESULTS, machine
from worker_processes import Worker, environment, ours

from autosample_tf.catalog import load
from autosample_tf.splits import with_validation

OURS = "autosample-tf"
OUR_PACKAGES = ("autosample-tf", "tensorflow", "tf_keras", "numpy")
PEER_PACKAGES = ("recbole", "torch", "implicit", "lenskit", "numpy", "scipy", "pandas")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One who takes part in a case.

    Attributes:
      library: a key of `worker_processes.SCRIPTS`.
      task: what differs from `protocol.Task`'s defaults.
      label: what it is called in the table.
    """

    library: str
    task: dict[str, Any]
    label: str


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed, and for whom; ratios are to the first entry.

    Attributes:
      name: of the case.
      entries: who takes part.
      request: what a round asks of each, a method of the workers.
      before: what is asked of each before the first round, off the clock.
      reads_files: whether the request is told where the dataset's own files are.
      slow: whether somebody takes minutes a round.
    """

    name: str
    entries: tuple[Entry, ...]
    request: str = "epoch"
    before: tuple[str, ...] = ("build",)
    reads_files: bool = False
    slow: bool = False


def _entries(*libraries: str, **task: Any) -> tuple[Entry, ...]:
    """The same task for several libraries."""
    return tuple(Entry(library, task, library) for library in libraries)


CASES = (
    Case("MF, rns", _entries(OURS, "RecBole", "implicit", "LensKit", samplers=["rns"])),
    Case(
        "MF, dns:pool=16",
        _entries(OURS, "RecBole", samplers=["dns:pool=16"]),
        slow=True,
    ),
    Case(
        "MF, the standard set searched",
        (
            Entry(OURS, {"samplers": ["dns:pool=32"]}, "dns:pool=32"),
            Entry(OURS, {"standard": True}, "standard set"),
        ),
    ),
    Case(
        "LightGCN-3",
        _entries(OURS, "RecBole", model="lightgcn", learning_rate=1e-3),
        slow=True,
    ),
    Case(
        "LightGCN-3, batch 8,192",
        _entries(OURS, model="lightgcn", learning_rate=1e-3, batch_size=8192),
        slow=True,
    ),
    Case(
        "full-ranking evaluation",
        _entries(OURS, "RecBole"),
        request="evaluate",
        before=("build", "epoch", "evaluate"),
    ),
    Case(
        "MF, the whole of search",
        (Entry(OURS, {}, "search, its defaults"),),
        request="search_whole",
        before=(),
        reads_files=True,
        slow=True,
    ),
    Case(
        "loading and splitting",
        _entries(OURS, "RecBole"),
        request="load",
        before=("load",),
        reads_files=True,
    ),
)
STARTS = {
    "autosample-tf --help": (OURS, ["-m", "autosample_tf.cli", "--help"]),
    "import autosample_tf": (OURS, ["-c", "import autosample_tf"]),
    "autosample_tf.MF, which loads TensorFlow": (OURS, ["-c", "import autosample_tf as a; a.MF"]),
    "import implicit": ("implicit", ["-c", "import implicit.bpr"]),
    "import lenskit.flexmf": ("LensKit", ["-c", "import lenskit.flexmf"]),
    "import recbole.trainer": ("RecBole", ["-c", "import recbole.trainer"]),
}


class Benchmark:
    """Runs cases and keeps what they gave.

    Args:
      arguments: of the command line.
      folder: an empty one, for the workers' files.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path):
        self._arguments, self._folder = arguments, folder
        self.common = {"folder": str(folder), "threads": arguments.threads}
        self._pythons: dict[bool, str | Path] = {True: sys.executable}
        packages = {"ours": versions(sys.executable, OUR_PACKAGES)}
        if not arguments.short:
            self._pythons[False] = peer_python(arguments.venv, arguments.pip_option)
            packages["peers"] = versions(self._pythons[False], PEER_PACKAGES)
        data = with_validation(load(arguments.path), 0.1, seed=0)
        write_pairs(data, folder)
        self.result: dict[str, Any] = {
            "machine": machine(),
            "threads": arguments.threads,
            "packages": packages,
            "data": {"name": data.name, **data.counts()},
            "cases": {},
        }

    def run(self, case: Case, judge: Worker) -> None:
        """Times one case, has `judge` rank what was trained, prints its lines and keeps them."""
        rounds = self._arguments.slow_rounds if case.slow else self._arguments.rounds
        arguments = {"source": self._arguments.path} if case.reads_files else {}
        entries = [e for e in case.entries if self._pythons.get(e.library == OURS)]
        seen_on = machine()
        with contextlib.ExitStack() as stack:
            workers = {entry.label: stack.enter_context(self._worker(entry)) for entry in entries}
            for request in case.before:
                for worker in workers.values():
                    worker.ask(request, **(arguments if request == case.request else {}))
            answers: dict[str, list[Any]] = {label: [] for label in workers}
            for _ in range(rounds):
                for label, worker in workers.items():
                    answers[label].append(worker.ask(case.request, **arguments))
            measured = {entry.label: summary(answers[entry.label], entry) for entry in entries}
            if case.request != "load":
                for label, worker in workers.items():
                    worker.ask("export", path=str(self._vectors(label)))
        first = next(iter(measured.values()))["rounds"]
        for label, row in measured.items():
            pairs = zip(row["rounds"], first, strict=True)
            row["ratio"] = statistics.median(own / reference for own, reference in pairs)
            row["ratio_of_fastest"] = row["fastest"] / min(first)
            if case.request != "load":
                metrics = judge.ask("rank", path=str(self._vectors(label))).value
                row["recall@20"] = metrics["recall@20"]
        self.result["cases"][case.name] = {"load_before": seen_on["load_before"], **measured}
        print_case(case.name, measured)

    def start_up(self) -> None:
        """Times fresh processes until they end, in turns."""
        starts = {
            name: [str(self._pythons[library == OURS]), *rest]
            for name, (library, rest) in STARTS.items()
            if self._pythons.get(library == OURS)
        }
        times: dict[str, list[float]] = {name: [] for name in starts}
        for _ in range(self._arguments.rounds):
            for name, command in starts.items():
                began = time.perf_counter()
                subprocess.run(
                    command,
                    check=True,
                    env=environment(self._arguments.threads),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                times[name].append(time.perf_counter() - began)
        measured = {
            name: {"seconds": statistics.median(each), "fastest": min(each), "rounds": each}
            for name, each in times.items()
        }
        self.result["cases"]["start-up"] = measured
        print_case("start-up", measured)

    def _worker(self, entry: Entry) -> Worker:
        python = self._pythons[entry.library == OURS]
        return Worker(entry.library, python, {**self.common, **entry.task})

    def _vectors(self, label: str) -> Path:
        return self._folder / f"{label.replace(':', '-')}.npz"


def summary(answers: list[Any], entry: Entry) -> dict[str, Any]:
    """A row of the results; `own` is what the library itself says of the last round."""
    seconds = [answer.seconds for answer in answers]
    row = {
        "settings": entry.task,
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "peak_mib": answers[-1].peak_mib,
        "rounds": seconds,
    }
    return row if answers[-1].value is None else {**row, "own": answers[-1].value}


def print_case(name: str, measured: dict[str, dict[str, Any]]) -> None:
    """A line an entry."""
    print(
        f"\n{name:<42} {'median s':>9} {'least s':>9} {'ratio':>7} {'of least':>8} "
        f"{'MiB':>6} {'Recall@20':>10}"
    )
    formats = {"seconds": "9.3f", "fastest": "9.3f", "ratio": "7.2f", "ratio_of_fastest": "8.2f",
               "peak_mib": "6d", "recall@20": "10.4f"}  # fmt: skip
    for label, row in measured.items():
        cells = [f"{row[key]:{form}}" for key, form in formats.items() if key in row]
        print(f"  {label:<40} {' '.join(cells)}", flush=True)


def parse(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", help="a folder with train.txt and test.txt")
    parser.add_argument("--short", action="store_true", help="ours alone, few rounds")
    parser.add_argument("--rounds", type=int, help="default 5; with --short 2")
    parser.add_argument("--slow-rounds", type=int, help="default 2; with --short 1")
    parser.add_argument("--threads", type=int, default=2, help="of everybody (2)")
    parser.add_argument("--case", action="append", help="only cases with this in their names")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--venv", type=Path, default=default_folder(), help="of the peers")
    parser.add_argument(
        "--pip-option",
        action="append",
        default=[],
        help="for pip install, as --pip-option=--extra-index-url=… of PyTorch's CPU wheels",
    )
    arguments = parser.parse_args(given)
    if arguments.path is None:
        if not arguments.short:
            parser.error("a path is needed, or --short")
        arguments.path = "synthetic"
    arguments.rounds = arguments.rounds or (2 if arguments.short else 5)
    arguments.slow_rounds = arguments.slow_rounds or (1 if arguments.short else 2)
    if arguments.output is None and not arguments.short and not arguments.case:
        arguments.output = RESULTS / "peers.json"
    return arguments


def main(given: list[str] | None = None) -> None:
    """Runs what is asked for; the results are written after each case."""
    arguments = parse(given)

    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(arguments, Path(folder))
        with ours(benchmark.common) as judge:
            for case in CASES:
                if wanted(case.name, arguments):
                    benchmark.run(case, judge)
                    save(benchmark.result, arguments.output)
        if wanted("start-up", arguments):
            benchmark.start_up()
            save(benchmark.result, arguments.output)


def wanted(name: str, arguments: argparse.Namespace) -> bool:
    """Whether a case is asked for."""
    return not arguments.case or any(part in name for part in arguments.case)


def save(result: dict[str, Any], output: Path | None) -> None:
    """Writes the results, if they are to be kept."""
    if output:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
