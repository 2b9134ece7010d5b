"""What a step of MF has to move and to compute, against what the machine can do.

    python benchmarks/roofline.py path/to/gowalla

First the machine, on all its cores at once: copying, reading and writing rows of 64 floats at
random places of tables as large as the model's, look-ups of a pool's candidates in the train
pairs' hash tables, 4 bytes each, and a matrix product. Then, per step, the least
that the method needs of each, counted on real batches: representations read, their gradients
written and read once, Adam's two moments and the table's row read and written for each
distinct row, three hash slots for each candidate, three products of pool scores.
Beside it the measured step. What is left is arithmetic on rows, choosing, intermediate results
that are written and read again, and the operations' own cost. Writes
`benchmarks/results/roofline.json`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from record import RESULTS, machine
from turns import milliseconds_in_turns

import autosample_tf
from autosample_tf.commands.terminal import suit_threads
from autosample_tf.interactions import Interactions
from autosample_tf.ops.membership import SIDES, build_hash_tables
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import training_batches
from autosample_tf.splits import with_validation

DIM, BATCH_SIZE, POOL, USERS_PER_POOL = 64, 2048, 32, 32
ROW_BYTES = 4 * DIM
STEPS, ROUNDS, BATCHES_COUNTED = 320, 5, 50
SAMPLERS = ("rns", f"dns:pool={POOL}")


def main(path: str) -> None:
    """Measures, counts, and writes both side by side."""
    suit_threads("mf")
    data = with_validation(autosample_tf.load(path), 0.1, seed=0)
    seen_on = machine()
    rates = measured_rates(data.train)
    steps = measured_steps(data.train)
    result = {"machine": seen_on, "rates": rates, "steps": {}}
    for spec in SAMPLERS:
        needed = least(data.train, pool=spec != "rns")
        parts = {
            "rows at random places": needed["row_bytes"] / rates["row_bytes"],
            "rows in order": needed["copied_bytes"] / rates["copied_bytes"],
            "hash slots": needed["slots"] / rates["slots"],
            "products": needed["flop"] / rates["flop"],
        }
        milliseconds = {name: 1e3 * seconds for name, seconds in parts.items()}
        result["steps"][spec] = {
            "needed": needed,
            "least_milliseconds": milliseconds,
            "least_total": sum(milliseconds.values()),
            "measured": steps[spec],
        }
    (RESULTS / "roofline.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measured_rates(train: Interactions) -> dict[str, float]:
    """What the machine does in a second, the best of several tries on all cores at once."""
    rng = np.random.default_rng(0)
    table = rng.random((train.num_users + train.num_items, DIM), np.float32)
    rows = rng.integers(0, len(table), 1 << 16)
    slots, places = slots_to_look_up(train, rng, 1 << 15)
    large = np.zeros(1 << 25, np.float32)
    square = rng.random((1024, 1024), np.float32)

    def copy() -> float:
        large[: len(large) // 2] = large[len(large) // 2 :]
        return float(large.nbytes)  # half of it read, half written

    def read_and_write_rows() -> float:
        table[rows] = table[rows]
        return 2.0 * ROW_BYTES * len(rows)

    def look_up() -> float:
        np.take(slots, places, mode="clip")
        return float(len(places))

    def multiply() -> float:
        square @ square
        return 2.0 * len(square) ** 3

    return {
        "copied_bytes": rate(copy),
        "row_bytes": rate(read_and_write_rows),
        "slots": rate(look_up),
        "flop": rate(multiply, threads=1),  # has threads of its own
    }


def slots_to_look_up(
    train: Interactions, rng: np.random.Generator, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """The slots of the train pairs' tables, and which of them a pool's candidates have rows of
    a batch read."""
    tables = build_hash_tables(train)
    users = np.repeat(train.users[rng.integers(0, train.num_pairs, rows)].astype(np.int64), POOL)
    items = rng.integers(0, train.num_items, len(users), np.int32)
    sides = [tables.places(users, items, np.full(len(users), side)) for side in range(len(SIDES))]
    return tables.slots, np.concatenate(sides)


def rate(work: Callable[[], float], threads: int | None = None, tries: int = 7) -> float:
    """How much of it gets done in a second where each core repeats it."""
    threads = threads or os.cpu_count() or 1
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(tries):
            began = time.perf_counter()
            done = sum(pool.map(lambda _: sum(work() for _ in range(4)), range(threads)))
            best = max(best, done / (time.perf_counter() - began))
    return best


def least(train: Interactions, *, pool: bool) -> dict[str, float]:
    """What a step cannot do without, a mean over some batches."""
    rng = np.random.default_rng(0)
    users, items = [], []
    negatives = BATCH_SIZE // USERS_PER_POOL * POOL if pool else BATCH_SIZE
    for batch in training_batches(train, BATCH_SIZE, seed=0).take(BATCHES_COUNTED):
        drawn = rng.integers(0, train.num_items, negatives)
        users.append(len(np.unique(batch["user"])))
        items.append(len(np.unique(np.append(batch["positive"], drawn))))
    distinct = np.mean(users) + np.mean(items)
    occurrences = 2 * BATCH_SIZE + negatives
    candidates = BATCH_SIZE * POOL if pool else 0
    return {
        "distinct_rows": distinct,
        "row_bytes": ROW_BYTES * (occurrences + 6 * distinct),
        "copied_bytes": ROW_BYTES * 2 * (occurrences + distinct),  # gradients, and their sums
        "slots": float(len(SIDES) * candidates),
        "flop": 3 * 2.0 * DIM * (candidates + 2 * BATCH_SIZE),
    }


def measured_steps(train: Interactions) -> dict[str, Any]:
    """Milliseconds of a step of each sampler alone: the median round and the fastest."""
    trained = {}
    for spec in SAMPLERS:
        model = autosample_tf.MF(train.num_users, train.num_items, dim=DIM)
        trained[spec] = autosample_tf.AutoSample(
            model, train, samplers=(spec,), objective="uniform", l2=0.05,
            users_per_pool=USERS_PER_POOL,
        )  # fmt: skip
        trained[spec].compile(RowSparseAdam(3e-3), steps_per_execution=64)
    times = milliseconds_in_turns(trained, train, steps=STEPS, rounds=ROUNDS, batch_size=BATCH_SIZE)
    return {
        spec: {"median": float(np.median(each)), "fastest": min(each)}
        for spec, each in times.items()
    }


if __name__ == "__main__":
    main(sys.argv[1])
