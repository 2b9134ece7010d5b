"""How fast data is read, how much memory that takes, and how soon it is there the next time.

    python benchmarks/loading.py path/to/yelp2018

Reads that folder, and generated tables of ten million rows in each format, every one in a
process of its own that has imported all it needs before the clock starts: once with an empty
cache, and once more. Writes `benchmarks/results/loading.json`. The tables take about a gigabyte
of the temporary folder.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from record import RESULTS, machine

NUM_ROWS, NUM_USERS, NUM_ITEMS = 10_000_000, 500_000, 100_000
COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def main(folder: str) -> None:
    """Times every source, first and second time."""
    seen_on, rows = machine(), {}
    with tempfile.TemporaryDirectory() as scratch:
        sources = {Path(folder).name: (Path(folder), ())}
        sources |= {path.name: (path, ()) for path in _write_tables(Path(scratch))}
        table = Path(scratch) / "rows.csv"
        sources["rows.csv, 5-core, by time"] = (table, ("--k-core=5", "--split-by=time"))
        for name, (path, options) in sources.items():
            cache = Path(scratch) / "cache"
            rows[name] = {
                "mib": round(path.stat().st_size / 2**20) if path.is_file() else None,
                "first": _in_a_process(path, cache, options),
                "again": _in_a_process(path, cache, options),
            }
            first, again = rows[name]["first"], rows[name]["again"]
            print(f"{name:<28} {first['seconds']:6.2f} s, {first['core_seconds']:6.2f} core-s, "
                  f"{first['peak_mib']:5} MiB; again {again['seconds']:.3f} s")  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": seen_on, "rows": NUM_ROWS, "sources": rows}, indent=2)
    (RESULTS / "loading.json").write_text(text + "\n")


def _write_tables(folder: Path) -> list[Path]:
    """The same rows in each format: popular items as by a power law, ids as integers."""
    drawn = np.random.default_rng(0)
    table = pyarrow.table(
        {
            "user_id": drawn.integers(0, NUM_USERS, NUM_ROWS),
            "item_id": (drawn.pareto(1.1, NUM_ROWS) * 50).astype(np.int64) % NUM_ITEMS,
            "rating": drawn.integers(1, 6, NUM_ROWS),
            "timestamp": drawn.integers(10**9, 16 * 10**8, NUM_ROWS),
        }
    )
    paths = [folder / f"rows{suffix}" for suffix in (".csv", ".parquet", ".jsonl")]
    arrow_csv.write_csv(table, paths[0])
    parquet.write_table(table, paths[1])
    with paths[2].open("w") as file:
        for batch in table.to_batches(max_chunksize=100_000):
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            file.writelines(
                f'{{"user_id": {user}, "item_id": {item}, "rating": {rating}, "timestamp": {at}}}\n'
                for user, item, rating, at in zip(*columns, strict=True)
            )
    return paths


def _in_a_process(path: Path, cache: Path, options: tuple[str, ...]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--piece", str(path), *options],
        check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "AUTOSAMPLE_TF_CACHE": str(cache)},
    )  # fmt: skip
    return json.loads(done.stdout)


def _piece(path: str, *options: str) -> None:
    """Loads once, and prints seconds after imports and the process's peak memory."""
    import pyarrow.compute
    import pyarrow.json  # noqa: F401

    from autosample_tf.catalog import load

    named = dict(option.removeprefix("--").split("=") for option in options)
    began, began_cores = time.perf_counter(), time.process_time()
    data = load(path, k_core=int(named["k-core"]) if named else None,
                split_by=named.get("split-by"))  # fmt: skip
    seconds, core_seconds = time.perf_counter() - began, time.process_time() - began_cores
    figures = {
        "seconds": round(seconds, 3),
        "core_seconds": round(core_seconds, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pairs": sum(split.num_pairs for split in data.splits.values()),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1] == "--piece":
        _piece(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
