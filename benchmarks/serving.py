"""How fast a run is served: one user at a time, and all of them into a file.

    python benchmarks/serving.py path/to/run

A user at a time through TensorFlow's C API: our export, and TFRS's BruteForce as its tutorial
exports it, of the same vectors and ids; and faiss' flat index of the same vectors, which has
neither ids nor seen items to leave out, called from Python. They take turns, a stretch of
requests each. Then `recommend` for everybody. Writes `benchmarks/results/serving.json` and the
table of `docs/serving.md`. Needs faiss.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import tensorflow as tf
from record import RESULTS, machine
from tables import DOCS, fill, markdown

import autosample_tf
from autosample_tf.commands.terminal import RANKING, suit_threads
from autosample_tf.representations import Representations
from autosample_tf.serving import c_api
from autosample_tf.serving.verification import signature_tensors
from autosample_tf.training import TrainedRun, load_run

K, ROUNDS, REQUESTS, WARM_UP = 20, 10, 200, 50
NAMES = ("autosample-tf", "TFRS BruteForce", "faiss flat")


def main(path: str) -> None:
    """Measures everything and writes both files."""
    suit_threads(RANKING)  # as `autosample-tf recommend` does
    seen_on, trained = machine(), load_run(path)
    with tempfile.TemporaryDirectory() as folder:
        exported = autosample_tf.export(path, output=Path(folder) / "export", k=K)
        facts = json.loads((exported / "export.json").read_text())
        theirs = export_brute_force(trained, Path(folder) / "tfrs")
        seconds = in_turns(trained, exported, theirs)
        bulk = {suffix: rate(path, Path(folder), suffix) for suffix in ("jsonl", "csv", "parquet")}
    result = {
        "machine": seen_on,
        "items": trained.data.num_items,
        "dim": trained.settings.dim,
        "k": K,
        "milliseconds": {name: quantiles(each) for name, each in seconds.items()},
        "users_per_second": bulk,
        "bytes": facts["bytes"],
        "table_bytes": facts["table_bytes"],
    }
    (RESULTS / "serving.json").write_text(json.dumps(result, indent=2) + "\n")
    fill(DOCS / "serving.md", "serving", page(result))
    print(json.dumps(result, indent=2))


def export_brute_force(trained: TrainedRun, folder: Path) -> Path:
    """A lookup of the user's vector and the layer over all items, as TFRS's tutorial has it."""
    import tensorflow_recommenders as tfrs  # after autosample_tf, which asks for Keras 2

    vectors, data = Representations.of(trained.model), trained.data
    users = data.user_ids.tolist()
    lookup = tf.keras.layers.StringLookup(vocabulary=users, mask_token=None)
    unknown = tf.zeros([1, vectors.user_vectors.shape[1]])
    table = tf.concat([unknown, vectors.user_vectors], axis=0).numpy()
    embedding = tf.keras.layers.Embedding(*table.shape, weights=[table])
    index = tfrs.layers.factorized_top_k.BruteForce(tf.keras.Sequential([lookup, embedding]), k=K)
    index.index(vectors.item_vectors, tf.constant(data.item_ids.tolist()))
    index(tf.constant(users[:1]))  # it has to be called once before it can be saved
    tf.saved_model.save(index, str(folder))
    return folder


def in_turns(trained: TrainedRun, ours: Path, theirs: Path) -> dict[str, np.ndarray]:
    """Seconds of each request, by name."""
    users = np.random.default_rng(0).integers(0, trained.data.num_users, ROUNDS * REQUESTS)
    ids = trained.data.user_ids[users].tolist()
    vectors = Representations.of(trained.model)
    queries = vectors.user_vectors.numpy()[users]
    faiss.omp_set_num_threads(1)  # of a single query two only wait for each other
    flat = faiss.IndexFlatIP(queries.shape[1])
    flat.add(vectors.item_vectors.numpy())
    calls: dict[str, Callable[[int], Any]] = {
        NAMES[0]: through_c_api(ours, ids),
        NAMES[1]: through_c_api(theirs, ids),
        NAMES[2]: lambda request: flat.search(queries[request : request + 1], K),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for request in range(WARM_UP):
            call(request)
    for round_ in range(ROUNDS):
        for name, call in calls.items():
            for request in range(round_ * REQUESTS, (round_ + 1) * REQUESTS):
                began = time.perf_counter()
                call(request)
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(each) for name, each in seconds.items()}


def through_c_api(folder: Path, users: list[str]) -> Callable[[int], Any]:
    """Answers the request of that number, a batch of one user."""
    library = c_api.libraries(Path(tf.sysconfig.get_lib()))
    session = c_api.Session(library, folder)
    (name,), fetches = (list(t.values()) for t in signature_tensors(folder)["serving_default"])
    tensors = [c_api.Tensor.of(library, [user], [1], "string") for user in users]
    return lambda request: session.run({name: tensors[request]}, fetches)


def rate(run: str, folder: Path, suffix: str) -> dict[str, float]:
    """Users a second of `recommend`, once the run is read, and seconds of that beforehand."""
    began = time.perf_counter()
    load_run(run)
    reading = time.perf_counter() - began
    began = time.perf_counter()
    done = autosample_tf.recommend(run, output=folder / f"top.{suffix}", k=K)
    seconds = time.perf_counter() - began - reading
    return {"users": done.users, "per_second": done.users / seconds, "reading_seconds": reading}


def quantiles(seconds: np.ndarray) -> dict[str, float]:
    return {f"p{q}": 1e3 * float(np.percentile(seconds, q)) for q in (50, 90, 99)}


def page(result: dict[str, Any]) -> str:
    """The figures as tables."""
    latency = [
        [name, *(f"{value:.2f}" for value in each.values())]
        for name, each in result["milliseconds"].items()
    ]
    bulk = [
        [suffix, f"{each['per_second']:,.0f}", f"{each['reading_seconds']:.1f}"]
        for suffix, each in result["users_per_second"].items()
    ]
    seen_on = result["machine"]
    return "\n\n".join(
        [
            f"{result['items']:,} items, {result['dim']} dimensions, k {result['k']}, "
            f"{seen_on['cpus']} cores ({seen_on['cpu']}), load {seen_on['load_before']:.1f} before "
            "(a load above 0 is other work, which took its share). Milliseconds of a request for "
            "one user:",
            markdown(["", "p50", "p90", "p99"], latency),
            "`recommend` for everybody, in users once the run is read, and what that takes:",
            markdown(["file", "users a second", "seconds to read the run"], bulk),
            f"The export takes {result['bytes'] / result['table_bytes']:.2f} times the bytes of "
            "its tables (`python benchmarks/serving.py path/to/run`).",
        ]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
