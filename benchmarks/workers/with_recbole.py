"""RecBole as a worker: BPR and LightGCN, uniform or dynamic negatives, its own evaluation.

Its dataset, loaders, trainer and evaluator do the work as `recbole.quick_start` has them do
it, without what that does besides: no progress bar, no log, no checkpoint, no validation. It
trains and ranks the same pairs, given as `train`, `valid` and `test` files of its format.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from protocol import Task, serve

# RecBole 1.2.1 uses names that NumPy 2 and SciPy 1.14 no longer have.
for old, new in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    if not hasattr(np, old):
        setattr(np, old, new)
if not hasattr(scipy.sparse.dok_matrix, "_update"):
    scipy.sparse.dok_matrix._update = lambda matrix, values: matrix._dict.update(values)

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

USERS_PER_BATCH = 256  # of an evaluation; RecBole's default comes to one user


class RecBole:
    """One model and its trainer; reading the pairs belongs to making them."""

    def __init__(self, task: Task):
        torch.set_num_threads(task.threads)
        os.chdir(tempfile.mkdtemp(dir=task.folder))  # where it leaves logs
        self._task, self._epochs = task, 0
        with np.load(Path(task.folder) / "pairs.npz") as pairs:
            self._size = {name: int(pairs[name]) for name in ("num_users", "num_items")}

    def build(self) -> None:
        """Reads the pairs and makes the model and its trainer."""
        config = self._config()
        init_seed(self._task.seed, reproducibility=True)
        self._dataset, (self._train, _, self._test) = self._read(config)
        self._model = get_model(config["model"])(config, self._train.dataset).to(config["device"])
        self._trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, self._model)
        self._trainer.eval_collector.data_collect(self._train)
        if config["train_neg_sample_args"]["dynamic"]:
            self._train.get_model(self._model)

    def epoch(self) -> None:
        """One more epoch, as `Trainer.fit` has it."""
        self._trainer._train_epoch(self._train, self._epochs, show_progress=False)
        self._epochs += 1

    def evaluate(self) -> dict[str, float]:
        """Its own full ranking of the test pairs, train and validation left out."""
        return dict(self._trainer.evaluate(self._test, load_best_model=False, show_progress=False))

    def load(self, source: str) -> None:
        """Reads the files and makes its loaders; the pairs are split already."""
        self._read(self._config())

    def export(self, path: str) -> None:
        """Writes the users' and the items' vectors in the order of their ids."""
        self._model.eval()
        with torch.no_grad():
            if self._task.model == "mf":
                tables = self._model.user_embedding.weight, self._model.item_embedding.weight
            else:
                tables = self._model.forward()
        users, items = (table.detach().numpy() for table in tables)
        np.savez(
            path,
            users=self._by_id("user_id", users, self._size["num_users"]),
            items=self._by_id("item_id", items, self._size["num_items"]),
        )

    def save(self, path: str) -> None:
        """Writes all that training goes on from."""
        state = {
            "epochs": self._epochs,
            "model": self._model.state_dict(),
            "optimizer": self._trainer.optimizer.state_dict(),
            "order": self._train.generator.get_state(),
            "numpy": np.random.get_state(),
        }
        torch.save(state, f"{path}.part")
        os.replace(f"{path}.part", path)

    def restore(self, path: str) -> int:
        """Reads what `save` wrote; the epochs done."""
        state = torch.load(path, weights_only=False)
        self._epochs = state["epochs"]
        self._model.load_state_dict(state["model"])
        self._trainer.optimizer.load_state_dict(state["optimizer"])
        self._train.generator.set_state(state["order"])
        np.random.set_state(state["numpy"])
        return self._epochs

    def _by_id(self, field: str, table: np.ndarray, rows: int) -> np.ndarray:
        """Row 0 is RecBole's padding; ids that no file has keep zeros."""
        ids = self._dataset.id2token(field, np.arange(1, len(table))).astype(np.int64)
        ordered = np.zeros((rows, table.shape[1]), np.float32)
        ordered[ids] = table[1:]
        return ordered

    def _read(self, config: Config) -> tuple[Any, Any]:
        dataset = create_dataset(config)
        return dataset, data_preparation(config, dataset)

    def _config(self) -> Config:
        task = self._task
        name, _, pool = task.samplers[0].partition(":pool=")
        if name not in ("rns", "dns"):
            raise ValueError(f"Expected rns or dns; received {name}.")
        negatives = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0}
        dynamic = {"dynamic": name == "dns", "candidate_num": int(pool or 0)}
        settings = {
            "data_path": task.folder,
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "use_gpu": False,
            "gpu_id": "",
            "worker": 0,
            "seed": task.seed,
            "state": "ERROR",
            "show_progress": False,
            "embedding_size": task.dim,
            "train_batch_size": task.batch_size,
            "learning_rate": task.learning_rate,
            "epochs": task.epochs,
            "train_neg_sample_args": {**negatives, **dynamic},
            "eval_args": {"group_by": "user", "order": "RO", "mode": "full"},
            "eval_batch_size": USERS_PER_BATCH * self._size["num_items"],
            "metrics": ["Recall", "NDCG"],
            "topk": [20],
            "valid_metric": "NDCG@20",
        }
        if task.model == "lightgcn":
            # The penalty of LightGCN's paper, which is ours. BPR has none in RecBole: its
            # weight_decay is another thing, it shrinks rows that a batch does not have.
            settings |= {"n_layers": task.layers, "reg_weight": task.l2, "require_pow": True}
        model = {"mf": "BPR", "lightgcn": "LightGCN"}[task.model]
        return Config(model=model, dataset="pairs", config_dict=settings)


if __name__ == "__main__":
    serve(RecBole)
