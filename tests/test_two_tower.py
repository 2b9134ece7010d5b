"""Two Keras towers over features: MF's step where they are MF, the cache, features, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from test_autosample import sgd, take_step
from towers import (
    DIM,
    IDS,
    feature_batch,
    features_of,
    look_up,
    table_towers,
    tables_of,
    toy_candidates,
    toy_examples,
    toy_pairs,
)
from worlds import NEWCOMER, NUM_ITEMS, from_dense, small_specs, to_dense, toy_held_out

from autosample_tf.autosample import AutoSample
from autosample_tf.callbacks import StopOnDivergence, TrainingDivergedError
from autosample_tf.checkpoints import read_parameters, write_parameters
from autosample_tf.errors import InputError
from autosample_tf.evaluation import Evaluator, Ranker
from autosample_tf.models import MF, TwoTower
from autosample_tf.pipeline import EXAMPLE_WEIGHT, padded_batches

USERS, WEIGHTS = [0, 1, 2, 3, 4, 5, 5, 0, 0, 0], [10 / 8] * 8 + [0.0, 0.0]
ROWS = len(USERS)


def positives_of(users: list[int], step: int = 0) -> list[int]:
    pairs = toy_pairs()
    rows = [pairs.row(user) for user in users]
    return [int(row[(3 * place + step) % len(row)]) for place, row in enumerate(rows)]


def given() -> Any:
    return from_dense(np.random.default_rng(2).random((NEWCOMER, NUM_ITEMS)) < 0.5)


def held_out() -> Any:
    return from_dense(to_dense(toy_held_out())[:NEWCOMER])


def autosample_of(model: Any, specs: list[str], **settings: Any) -> AutoSample:
    settings = {"objective": "uniform", "l2": 0.1, "given": given(), **settings}
    autosample = AutoSample(
        model, toy_pairs(), samplers=specs, validation=held_out(),
        logits_optimizer=sgd(), sampler_optimizer=sgd(), **settings,
    )  # fmt: skip
    autosample.compile(sgd())
    return autosample


def mf_of(towers: TwoTower) -> MF:
    """MF of the towers' tables."""
    mf = MF(NEWCOMER, NUM_ITEMS, dim=DIM)
    for variable, table in zip(mf.trainable_variables, tables_of(towers), strict=True):
        variable.assign(table)
    return mf


def numbered_batch(step: int = 0) -> dict[str, tf.Tensor]:
    """What `feature_batch` tells, as MF takes it."""
    return {
        "user": tf.constant(USERS, tf.int32),
        "positive": tf.constant(positives_of(USERS, step), tf.int32),
        "weight": tf.constant(WEIGHTS, tf.float32),
        "position": tf.range(step * ROWS, (step + 1) * ROWS, dtype=tf.int64),
    }


def batch_of_features(step: int = 0) -> dict[str, tf.Tensor]:
    return feature_batch(USERS, positives_of(USERS, step), WEIGHTS)


def as_dataset(*batches: dict[str, tf.Tensor]) -> tf.data.Dataset:
    first, *others = map(tf.data.Dataset.from_tensors, batches)
    for other in others:
        first = first.concatenate(other)
    return first


# --- towers that are tables are MF


@pytest.mark.parametrize(
    "settings",
    [
        {"mixing": "loss", "objective": "validation", "users_per_pool": 5},
        {"mixing": "instance", "objective": "joint", "users_per_pool": 1},
    ],
    ids=["loss", "instance"],
)
def test_two_steps_with_a_fresh_cache_are_mfs(settings: dict[str, Any]) -> None:
    """Under every sampler; MF, whose steps are tested by hand, has the same two tables."""
    towers = table_towers(cache_steps=1)
    mf = mf_of(towers)
    of_features, of_ids = (autosample_of(m, small_specs(), **settings) for m in (towers, mf))
    for step in range(2):
        logs = of_features.train_step(batch_of_features(step))
        expected = of_ids.train_step(numbered_batch(step))
        np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-5)
    for found, variable in zip(tables_of(towers), mf.trainable_variables, strict=True):
        np.testing.assert_allclose(found, variable.numpy(), atol=1e-5)
    np.testing.assert_allclose(of_features.logits.numpy(), of_ids.logits.numpy(), atol=1e-5)


def test_rankings_are_mfs() -> None:
    towers = table_towers()
    mf = mf_of(towers)
    users = np.arange(NEWCOMER)
    found, expected = (Ranker(m, toy_pairs(), 5).rank(users) for m in (towers, mf))
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


def test_a_call_scores_examples() -> None:
    towers = table_towers()
    users, items = tables_of(towers)
    positives = positives_of(USERS)
    expected = (users[USERS] * items[positives]).sum(axis=1)
    np.testing.assert_allclose(towers(feature_batch(USERS, positives)), expected, atol=1e-6)


def test_pairs_are_those_of_the_examples() -> None:
    towers = table_towers()
    np.testing.assert_array_equal(to_dense(towers.train), to_dense(toy_pairs()))
    np.testing.assert_array_equal(
        to_dense(towers.pairs(toy_examples().batch(7))), to_dense(toy_pairs())
    )


# --- the cache


def test_what_is_chosen_among_is_as_old_as_the_cache() -> None:
    """Scores of a pool are by the items that there were; those of losses are of now."""
    towers = table_towers(cache_steps=3)
    autosample = autosample_of(towers, ["dns:pool=6"])
    begin = tables_of(towers)[1]
    take_step(autosample, batch_of_features())
    users, now = tables_of(towers)
    assert np.abs(now - begin).max() > 0.01
    np.testing.assert_array_equal(towers.cache.numpy(), begin)
    batch = autosample.sample(towers.examples(batch_of_features(1), tf.constant(1)))
    context, rows = batch.context, np.array(USERS)[:, None]
    items, allowed = context.pool.items.numpy(), context.pool.allowed.numpy()
    old = (users[rows] * begin[items]).sum(axis=2)
    np.testing.assert_allclose(context.pool.scores.numpy()[allowed], old[allowed], atol=1e-5)
    fresh = (users[rows] * now[items]).sum(axis=2)
    np.testing.assert_allclose(batch.blocks.scores, fresh, atol=1e-5)


def test_it_is_made_anew_every_so_many_steps_and_tells_how_far_items_had_moved() -> None:
    towers = table_towers(cache_steps=3)
    autosample = autosample_of(towers, ["rns"])
    tables = []
    for step in range(7):
        tables.append(tables_of(towers)[1])
        towers.staleness.reset_state()
        told = autosample.train_step(batch_of_features(step))["staleness"].numpy()
        np.testing.assert_array_equal(towers.cache.numpy(), tables[step // 3 * 3])
        moved = 0.0
        if step in (3, 6):
            before, now = tables[step - 3], tables[step]
            moved = np.mean(np.linalg.norm(now - before, axis=1) / np.linalg.norm(now, axis=1))
            assert moved > 0.01
        assert told == pytest.approx(moved, rel=1e-4)


class Counting(tf.keras.layers.Layer):
    """Passes features on, and remembers how many rows it was traced with, by `training`."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[bool, int]] = []

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        self.rows.append((training, features.shape[0]))
        return features


@pytest.mark.parametrize(
    ("specs", "users_per_pool", "rows"),
    [
        (["dns:pool=64"], 1, [ROWS, ROWS]),  # of 640 candidates, those chosen
        (["dns:pool=64", "aobpr"], 1, [ROWS, 2 * ROWS]),
        (["dns:pool=64", "nscaching:cache=64,random=64"], 10, [ROWS, 2 * ROWS]),
        (["self-adversarial:pool=64"], 10, [ROWS, 64]),  # a pool of 64 for all ten rows
    ],
)
def test_what_passes_through_the_tower_is_what_is_used(
    specs: list[str], users_per_pool: int, rows: list[int]
) -> None:
    counting = Counting()
    tower = tf.keras.Sequential([counting, *look_up(IDS).layers])
    towers = TwoTower(
        look_up(np.arange(NEWCOMER)), tower, toy_candidates(), train=toy_examples(),
        query_id="user_id", query_features="user_id", candidate_features="movie_id",
    )  # fmt: skip
    autosample = autosample_of(towers, specs, users_per_pool=users_per_pool)
    counting.rows.clear()
    tf.function(autosample.train_step).get_concrete_function(batch_of_features())
    # A Sequential model makes its functional form first, of no size.
    in_steps = [n for training, n in counting.rows if training and n is not None]
    assert sorted(in_steps) == sorted(rows)


# --- towers of features


class Candidates(tf.keras.Model):
    """Of a text and a number, by a dictionary; with dropout and a regularizer."""

    def __init__(self, dropout: float = 0.0, l2: float = 0.0):
        super().__init__()
        self.words = tf.keras.layers.StringLookup(vocabulary=IDS)
        self.table = tf.keras.layers.Embedding(NUM_ITEMS + 1, 3)
        self.dropout = tf.keras.layers.Dropout(dropout)
        self.top = tf.keras.layers.Dense(DIM, kernel_regularizer=tf.keras.regularizers.L2(l2))

    def call(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        parts = [self.table(self.words(features["movie_id"])), features["year"][:, None]]
        return self.top(self.dropout(tf.concat(parts, axis=1), training=training))


def queries_by_hour() -> tf.keras.Model:
    """A functional model of a dictionary: an id and what the hour is."""
    inputs = {
        "user_id": tf.keras.Input([], dtype=tf.int64, name="user_id"),
        "hour": tf.keras.Input([], name="hour"),
    }
    user = tf.keras.layers.Embedding(NEWCOMER, 3)(inputs["user_id"])
    hour = tf.keras.layers.Reshape([1])(inputs["hour"])
    return tf.keras.Model(inputs, tf.keras.layers.Dense(DIM)(tf.concat([user, hour], axis=1)))


# Whom what is liked by: those and what are both even or both odd.
LIKED = np.indices((NEWCOMER, NUM_ITEMS)).sum(axis=0) % 2 == 0


def test_the_issues_call_trains_towers_of_dictionaries() -> None:
    autosample = AutoSample(
        queries_by_hour(), Candidates(), samplers=["rns", "pns"],
        candidates=toy_candidates().batch(4),
    )  # fmt: skip
    autosample.compile(tf.keras.optimizers.Adam(0.05, jit_compile=False), steps_per_execution=2)
    users, items = np.nonzero(LIKED)
    examples = tf.data.Dataset.from_tensor_slices(features_of(users, items))
    batches = examples.shuffle(99, seed=1).batch(8, drop_remainder=True)
    autosample.fit(batches, epochs=20, verbose=0)
    scores = autosample.model(feature_batch(*np.indices(LIKED.shape).reshape(2, -1)))
    scores = tf.reshape(scores, LIKED.shape).numpy()
    assert (scores[LIKED].mean() - scores[~LIKED].mean()) > 1
    assert autosample.weights_by_spec() == pytest.approx(dict.fromkeys(autosample.specs, 0.5))
    found = autosample.evaluate(batches, verbose=0, return_dict=True)
    assert list(found) == ["loss"]
    assert found["loss"] > 0


def test_validation_data_is_logged_beside_the_loss(tmp_path: Path) -> None:
    autosample = AutoSample(
        queries_by_hour(), Candidates(), samplers=["rns", "pns"], candidates=toy_candidates()
    )
    autosample.compile(tf.keras.optimizers.Adam(0.05, jit_compile=False))
    examples = tf.data.Dataset.from_tensor_slices(features_of(*np.nonzero(LIKED)))
    batches = examples.batch(8, drop_remainder=True)
    board = tf.keras.callbacks.TensorBoard(tmp_path)
    history = autosample.fit(batches, validation_data=batches, callbacks=[board], verbose=0).history
    told = {name for name in history if name.startswith("val_")}
    assert told == {"val_loss"}
    assert list(tmp_path.glob("validation/events*"))


def test_towers_train_in_steps_and_infer_in_caches_and_rankings() -> None:
    towers = TwoTower(queries_by_hour(), Candidates(dropout=0.5), toy_candidates())
    ids = tf.range(NUM_ITEMS)
    resting, in_step = towers.propagate(), of_batch(towers, training=True)
    still = [towers.items(resting, ids), towers.items(resting, ids), towers.cached_items(ids)]
    np.testing.assert_array_equal(still[0], still[1])
    np.testing.assert_allclose(still[0], still[2], atol=1e-6)
    assert np.abs(towers.items(in_step, ids) - towers.items(in_step, ids)).max() > 0.01

    in_evaluation = of_batch(towers, training=False)
    np.testing.assert_array_equal(towers.items(in_evaluation, ids), still[0])


def of_batch(towers: TwoTower, *, training: bool) -> Any:
    return towers.propagate_batch(batch_of_features(), training=training)


def test_an_evaluation_infers_and_changes_nothing() -> None:
    """Of dropout and of what a BatchNormalization has seen; its loss is the batches' mean."""
    queries = queries_by_hour()
    normalized = tf.keras.layers.BatchNormalization()(queries.output)
    towers = TwoTower(
        tf.keras.Model(queries.input, normalized), Candidates(dropout=0.5, l2=0.3), toy_candidates()
    )
    autosample = AutoSample(towers, samplers=["rns"], objective="uniform")
    autosample.compile(sgd())
    autosample.train_step(batch_of_features())
    before = [variable.numpy() for variable in towers.variables]
    batches = [batch_of_features(step) for step in range(2)]

    def loss_of(*batches: dict[str, tf.Tensor]) -> float:
        return autosample.evaluate(as_dataset(*batches), verbose=0)

    both = loss_of(*batches)
    assert both == loss_of(*batches) == pytest.approx(np.mean([loss_of(b) for b in batches]))
    for variable, value in zip(towers.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert both > 0.3 * np.square(towers.candidate_model.top.kernel.numpy()).sum()


def test_a_candidate_tower_that_normalizes_by_batch_is_refused() -> None:
    candidates = look_up(IDS)
    candidates.add(tf.keras.layers.BatchNormalization(name="by_batch"))
    with pytest.raises(InputError, match="take each row by itself; received 'by_batch', a Batch"):
        TwoTower(look_up(np.arange(3)), candidates, toy_candidates(), candidate_features="movie_id")
    candidates.layers[-1].trainable = False
    TwoTower(look_up(np.arange(3)), candidates, toy_candidates(), candidate_features="movie_id")


def test_a_layer_that_both_towers_have_is_regularized_once() -> None:
    shared = tf.keras.layers.Dense(DIM, kernel_regularizer=tf.keras.regularizers.L2(0.3))
    towers = TwoTower(
        tf.keras.Sequential([look_up(np.arange(3)), shared]),
        tf.keras.Sequential([look_up(IDS), shared]),
        toy_candidates(), candidate_features="movie_id",
    )  # fmt: skip
    assert len(towers.losses) == 1


class Adding(tf.keras.layers.Layer):
    """Adds to the loss a multiple of the sum of what passes."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        self.add_loss(self.rate * tf.reduce_sum(rows))
        return rows


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_what_layers_add_is_in_the_loss_and_its_gradient_of_each_passage(
    steps_per_execution: int,
) -> None:
    """A step of SGD moves a table's row by -rate for each time that it passes."""
    rate = 0.1

    def after_a_step(rate: float) -> tuple[float, list[np.ndarray]]:
        towers = table_towers()
        for tower, seed in ((towers.query_model, 1), (towers.candidate_model, 2)):
            tower.layers[-1].embeddings_initializer.seed = seed
        queries, candidates = (
            tf.keras.Sequential([*tower.layers, Adding(rate)])
            for tower in (towers.query_model, towers.candidate_model)
        )
        towers = TwoTower(
            queries, candidates, toy_candidates(), train=toy_examples(), query_id="user_id",
            query_features="user_id", candidate_features="movie_id",
        )  # fmt: skip
        autosample = AutoSample(towers, samplers=["pns"], objective="uniform", seed=1)
        autosample.compile(sgd(1.0), steps_per_execution=steps_per_execution)
        batches = as_dataset(batch_of_features())
        loss = autosample.fit(batches, verbose=0).history["loss"][0]
        return loss, tables_of(towers)

    (plain, users, items), (added, pushed_users, pushed_items) = (
        (loss, *tables) for loss, tables in (after_a_step(0.0), after_a_step(rate))
    )
    times = np.bincount(USERS, minlength=NEWCOMER)[:, None]
    np.testing.assert_allclose(pushed_users - users, -rate * times * np.ones(DIM), atol=1e-5)
    passed = (items - pushed_items)[:, 0] / rate
    np.testing.assert_allclose(passed.sum(), 2 * ROWS, rtol=1e-4)  # positives, and negatives
    assert (passed - np.bincount(positives_of(USERS), minlength=NUM_ITEMS)).min() > -1e-3
    assert added != pytest.approx(plain)


def test_regularizers_of_layers_are_in_the_loss() -> None:
    ends = []
    for l2 in (0.0, 0.3):
        tf.keras.utils.set_random_seed(0)
        towers = TwoTower(queries_by_hour(), Candidates(l2=l2), toy_candidates())
        autosample = AutoSample(towers, samplers=["rns"], objective="uniform")
        autosample.compile(sgd(0.1))
        kernel = towers.candidate_model.top.kernel
        before = kernel.numpy()
        loss = autosample.train_step(batch_of_features())["loss"].numpy()
        ends.append((loss, kernel.numpy()))
    np.testing.assert_allclose(ends[1][0] - ends[0][0], 0.3 * (before**2).sum(), rtol=1e-4)
    np.testing.assert_allclose(ends[1][1] - ends[0][1], -0.1 * 2 * 0.3 * before, atol=1e-5)


def test_queries_are_ranked_for_by_the_features_of_their_last_example() -> None:
    towers = TwoTower(
        queries_by_hour(), Candidates(), toy_candidates(), train=toy_examples(), query_id="user_id"
    )
    pairs, features = toy_pairs(), features_of(toy_pairs().users, toy_pairs().items)
    last = pairs.offsets[1:] - 1
    expected = towers.query_model({n: tf.constant(features[n][last]) for n in ("user_id", "hour")})
    users = towers.users(towers.propagate(), tf.range(NEWCOMER))
    np.testing.assert_allclose(users, expected, atol=1e-6)
    metrics = Evaluator(towers, held_out(), toy_pairs(), [3]).mean()
    assert 0 < metrics["recall@3"] < 1


def test_many_rows_pass_a_tower_by_blocks_and_come_out_the_same() -> None:
    ids = np.arange(2500)
    tower = look_up(ids)
    towers = TwoTower(
        look_up(np.arange(3)), tower, tf.data.Dataset.from_tensor_slices({"id": ids}),
        candidate_features="id",
    )  # fmt: skip
    expected = tower(ids).numpy()
    np.testing.assert_array_equal(towers.cache.numpy(), expected)
    found = tf.function(lambda: towers.items(towers.propagate(), tf.range(2500)))()
    np.testing.assert_array_equal(found, expected)


# --- whose positives are masked


def masked_of(towers: TwoTower, items: np.ndarray) -> np.ndarray:
    """[batch, items] bool: train positives of a batch's rows."""
    autosample = AutoSample(towers, samplers=["rns"], objective="uniform")
    batch = towers.examples(batch_of_features(), tf.constant(0))
    asked = tf.constant(np.tile(items, (ROWS, 1)), tf.int32)
    return autosample.sample(batch).context.is_positive(batch["user"], asked).numpy()


def test_with_a_query_id_all_positives_of_the_query_are_masked() -> None:
    masked = masked_of(table_towers(), np.arange(NUM_ITEMS))
    np.testing.assert_array_equal(masked, to_dense(toy_pairs())[USERS])


@pytest.mark.parametrize("train", [None, toy_examples()], ids=["no train", "train"])
def test_without_one_the_rows_own_positive_is(train: Any) -> None:
    towers = table_towers(query_id=None, train=train)
    masked = masked_of(towers, np.arange(NUM_ITEMS))
    np.testing.assert_array_equal(masked, np.eye(NUM_ITEMS, dtype=bool)[positives_of(USERS)])


def test_without_one_popularity_is_that_of_the_examples_or_uniform() -> None:
    towers = table_towers(query_id=None)
    np.testing.assert_array_equal(towers.train.popularity, toy_pairs().popularity)
    towers = table_towers(query_id=None, train=None)
    np.testing.assert_array_equal(towers.train.popularity, np.ones(NUM_ITEMS))


def test_every_sampler_trains_towers_without_a_query_id() -> None:
    specs = [spec for spec in small_specs() if spec != "given"]
    towers = table_towers(query_id=None)
    autosample = AutoSample(towers, samplers=specs, objective="uniform")
    autosample.compile(sgd())
    logs = autosample.train_step(batch_of_features())
    assert all(np.isfinite(value) for value in logs.values())


# --- batches


def test_a_last_batch_is_padded_with_rows_of_weight_0() -> None:
    batches = list(padded_batches(toy_examples(), 10))
    num_pairs = toy_pairs().num_pairs
    assert {tuple(values.shape) for batch in batches for values in batch.values()} == {(10,)}
    weights = np.stack([batch[EXAMPLE_WEIGHT] for batch in batches])
    assert (weights > 0).sum() == num_pairs
    np.testing.assert_allclose(weights.sum(axis=1), 10)
    read = np.concatenate([batch["movie_id"].numpy() for batch in batches])[weights.ravel() > 0]
    expected = [example["movie_id"].numpy() for example in toy_examples()]
    np.testing.assert_array_equal(read, expected)


def test_weights_of_examples_are_kept_where_batches_are_padded() -> None:
    examples = toy_examples().map(lambda one: {**one, EXAMPLE_WEIGHT: tf.constant(3, tf.int64)})
    for weighed, plain in zip(
        padded_batches(examples, 10), padded_batches(toy_examples(), 10), strict=True
    ):
        np.testing.assert_allclose(weighed[EXAMPLE_WEIGHT], 3 * plain[EXAMPLE_WEIGHT], rtol=1e-6)


# --- saving


@pytest.mark.parametrize("way", ["weights", "parameters"])
def test_saved_weights_load(way: str, tmp_path: Path) -> None:
    one, other = table_towers(), table_towers()
    for variable in one.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    if way == "weights":
        one.save_weights(tmp_path / "weights")
        other.load_weights(tmp_path / "weights")
    else:
        write_parameters(one, tmp_path / "parameters")
        read_parameters(other, tmp_path / "parameters")
    for a, b in zip(tables_of(one), tables_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trained_tower_is_saved_as_the_keras_model_that_it_is(tmp_path: Path) -> None:
    autosample = autosample_of(table_towers(), ["rns"])
    autosample.train_step(batch_of_features())
    tower = autosample.model.candidate_model
    tower.save(tmp_path / "tower.keras")
    again = tf.keras.models.load_model(tmp_path / "tower.keras")
    np.testing.assert_array_equal(again(IDS), tower(IDS))


def test_a_stopped_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """The towers, their optimizer's moments and step, and the cache."""
    specs, adam = ["dns:pool=6"], tf.keras.optimizers.Adam
    whole, half, rest = (autosample_of(table_towers(cache_steps=3), specs) for _ in range(3))
    for autosample in (whole, half, rest):
        autosample.compile(adam(0.1, jit_compile=False))
    steps = [as_dataset(batch_of_features(step)) for step in range(4)]
    for step in steps:
        whole.fit(step, verbose=0)
    for step in steps[:2]:
        half.fit(step, verbose=0)
    tf.train.Checkpoint(half).write(str(tmp_path / "half"))
    tf.train.Checkpoint(rest).read(str(tmp_path / "half")).assert_existing_objects_matched()
    for step in steps[2:]:
        rest.fit(step, verbose=0)
    for a, b in zip(tables_of(whole.model), tables_of(rest.model), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# --- replicas


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one() -> None:
    script = Path(__file__).parent / "tower_replicas.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["moved"] > 0.01
    assert told["apart"] < 1e-5
    assert told["caches_apart"] == 0


# --- bad input


def with_a_tower_of(dim: int, **settings: Any) -> TwoTower:
    return TwoTower(
        look_up(np.arange(NEWCOMER), dim), look_up(IDS), toy_candidates(),
        query_features="user_id", candidate_features="movie_id", **settings,
    )  # fmt: skip


def fit(towers: TwoTower, batches: tf.data.Dataset) -> None:
    autosample = AutoSample(towers, samplers=["rns"], objective="uniform")
    autosample.compile(sgd())
    autosample.fit(batches, verbose=0)


WIDTHS = r"Expected two towers of one width; received 3 of the query tower, 4 of the candidate"


def test_towers_of_different_widths_are_refused_when_queries_are_known() -> None:
    with pytest.raises(InputError, match=WIDTHS):
        with_a_tower_of(3, train=toy_examples(), query_id="user_id")


def test_towers_of_different_widths_are_refused_by_fit() -> None:
    with pytest.raises(InputError, match=WIDTHS):
        fit(with_a_tower_of(3), as_dataset(batch_of_features()))


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (tf.data.Dataset.from_tensor_slices(IDS), r"the candidates as a tf.data.Dataset of dict"),
        (toy_candidates().map(lambda x: {"a": x["year"], "b": x["year"]}),
         r"one id among the features of the candidates; received a, b\. .*candidate_id"),
        (toy_candidates().map(lambda x: {"year": x["year"]}), r"text or integers, in 'year'"),
        (toy_candidates().take(0), r"rows in the candidates; received none"),
        (toy_candidates().concatenate(toy_candidates().take(1)),
         r"candidates that differ in 'movie_id'; received b'item 00' twice"),
        (toy_candidates().map(lambda x: {"other_id": x["movie_id"]}),
         r"the feature 'movie_id' in what the candidate tower reads; received other_id"),
    ],
)  # fmt: skip
def test_candidates_without_ids_are_refused(candidates: tf.data.Dataset, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TwoTower(look_up([0]), look_up(IDS), candidates, candidate_features="movie_id")


def without(name: str) -> dict[str, tf.Tensor]:
    return {key: value for key, value in batch_of_features().items() if key != name}


@pytest.mark.parametrize("name", ["user_id", "movie_id"])
def test_a_feature_missing_in_a_batch_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"Expected the feature '{name}' in ") as raised:
        fit(table_towers(), as_dataset(without(name)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (toy_examples().batch(4), r"batches of one size; .*drop_remainder=True"),
        (toy_examples(), r"batches of one size"),
        (tf.data.Dataset.from_tensors(tf.zeros([3])), r"the batches as a tf.data.Dataset of dict"),
        (as_dataset({**batch_of_features(), "movie_id": tf.zeros([ROWS], tf.int64)}),
         r"'movie_id' of a batch in the type of the ids known, such as b'item 00'; received int64"),
    ],
)  # fmt: skip
def test_batches_that_cannot_be_trained_on_are_refused(
    batches: tf.data.Dataset, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit(table_towers(), batches)


def test_a_candidate_that_the_catalogue_lacks_is_named() -> None:
    stranger = {**batch_of_features(), "movie_id": tf.constant(["stranger"] * ROWS)}
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="candidates that the catalogue has in a batch"
    ):
        fit(table_towers(), as_dataset(stranger))
    examples = tf.data.Dataset.from_tensor_slices({"user_id": [1], "movie_id": ["stranger"]})
    with pytest.raises(InputError, match="received b'stranger' in 'movie_id'"):
        table_towers().pairs(examples)


def test_a_query_that_train_lacks_is_named_in_training_and_left_out_of_pairs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stranger = {**batch_of_features(), "user_id": tf.fill([ROWS], tf.constant(99, tf.int64))}
    with pytest.raises(tf.errors.InvalidArgumentError, match="queries that train has in a batch"):
        fit(table_towers(), as_dataset(stranger))
    examples = tf.data.Dataset.from_tensor_slices({"user_id": [1, 99], "movie_id": IDS[:2]})
    assert table_towers().pairs(examples).num_pairs == 1
    assert "left out: 1" in caplog.text


class Broken(tf.keras.layers.Layer):
    """Not a number for what is far from 0."""

    def call(self, features: tf.Tensor) -> tf.Tensor:
        return tf.tile(tf.math.log(0.95 - features)[:, None], [1, DIM])


def test_a_tower_that_gives_nan_is_named_with_the_row() -> None:
    with pytest.raises(InputError, match=r"finite .* candidate tower; received NaN .* b'item 13'"):
        TwoTower(look_up([0]), Broken(), toy_candidates(), candidate_features="year")
    examples = tf.data.Dataset.from_tensor_slices(
        {"user_id": [3, 4], "hour": [0.5, 2.0], "movie_id": IDS[:2]}
    )
    with pytest.raises(InputError, match=r"finite .* query tower; received NaN .* for 4"):
        TwoTower(
            Broken(), look_up(IDS), toy_candidates(), train=examples, query_id="user_id",
            query_features="hour", candidate_features="movie_id",
        )  # fmt: skip


def test_a_tower_that_gives_nan_in_a_step_stops_the_training() -> None:
    towers = TwoTower(
        Broken(), look_up(IDS), toy_candidates(),
        query_features="hour", candidate_features="movie_id",
    )  # fmt: skip
    autosample = AutoSample(towers, samplers=["rns"], objective="uniform")
    autosample.compile(sgd())
    batch = {**batch_of_features(), "hour": tf.fill([ROWS], 2.0)}
    with pytest.raises(TrainingDivergedError, match="Expected a finite loss; received nan at step"):
        autosample.fit(as_dataset(batch), callbacks=[StopOnDivergence()], verbose=0)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="examples whose 'user_id' tell queries apart"):
        table_towers(train=None)
    with pytest.raises(InputError, match="cache_steps of at least 1"):
        table_towers(cache_steps=0)
    with pytest.raises(InputError, match="queries with an id"):
        table_towers(query_id=None).pairs(toy_examples())
    with pytest.raises(InputError, match="held-out pairs for the objective 'validation'"):
        AutoSample(table_towers())
    with pytest.raises(InputError, match="two towers and their candidates"):
        AutoSample(look_up([0]), look_up(IDS))
    with pytest.raises(InputError, match="representations .* from the candidate tower"):
        TwoTower(
            look_up([0]), tf.keras.layers.Lambda(lambda x: tf.zeros([1, 2, 3])), toy_candidates()
        )
    with pytest.raises(InputError, match="model of ids to compile"):
        AutoSample(table_towers(), samplers=["rns"], objective="uniform").compile(
            sgd(), jit_compile=True
        )
