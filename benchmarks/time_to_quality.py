"""Seconds of training until Recall@20 on the test pairs passes .12, .14, .16.

    python benchmarks/time_to_quality.py path/to/gowalla --peer-epochs 40

Ours is the whole of `search` with its defaults: the search over the standard set, and the
retraining. Its peer is RecBole's BPR under dynamic sampling of 16 candidates, on the same train
pairs (a tenth is held out for the validation that `search` needs). The vectors are saved after
each epoch and ranked afterwards, off the clock, by one evaluator. Nothing is chosen by that:
ours goes on to its own end, and RecBole until every mark is passed, or `--peer-epochs`.

RecBole takes minutes an epoch: what was trained stays in `--pieces`, and the next run with the
same pieces goes on from there; ours, if it has finished, is not run again either. Pieces are of
one dataset and one setting. Writes `benchmarks/results/time-to-quality.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from pair_files import write_pairs
from peer_environment import default_folder, peer_python, versions
from peers import OUR_PACKAGES, PEER_PACKAGES
from record import RESULTS, machine
from worker_processes import Worker, ours

from autosample_tf.catalog import load
from autosample_tf.splits import with_validation

MARKS = (0.12, 0.14, 0.16)
PEER = {"samplers": ["dns:pool=16"]}


def main(given: list[str] | None = None) -> None:
    """Trains what is missing, ranks it, writes and prints the table."""
    arguments = parse(given)
    python = peer_python(arguments.venv, arguments.pip_option)
    with tempfile.TemporaryDirectory() as name:
        folder, pieces = Path(name), arguments.pieces
        data = with_validation(load(arguments.path), 0.1, seed=0)
        write_pairs(data, folder)
        common = {"folder": str(folder), "threads": arguments.threads}
        begin(pieces, {"data": data.checksum(), "learning_rate": arguments.learning_rate})
        with ours(common) as judge:
            if not (pieces / "ours.json").is_file():
                train_ours(judge, common, arguments.path, pieces)
            task = {**common, **PEER, "learning_rate": arguments.learning_rate}
            train_peer(python, task, judge, pieces, arguments.peer_epochs)
    searched, peer = (json.loads((pieces / f"{who}.json").read_text()) for who in ("ours", "peer"))
    result = {
        "threads": arguments.threads,
        "packages": {
            "ours": versions(sys.executable, OUR_PACKAGES),
            "peers": versions(python, PEER_PACKAGES),
        },
        "data": {"name": data.name, **data.counts()},
        "marks": [marked(mark, searched["epochs"], peer["epochs"]) for mark in MARKS],
        "autosample-tf": searched,
        "RecBole": peer,
    }
    for mark in result["marks"]:
        print(json.dumps(mark))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def begin(pieces: Path, identity: dict[str, Any]) -> None:
    """Makes the folder of pieces, or sees that it is of this dataset and setting."""
    stored = pieces / "identity.json"
    if stored.is_file() and json.loads(stored.read_text()) != identity:
        sys.exit(f"Expected pieces of this data and setting in {pieces}; name another --pieces.")
    pieces.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(identity))


def train_ours(judge: Worker, task: dict[str, Any], path: str, pieces: Path) -> None:
    """The whole search in a process of its own; its epochs ranked when it has ended."""
    seen_on = machine()
    vectors = pieces / "ours"
    vectors.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, ours(task) as worker:
        answer = worker.ask("search", source=path, run_dir=f"{name}/run", folder=str(vectors))
    epochs = answer.value
    for epoch in epochs:
        vector = vectors / f"{epoch.pop('vectors')}.npz"
        epoch["recall@20"] = judge.ask("rank", path=str(vector)).value["recall@20"]
        vector.unlink()
    found = {
        "machine": seen_on,
        "seconds_with_evaluation": answer.seconds,
        "peak_mib": answer.peak_mib,
        "epochs": epochs,
    }
    (pieces / "ours.json").write_text(json.dumps(found, indent=2))


def train_peer(
    python: Path, task: dict[str, Any], judge: Worker, pieces: Path, most_epochs: int
) -> None:
    """RecBole from where its pieces end, saved after each epoch, ranked while it waits."""
    done = pieces / "peer.json"
    found: dict[str, Any] = {"settings": PEER, "epochs": []}
    if done.is_file():
        found = json.loads(done.read_text())
    epochs = found["epochs"]
    if not wants_more(epochs, most_epochs):
        return
    with Worker("RecBole", python, task) as worker:
        worker.ask("build")
        if epochs:
            worker.ask("restore", path=str(pieces / "peer.pt"))
        while wants_more(epochs, most_epochs):
            load_before = machine()["load_before"]
            answer = worker.ask("epoch")
            vectors = pieces / "peer.npz"
            worker.ask("export", path=str(vectors))
            recall = judge.ask("rank", path=str(vectors)).value["recall@20"]
            before = epochs[-1]["seconds"] if epochs else 0.0
            epochs.append(
                {
                    "epoch": len(epochs) + 1,
                    "seconds": before + answer.seconds,
                    "recall@20": recall,
                    "load_before": load_before,
                }
            )
            worker.ask("save", path=str(pieces / "peer.pt"))
            found |= {"machine": machine(), "peak_mib": answer.peak_mib}
            done.write_text(json.dumps(found, indent=2))
            print(f"RecBole, epoch {len(epochs)}: {answer.seconds:.1f} s, {recall:.4f}", flush=True)


def wants_more(epochs: list[dict[str, Any]], most: int) -> bool:
    """Whether a mark is left to pass, and epochs to pass it in."""
    passed = epochs and max(epoch["recall@20"] for epoch in epochs) >= max(MARKS)
    return len(epochs) < most and not passed


def marked(
    mark: float, searched: list[dict[str, Any]], peer: list[dict[str, Any]]
) -> dict[str, Any]:
    """When each passed the mark first, and how many times as long the peer took.

    Where the peer has not, its seconds until now are a bound from below.
    """
    own, theirs = first_past(mark, searched), first_past(mark, peer)
    bound = theirs is None and bool(peer)
    seconds = peer[-1]["seconds"] if bound else theirs
    return {
        "recall@20": mark,
        "autosample-tf": own,
        "RecBole": theirs,
        "ratio": seconds / own if own and seconds else None,
        "ratio_is_at_least": bound,
    }


def first_past(mark: float, epochs: list[dict[str, Any]]) -> float | None:
    """Seconds of training at the end of the first epoch at or past the mark."""
    return next((epoch["seconds"] for epoch in epochs if epoch["recall@20"] >= mark), None)


def parse(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="a folder with train.txt and test.txt")
    parser.add_argument("--peer-epochs", type=int, default=40, help="most of RecBole's (40)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="RecBole's (0.003)")
    parser.add_argument("--threads", type=int, default=2, help="of everybody (2)")
    parser.add_argument("--pieces", type=Path, help="where what was trained is kept")
    parser.add_argument("--output", type=Path, default=RESULTS / "time-to-quality.json")
    parser.add_argument("--venv", type=Path, default=default_folder(), help="of the peers")
    parser.add_argument("--pip-option", action="append", default=[], help="see peers.py")
    arguments = parser.parse_args(given)
    if arguments.pieces is None:
        name = f"time-to-quality-{Path(arguments.path).resolve().name}"
        arguments.pieces = default_folder().parent / name
    arguments.pieces = arguments.pieces.resolve()  # RecBole works elsewhere
    return arguments


if __name__ == "__main__":
    main()
