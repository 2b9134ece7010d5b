"""A finished run as a version of a served model: written, compared with the run, published."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.evaluation import Evaluator, check_cutoffs
from autosample_tf.interactions import Dataset
from autosample_tf.representations import Representations
from autosample_tf.runs import SCHEMA_VERSION
from autosample_tf.serving.graph import Server
from autosample_tf.serving.indexing import check_inner_products, check_installed, write_index
from autosample_tf.serving.model_card import model_card
from autosample_tf.serving.verification import Ranked, Request, check_agreement
from autosample_tf.serving.warmup import write_warmup_requests
from autosample_tf.training import Source, TrainedRun, held_out, load_run

_WARMUP_BATCHES = (1, 32)
FACTS = "export.json"
log = logging.getLogger(__name__)


def export(
    run_dir: str | Path,
    *,
    output: str | Path | None = None,
    top_k: int = 20,
    quantize: str | None = None,
    index: str | None = None,
    leave_out_test: bool = False,
    source: str | Path | Source | Dataset | None = None,
) -> Path:
    """Writes the next version of a run's SavedModel, after comparing it with the run.

    Its `serving_default` takes `user_id` [batch] string and gives `item_id` [batch, top_k]
    string and `score` [batch, top_k] float32, best first, and `known` [batch] bool. Seen items
    are left out, as by `recommend`. Users that the run does not know (`known` is
    false) and those without a pair that it trained on get the most popular items, with the
    number of an item's users as its score. A row with fewer than top_k items is padded with an
    empty id and the lowest finite float32. `Server` tells of the other signatures.

    Beside it stand `export.json`, what was found while exporting, and `model_card.md`.

    Args:
      run_dir: the run's folder.
      output: the folder of the versions; None: `export` in the run's.
      top_k: items a user gets, at least 1; cut to the size of the catalogue, with a warning.
      quantize: bfloat16 or int8, how item vectors are stored: a smaller model whose ranking
        is not quite the run's, by how much `export.json` says; None: float32.
      index: `faiss` or `hnsw`, an approximate index of the items written besides.
      leave_out_test: whether what users have in the test split is left out too, as of `recommend`.
      source: the dataset, if it is not where the run found it.

    Returns:
      The new version's folder, `<output>/<version>`.

    Raises:
      InputError: if the run is not finished, top_k is below 1, the model cannot be written, or
        what was written does not rank as the run does (then nothing is left behind).
    """
    if index is not None:
        check_installed()  # before anything takes its time
    trained = load_run(run_dir, leave_out_test=leave_out_test, source=source)
    num_items = trained.data.num_items
    check_cutoffs([min(top_k, num_items)], num_items)
    if top_k > num_items:
        log.warning("top_k is cut from %d to the %d items of the catalogue", top_k, num_items)
        top_k = num_items
    versions = Path(output) if output is not None else trained.run.path / "export"
    versions.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="partial-", dir=versions) as folder:
            written = Path(folder) / "model"
            _write(written, trained, top_k, quantize, index, leave_out_test)
            return _published(written, versions)
    except (OSError, tf.errors.OpError) as error:
        raise expected(
            f"room and leave to write a model in {versions}",
            received=str(error).splitlines()[0],
            remedy="Nothing was exported.",
        ) from error


def _write(
    folder: Path,
    trained: TrainedRun,
    k: int,
    quantize: str | None,
    index: str | None,
    leaves_out_test: bool,
) -> None:
    """Writes all of a version, and compares its SavedModel with the run."""
    data, exact = trained.data, Representations.of(trained.model)
    if index:
        check_inner_products(exact)
    server = Server(exact, trained.seen, data.user_ids, data.item_ids, k, trained.learned, quantize)
    tf.saved_model.save(server, str(folder), signatures=server.signatures)
    served = exact.with_item_vectors(server.item_vectors())
    ranked = Ranked(served, data, trained.seen, trained.learned)
    facts = {
        "schema_version": SCHEMA_VERSION,
        "k": k,
        "leave_out_test": leaves_out_test,
        "users_compared": check_agreement(folder, ranked, k),
        "warmup_requests": write_warmup_requests(folder, _warmup_requests(data)),
        "quantize": _loss_of_quantizing(trained, exact, served, quantize) if quantize else None,
        "index": write_index(folder, index, served, data.item_ids, k) if index else None,
        "table_bytes": server.table_bytes(),
    }
    facts["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = model_card(trained.run.config(), trained.run.metrics(), facts)
    (folder / "model_card.md").write_text(card, encoding="utf-8")


def _warmup_requests(data: Dataset) -> list[Request]:
    """One of each signature for a user or item alone and for several.

    Of `recommend` and `similar_items` none: a server that batches refuses scalars such as their
    `k`, and a version whose warm-up fails is not served at all.
    """
    requests = []
    for batch in _WARMUP_BATCHES:
        users = np.resize(data.user_ids, batch).tolist()
        items = np.resize(data.item_ids, batch).tolist()
        inputs: dict[str, dict[str, Any]] = {
            "serving_default": {"user_id": users},
            "score": {"user_id": users, "item_id": items},
            "embed_user": {"user_id": users},
            "embed_item": {"item_id": items},
        }
        requests += [Request(signature, given) for signature, given in inputs.items()]
    return requests


def _loss_of_quantizing(
    trained: TrainedRun, exact: Representations, served: Representations, kind: str
) -> dict[str, Any]:
    """The metrics of either, on validation; where the run trained on it or had none, on test."""
    settings = trained.settings
    split = "test" if settings.refit or settings.select_on_test else "valid"
    pairs, seen = held_out(trained.data, trained.settings, split)
    cutoffs, learned = trained.settings.top_k, trained.learned
    metrics = [Evaluator(each, pairs, seen, cutoffs, learned).mean() for each in (exact, served)]
    return {"kind": kind, "split": split, "float32": metrics[0], kind: metrics[1]}


def _published(written: Path, versions: Path) -> Path:
    """Renames a whole model to the next version's folder."""
    while True:
        taken = [int(path.name) for path in versions.iterdir() if path.name.isdecimal()]
        version = versions / str(1 + max(taken, default=0))
        try:
            return written.rename(version)
        except OSError:
            if not version.exists():  # else another export took the number just now
                raise
