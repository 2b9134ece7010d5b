"""A whole run: what its folder says, what is chosen on what, and what it goes on with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import LEAST, WHOLE, flags, history, parameters, without_seconds, write_pairs

import autosample_tf
from autosample_tf import training
from autosample_tf.errors import InputError
from autosample_tf.evaluation import METRICS, Evaluator
from autosample_tf.interactions import Dataset
from autosample_tf.models import MF
from autosample_tf.runs import SCHEMA_VERSION
from autosample_tf.samplers import build_samplers
from autosample_tf.splits import with_validation
from autosample_tf.synthetic import synthetic

CANONICAL = [sampler.spec for sampler in build_samplers(WHOLE.samplers)]
NUM_ITEMS = 80  # of the peculiar dataset
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
    assert dropped == [("dns:pool=4", 3)]
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
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(whole_run / "tensorboard" / stage), size_guidance={"tensors": 0})
    events.Reload()
    rows = history(whole_run / stage / "history.csv")
    names = [name for name in rows[0] if name not in ("epoch", "dropped")]
    assert {"loss", "ndcg@10"} <= set(names)
    assert any(name.startswith("weight/") for name in names)
    assert any(name.startswith("loss/") for name in names)
    for name in names:
        written = {int(row["epoch"]): float(row[name]) for row in rows if row[name]}
        read_back = {e.step: float(make_ndarray(e.tensor_proto)) for e in events.Tensors(name)}
        assert read_back == pytest.approx(written, rel=1e-6)


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


def test_a_refit_trains_on_train_and_validation(
    whole_run: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refit's model is not the best epoch's, and was given every pair but test's."""
    best = parameters(whole_run / "retrain" / "best")
    final = parameters(whole_run / "retrain" / "parameters")
    assert all(not np.array_equal(best[name], final[name]) for name in best)
    trained = training.load_run(whole_run)
    files = autosample_tf.load(str(small_data))
    assert trained.seen.num_pairs == files.train.num_pairs
    assert trained.data.train.num_pairs < files.train.num_pairs


def test_other_data_is_refused(tiny_run: Path, small_data: Path) -> None:
    with pytest.raises(InputError, match=r"Expected the data .*received other data"):
        autosample_tf.evaluate(tiny_run, source=str(small_data))


# --- a dataset with all that is peculiar; test is read once


@dataclasses.dataclass
class Observed:
    """A run during which each `Evaluator` and each of its `mean` calls was noted."""

    run_dir: Path
    data: Dataset
    metrics: dict[str, Any]
    calls: list[str]  # what was evaluated, in order: valid or test


@pytest.fixture(scope="module")
def peculiar(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """User 0 has every item of train, users 1 and 2 test pairs only, one of them of an item
    that only test has. User 5's line and a pair of user 3's are there twice, and two test
    lines are empty.
    """
    folder = tmp_path_factory.mktemp("peculiar") / "odd"
    folder.mkdir()
    data = synthetic(40, NUM_ITEMS - 1, mean_pairs=12)
    write_pairs(folder / "train.txt", data.train.select(data.train.users > 2))
    write_pairs(folder / "test.txt", data.test.select(data.test.users > 2))
    twice = " ".join(map(str, [5, *data.train.row(5)]))
    whole = " ".join(map(str, [0, *range(NUM_ITEMS - 1)]))
    with (folder / "train.txt").open("a", encoding="utf-8") as train:
        train.write(f"{whole}\n{twice}\n3 78 78\n")
    with (folder / "test.txt").open("a", encoding="utf-8") as test:
        test.write(f"1 4 5\n2 {NUM_ITEMS - 1}\n0\n39\n")
    calls: list[str] = []
    loaded = with_validation(autosample_tf.load(str(folder)), LEAST.valid_fraction, seed=LEAST.seed)

    class Noted(Evaluator):
        def __init__(self, model: MF, held_out: Any, *others: Any):
            super().__init__(model, held_out, *others)
            same = {
                name
                for name, split in loaded.splits.items()
                if np.array_equal(split.keys, held_out.keys)
            }
            (self.split,) = same

        def per_user(self) -> dict[str, np.ndarray]:
            calls.append(self.split)
            return super().per_user()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Evaluator", Noted)
        metrics = autosample_tf.search(str(folder), LEAST, run_dir=folder / "run")
    return Observed(folder / "run", loaded, metrics, calls)


def test_test_is_evaluated_once_and_last(peculiar: Observed) -> None:
    """Validation: after each search epoch, before retraining, after each of its epochs."""
    assert peculiar.calls == ["valid"] * (LEAST.search_epochs + 1 + LEAST.retrain_epochs) + ["test"]


def test_what_is_peculiar_is_counted_and_gone_on_with(peculiar: Observed) -> None:
    counts = read(peculiar.run_dir, "config.json")["dataset"]["counts"]
    assert counts["users"] == 40
    assert counts["items"] == NUM_ITEMS
    assert counts["users_without_train_pairs"] == 2
    assert counts["test_items_never_in_train"] == 1
    assert counts["duplicate_pairs"] == peculiar.data.train.degrees[5] + (
        peculiar.data.valid.degrees[5] + 1
    )
    assert counts["empty_test_lines"] == 2


def test_a_user_with_the_whole_catalogue_is_counted_and_gone_on_with(peculiar_run: Path) -> None:
    counts = read(peculiar_run, "config.json")["dataset"]["counts"]
    assert counts["users_with_whole_catalogue"] == 1
    assert read(peculiar_run, "metrics.json")["test_users_without_train_pairs"] == 1


def test_test_users_without_train_pairs_are_counted_in_the_metrics(peculiar: Observed) -> None:
    tested = peculiar.data.test.degrees > 0
    newcomers = tested & (peculiar.data.train.degrees == 0)
    assert peculiar.metrics["test_users"] == tested.sum()
    assert peculiar.metrics["test_users_without_train_pairs"] == newcomers.sum() == 2
    again = autosample_tf.evaluate(peculiar.run_dir)
    assert again == pytest.approx(peculiar.metrics["test"], abs=1e-12)


# --- what is equal and what is not


def test_another_seed_gives_another_result(small_data: Path, tmp_path: Path) -> None:
    """Without training: other initial values, other splits."""
    one, other = (
        autosample_tf.search(
            str(small_data),
            dataclasses.replace(LEAST, retrain_epochs=0, init="scratch", seed=seed),
            run_dir=tmp_path / str(seed),
        )
        for seed in (0, 1)
    )
    assert without_seconds(one) != without_seconds(other)


def test_a_dataset_in_memory_has_to_be_given_again(tmp_path: Path) -> None:
    data = synthetic(30, 40, mean_pairs=8)
    settings = dataclasses.replace(LEAST, retrain_epochs=0)
    metrics = autosample_tf.search(data, settings, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="Pass it as source="):
        autosample_tf.evaluate(tmp_path / "run")
    again = autosample_tf.evaluate(tmp_path / "run", source=data)
    assert again == pytest.approx(metrics["test"], abs=1e-12)


PLANTED = '''
import dataclasses

import tensorflow as tf
from autosample_tf.samplers.uniform import RNS

class Loud(RNS):
    """Uniform negatives whose loss counts ten times."""

    card = None

    def sample(self, context):
        scale = tf.fill([context.users.shape[0]], 10.0)
        return dataclasses.replace(super().sample(context), scale=scale)
'''


def test_a_planted_candidate_is_dropped_and_retraining_does_without_it(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`joint` leaves the sampler with the larger loss, a step of Adam's 0.01 at a time: the
    logits part by 0.02 in each of the 22 steps of an epoch, and after two of them its weight
    is 1 / (1 + exp(0.88)) = .29, under .8 of one half.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "planted.py").write_text(PLANTED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = "mine.planted:Loud"
    settings = dataclasses.replace(
        WHOLE, samplers=("rns", spec), drop_threshold=0.8, refit=False, retrain_epochs=1
    )
    metrics = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert [drop["sampler"] for drop in metrics["search"]["dropped"]] == [spec]
    assert metrics["search"]["weights"] == {"rns": 1.0}
    assert metrics["search"]["survivors"] == ["rns"]
    (row,) = history(tmp_path / "run" / "retrain" / "history.csv")
    assert [name for name in row if name.startswith("weight/")] == ["weight/rns"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
@pytest.mark.parametrize("mixing", ["loss", "instance"])
def test_the_standard_set_runs_twice_to_the_same_metrics(
    model: str, mixing: str, tmp_path: Path
) -> None:
    """On `synthetic`, of which no step fits one processor core."""
    settings = autosample_tf.Settings(
        model=model, mixing=mixing, search_epochs=3, retrain_epochs=2, layers=2
    )
    one, other = (
        autosample_tf.search("synthetic", settings, run_dir=tmp_path / name) for name in "ab"
    )
    assert without_seconds(one) == without_seconds(other)


def test_flags_say_what_settings_say() -> None:
    """The tests' own translation leaves nothing out."""
    given = [flag for flag in flags(WHOLE) if flag.startswith("--")]
    for name, value in WHOLE.to_dict().items():
        flag = "--sampler" if name == "samplers" else "--" + name.replace("_", "-")
        assert (flag in given) == (value is not None)
