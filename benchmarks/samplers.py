"""Every sampler alone with MF on real data: quality, milliseconds, false negatives.

    python benchmarks/samplers.py path/to/ml-100k.inter path/to/amazon-beauty-m1

Each run is `autosample-tf search --sampler X`, once with each L2 of `L2`; the better one by
validation NDCG@20 stands in the table, with its test metrics. A run whose result is in
`benchmarks/results/samplers/` is not run again. Milliseconds come last, from steps of all
samplers taken in turns. Then `docs/samplers.md` and the samplers' pages are written anew
(`benchmarks/sampler_pages.py` does that alone). Ratings of ml-100k below 4 are given
negatives; data without any has no row for `given`.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, machine
from sampler_pages import write_pages
from turns import milliseconds_in_turns

import autosample_tf
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.samplers import SAMPLERS
from autosample_tf.splits import with_validation

L2 = (0.05, 0.005)
FOLDER = RESULTS / "samplers"
ROUNDS, STEPS, BATCH_SIZE = 7, 32, 2048
RATINGS = ("--label-column", "rating", "--positive-from", "4")


def main(*paths: str) -> None:
    """Runs what is missing, times all samplers, writes the documents."""
    for path in paths:
        options = RATINGS if path.endswith(".inter") else ()
        has_given = bool(options)
        names = [name for name in SAMPLERS if name != "given" or has_given]
        folder = FOLDER / Path(path).stem
        for name in names:
            for l2 in L2:
                target = folder / f"{name}-l2-{l2}.json"
                if not target.is_file():
                    save(target, run(path, name, l2, options))
        target = folder / "milliseconds.json"
        if not target.is_file():
            save(target, milliseconds(path, names, has_given))
    write_pages()


def run(path: str, name: str, l2: float, options: tuple[str, ...]) -> dict[str, Any]:
    """One search with one sampler: what it gave, and its negatives' health."""
    flags = ["--dataset", path, *options, "--model", "mf", "--sampler", name, "--l2", str(l2)]
    # As all recorded ones, from before rates decayed and what retraining starts from was shrunk.
    flags += ["--rate-decays", "0", "--shrink", "1"]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "autosample_tf.cli", "search", *flags]
        seen_on = machine()
        done = subprocess.run(
            [*command, "--run-dir", str(run_dir), "--json"],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        health = mean_health(run_dir)
    result = json.loads(done.stdout)
    print(f"{Path(path).stem} {name} l2={l2}: valid {result['valid']['ndcg@20']:.4f}", flush=True)
    shown = [Path(flag).name if "/" in flag else flag for flag in flags]
    return {
        "command": " ".join(["autosample-tf", "search", *shown]),
        "machine": seen_on,
        "valid": result["valid"],
        "test": result["test"],
        "epochs": result["search"]["epochs"] + result["retrain"]["epochs"],
        "health": health,
    }


def mean_health(run_dir: Path) -> dict[str, float]:
    """The sampler's health, averaged over the epochs of retraining."""
    with (run_dir / "retrain" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = ("negative_score", "masked", "popularity", "false_negatives", "gradient_norm",
            "distinct", "positive_score")  # fmt: skip
    return {
        key.partition("/")[0]: statistics.mean(float(row[key]) for row in rows)
        for key in rows[0]
        if key.partition("/")[0] in told and all(row[key] for row in rows)
    }


def milliseconds(path: str, names: list[str], has_given: bool) -> dict[str, Any]:
    """Milliseconds of a step of MF under each sampler alone: medians over rounds in turns."""
    options = {"label_column": "rating", "positive_from": 4.0} if has_given else {}
    data = with_validation(autosample_tf.load(path, **options), 0.1, seed=0)
    seen_on = machine()
    trained = {}
    for name in names:
        model = autosample_tf.MF(data.num_users, data.num_items)
        trained[name] = autosample_tf.AutoSample(
            model, data.train, samplers=[name], objective="uniform", given=data.given, l2=0.05
        )
        trained[name].compile(RowSparseAdam(3e-3), steps_per_execution=STEPS)
    times = milliseconds_in_turns(
        trained, data.train, steps=STEPS, rounds=ROUNDS, batch_size=BATCH_SIZE
    )
    medians = {name: statistics.median(column) for name, column in times.items()}
    return {"machine": seen_on, "batch_size": BATCH_SIZE, "milliseconds": medians}


def save(path: Path, values: dict[str, Any]) -> None:
    """Writes a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
