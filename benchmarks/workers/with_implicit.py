"""implicit as a worker: its C++ BPR, uniform negatives checked against the positives.

It has no batches, and plain SGD: its learning rate, its L2 and its initial values are its
own defaults, since ours would mean other things.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse
from implicit.bpr import BayesianPersonalizedRanking
from protocol import Task, serve


class Implicit:
    """One BPR model, of which each `fit` is one epoch more."""

    def __init__(self, task: Task):
        self._task = task
        with np.load(Path(task.folder) / "pairs.npz") as pairs:
            users, items = pairs["train_users"], pairs["train_items"]
            shape = int(pairs["num_users"]), int(pairs["num_items"])
        ones = np.ones(len(users), np.float32)
        self._pairs = scipy.sparse.csr_matrix((ones, (users, items)), shape)

    def build(self) -> None:
        """Makes the model."""
        self._model = BayesianPersonalizedRanking(
            factors=self._task.dim,
            iterations=1,
            use_gpu=False,
            num_threads=self._task.threads,
            random_state=self._task.seed,
        )

    def epoch(self) -> None:
        """One more epoch."""
        self._model.fit(self._pairs, show_progress=False)

    def export(self, path: str) -> None:
        """Writes the users' and the items' vectors, the items' biases among them."""
        np.savez(path, users=self._model.user_factors, items=self._model.item_factors)


if __name__ == "__main__":
    serve(Implicit)
