"""LensKit as a worker: FlexMF's BPR, uniform negatives, sparse Adam.

Its `L2` reads the rows of the batch, as ours does, but their norms, not the squares.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import torch
from lenskit.data import from_interactions_df
from lenskit.flexmf import FlexMFImplicitConfig, FlexMFImplicitScorer
from lenskit.parallel import initialize
from lenskit.training import TrainingOptions
from protocol import Task, serve


class LensKit:
    """One FlexMF model and its trainer, prepared: compiled, its parameters the initial ones."""

    def __init__(self, task: Task):
        initialize(processes=1, threads=task.threads, backend_threads=task.threads)
        torch.set_num_threads(task.threads)
        self._task = task
        with np.load(Path(task.folder) / "pairs.npz") as pairs:
            self._size = int(pairs["num_users"]), int(pairs["num_items"])
            columns = {"user_id": pairs["train_users"], "item_id": pairs["train_items"]}
        self._pairs = from_interactions_df(pandas.DataFrame(columns))

    def build(self) -> None:
        """Makes the trainer, and lets it compile its model in an epoch that does not count."""
        task = self._task
        config = FlexMFImplicitConfig(
            preset="bpr",
            embedding_size=task.dim,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            regularization=task.l2,
            reg_method="L2",
            epochs=task.epochs,
        )
        self._scorer = FlexMFImplicitScorer(config)
        options = TrainingOptions(device="cpu", rng=task.seed)
        self._trainer = self._scorer.create_trainer(self._pairs, options)
        initial = {name: value.clone() for name, value in self._scorer.model.state_dict().items()}
        self._trainer.train_epoch()
        self._scorer.model.load_state_dict(initial)

    def epoch(self) -> None:
        """One more epoch."""
        self._trainer.train_epoch()

    def export(self, path: str) -> None:
        """Writes the users' and the items' vectors; ids without a train pair get zeros."""
        model, scorer = self._scorer.model, self._scorer
        tables = (model.u_embed, scorer.users), (model.i_embed, scorer.items)
        ordered = []
        for rows, (table, vocabulary) in zip(self._size, tables, strict=True):
            vectors = np.zeros((rows, self._task.dim), np.float32)
            vectors[vocabulary.ids()] = table.weight.detach().numpy()
            ordered.append(vectors)
        np.savez(path, users=ordered[0], items=ordered[1])


if __name__ == "__main__":
    serve(LensKit)
