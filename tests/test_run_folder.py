"""What a finished run's folder says, and that its model can be evaluated again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
from small_runs import LEAST, WHOLE, history, parameters, scalars

import autosample_tf
from autosample_tf import training
from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.evaluation import METRICS
from autosample_tf.runs import SCHEMA_VERSION
from autosample_tf.samplers import build_samplers
from autosample_tf.samplers.contract import Context, Feedback, Negatives, Sampler, state_variable
from autosample_tf.splits import with_validation
from autosample_tf.stages import fitting

CANONICAL = [sampler.spec for sampler in build_samplers(WHOLE.samplers)]
METRIC_NAMES = [f"{name}@{k}" for k in WHOLE.top_k for name in METRICS]


def read(run_dir: Path, name: str) -> dict[str, Any]:
    return json.loads((run_dir / name).read_text(encoding="utf-8"))


# --- the folder


def test_metrics_json_has_what_the_contract_names(whole_run: Path) -> None:
    metrics = read(whole_run, "metrics.json")
    assert next(iter(metrics)) == "schema_version"
    assert metrics["schema_version"] == SCHEMA_VERSION
    assert (metrics["dataset"], metrics["model"]) == ("small", "mf")
    for split in ("valid", "test"):
        assert list(metrics[split]) == METRIC_NAMES
        assert all(0 <= value <= 1 for value in metrics[split].values())
    search, retrain = metrics["search"], metrics["retrain"]
    assert {"epochs", "seconds", "weights", "survivors", "dropped"} <= set(search)
    assert {"init", "epochs", "best_epoch", "seconds"} <= set(retrain)
    assert search["epochs"] == WHOLE.search_epochs
    assert retrain["epochs"] == WHOLE.retrain_epochs
    assert retrain["init"] == WHOLE.init
    assert search["seconds"] > 0 < retrain["seconds"]


def test_the_weights_are_the_survivors_and_sum_to_1(whole_run: Path) -> None:
    search = read(whole_run, "metrics.json")["search"]
    assert list(search["weights"]) == search["survivors"]
    assert sum(search["weights"].values()) == pytest.approx(1, abs=1e-6)
    assert min(search["weights"].values()) > 0
    gone = [drop["sampler"] for drop in search["dropped"]]
    assert sorted([*search["survivors"], *gone]) == sorted(CANONICAL)


def test_the_small_run_drops_and_learns_or_its_tests_would_show_little(whole_run: Path) -> None:
    metrics = read(whole_run, "metrics.json")
    dropped = [(drop["sampler"], drop["epoch"]) for drop in metrics["search"]["dropped"]]
    assert dropped == [("dns:pool=4", 4)]
    assert metrics["retrain"]["best_epoch"] > 1


def test_config_json_has_settings_data_and_versions(whole_run: Path, small_data: Path) -> None:
    config = read(whole_run, "config.json")
    assert next(iter(config)) == "schema_version"
    assert config["schema_version"] == SCHEMA_VERSION
    assert config["command"] == "search"
    data = with_validation(autosample_tf.load(str(small_data)), WHOLE.valid_fraction, seed=3)
    counts = data.counts()
    assert config["dataset"] == {"name": "small", "counts": counts, "sha256": data.checksum()}
    assert config["source"]["dataset"] == str(small_data)
    assert config["settings"] == WHOLE.resolved(data.train.num_pairs).to_dict()
    assert None not in config["settings"].values()
    assert config["environment"]["autosample_tf"] == autosample_tf.__version__
    assert {"python", "platform", "cpus", "packages"} <= set(config["environment"])


@pytest.mark.parametrize(
    ("path", "epochs"),
    [("search", WHOLE.search_epochs), ("retrain", WHOLE.retrain_epochs), ("retrain/refit", None)],
)
def test_history_has_a_row_an_epoch(path: str, epochs: int | None, whole_run: Path) -> None:
    rows = history(whole_run / path / "history.csv")
    best = read(whole_run, "metrics.json")["retrain"]["best_epoch"]
    assert [int(row["epoch"]) for row in rows] == list(range(1, (epochs or best) + 1))
    assert all(float(row["loss"]) > 0 for row in rows)
    has_metrics = path != "retrain/refit"  # nothing is held out from a refit
    assert all(set(METRIC_NAMES) <= set(row) for row in rows) == has_metrics


def test_history_has_the_weights_and_losses_of_the_samplers_that_were_left(
    whole_run: Path,
) -> None:
    rows = history(whole_run / "search" / "history.csv")
    dropped = {
        d["sampler"]: d["epoch"] for d in read(whole_run, "metrics.json")["search"]["dropped"]
    }
    for row in rows:
        left = [spec for spec in CANONICAL if int(row["epoch"]) <= dropped.get(spec, 99)]
        weights = {spec: row[f"weight/{spec}"] for spec in CANONICAL}
        assert [spec for spec in CANONICAL if weights[spec]] == left
        assert [spec for spec in CANONICAL if row[f"loss/{spec}"]] == left
        assert sum(float(weights[spec]) for spec in left) == pytest.approx(1, abs=1e-6)


def test_what_was_dropped_is_told_with_the_weight_that_it_had(whole_run: Path) -> None:
    rows = history(whole_run / "search" / "history.csv")
    for drop in read(whole_run, "metrics.json")["search"]["dropped"]:
        weight = float(rows[drop["epoch"] - 1][f"weight/{drop['sampler']}"])
        assert drop["weight"] == pytest.approx(weight, abs=1e-6)
        left = [v for k, v in rows[drop["epoch"] - 1].items() if k.startswith("weight/") and v]
        assert weight < WHOLE.drop_threshold / len(left)


def test_retraining_keeps_the_searchs_weights(whole_run: Path) -> None:
    weights = read(whole_run, "metrics.json")["search"]["weights"]
    for path in ("retrain", "retrain/refit"):
        for row in history(whole_run / path / "history.csv"):
            told = {k[7:]: float(v) for k, v in row.items() if k.startswith("weight/")}
            assert told == pytest.approx(weights, abs=1e-6)


def test_validation_metrics_are_those_of_the_best_epoch(whole_run: Path) -> None:
    metrics = read(whole_run, "metrics.json")
    rows = history(whole_run / "retrain" / "history.csv")
    ndcg = [float(row["ndcg@10"]) for row in rows]  # the first cutoff of top_k steers
    best = metrics["retrain"]["best_epoch"]
    assert ndcg[best - 1] == max(ndcg)
    assert metrics["valid"] == {name: float(rows[best - 1][name]) for name in METRIC_NAMES}
    assert metrics["search"]["best_epoch"] == 1 + int(
        np.argmax([float(row["ndcg@10"]) for row in history(whole_run / "search/history.csv")])
    )


def test_no_half_written_file_is_left(whole_run: Path) -> None:
    assert not [path for path in whole_run.rglob("*") if path.name.endswith(".partial")]
    absolute = str(whole_run.parent).encode()
    for path in whole_run.rglob("checkpoint"):
        assert absolute not in path.read_bytes()


# --- TensorBoard


@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_tensorboard_reads_the_historys_numbers(stage: str, whole_run: Path) -> None:
    found = scalars(whole_run / "tensorboard" / stage)
    rows = history(whole_run / stage / "history.csv")
    names = [name for name in rows[0] if name not in ("epoch", "dropped")]
    assert {"loss", "ndcg@10"} <= set(names)
    assert any(name.startswith("weight/") for name in names)
    assert any(name.startswith("loss/") for name in names)
    for name in names:
        written = {int(row["epoch"]): float(row[name]) for row in rows if row[name]}
        assert found[name] == pytest.approx(written, rel=1e-6)


# --- evaluate


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluate_gives_the_metrics_again(split: str, tiny_run: Path) -> None:
    again = autosample_tf.evaluate(tiny_run, split=split)
    assert again == pytest.approx(read(tiny_run, "metrics.json")[split], abs=1e-12)


def test_evaluate_knows_no_third_split(tiny_run: Path) -> None:
    with pytest.raises(InputError, match="Expected the split valid or test; received train"):
        autosample_tf.evaluate(tiny_run, split="train")


def test_a_refitted_model_is_evaluated_on_test_only(whole_run: Path) -> None:
    again = autosample_tf.evaluate(whole_run, split="test")
    assert again == pytest.approx(read(whole_run, "metrics.json")["test"], abs=1e-12)
    with pytest.raises(InputError, match="not trained on; received valid"):
        autosample_tf.evaluate(whole_run, split="valid")


def test_a_refit_is_another_model_than_the_best_epochs(whole_run: Path, small_data: Path) -> None:
    best = parameters(whole_run / "retrain" / "best")
    final = parameters(whole_run / "retrain" / "parameters")
    assert all(not np.array_equal(best[name], final[name]) for name in best)
    trained = training.load_run(whole_run)
    files = autosample_tf.load(str(small_data))
    assert trained.seen.num_pairs == files.train.num_pairs
    assert trained.data.train.num_pairs < files.train.num_pairs


def test_a_refit_trains_on_train_and_validation(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages before it on train alone."""
    trained = []

    class NotedAutoSample(AutoSample):
        def __init__(self, model: Any, train: Any, **others: Any):
            trained.append(train.keys)
            super().__init__(model, train, **others)

    monkeypatch.setattr(fitting, "AutoSample", NotedAutoSample)
    settings = dataclasses.replace(LEAST, refit=True, init="scratch", retrain_epochs=4)
    metrics = training.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert metrics["retrain"]["refit"]
    files = autosample_tf.load(str(small_data))
    split = with_validation(files, settings.valid_fraction, seed=settings.seed)
    wanted = [split.train.keys, split.train.keys, files.train.keys]
    assert list(map(len, trained)) == list(map(len, wanted))
    for keys, pairs in zip(trained, wanted, strict=True):
        np.testing.assert_array_equal(keys, pairs)


def test_weights_that_learn_stay_equal_while_they_warm_up(small_data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        LEAST, samplers=WHOLE.samplers, objective="validation", drop_warmup=2, search_epochs=4,
        drop_threshold=0.0,
    )  # fmt: skip
    training.search(str(small_data), settings, run_dir=tmp_path / "run")
    for row in history(tmp_path / "run" / "search" / "history.csv"):
        weights = [float(row[f"weight/{spec}"]) for spec in CANONICAL]
        if int(row["epoch"]) < 2:  # those that the next step trains under
            np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)
        else:
            assert np.ptp(weights) > 1e-4


class Recorder(Sampler):
    """Remembers between which bounds the progress of its training was."""

    built: ClassVar[list[Recorder]] = []
    follows_progress = True
    pool = 1

    def build(self, feedback: Feedback, dim: int) -> None:
        self.least = state_variable(np.float32(2.0), "least")
        self.most = state_variable(np.float32(-1.0), "most")
        self.built.append(self)

    def sample(self, context: Context) -> Negatives:
        pool = context.pool.first(1)
        return Negatives(pool.items, tf.cast(pool.allowed, tf.float32))

    def update(self, context: Context, negatives: Negatives) -> None:
        self.least.assign(tf.minimum(self.least, context.progress))
        self.most.assign(tf.maximum(self.most, context.progress))


def test_progress_goes_from_0_to_1_in_each_stage(small_data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        LEAST, samplers=(f"{__name__}:Recorder",), search_epochs=2, retrain_epochs=3, patience=3
    )
    Recorder.built.clear()
    training.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert [(own.least.numpy(), own.most.numpy()) for own in Recorder.built] == [(0, 1), (0, 1)]


def test_other_data_is_refused(tiny_run: Path, small_data: Path) -> None:
    with pytest.raises(InputError, match=r"Expected the data .*received other data"):
        autosample_tf.evaluate(tiny_run, source=str(small_data))
