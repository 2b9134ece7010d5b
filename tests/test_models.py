"""The contract that every model keeps, and LightGCN against dense NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from step_oracle import powers_of_adjacency
from worlds import (
    ALL_BUT_ONE,
    NEWCOMER,
    NUM_ITEMS,
    NUM_USERS,
    WHOLE_CATALOGUE,
    from_dense,
    make_batch,
    small_specs,
    to_dense,
    toy_feedback,
    toy_model,
    toy_train,
)

from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.models import MODELS, LightGCN, build_model
from autosample_tf.models.contract import is_dot_product
from autosample_tf.pipeline import training_batches

DIM = 4  # of layer 0; ngcf's representation has that of two layers more beside it
DIMS = {"mf": DIM, "lightgcn": DIM, "neumf": DIM, "ngcf": 3 * DIM}


def ids(*shape: int, below: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).integers(0, below, shape), tf.int32)


def representations(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of all users and all items."""
    state = model.propagate()
    users = model.users(state, tf.range(model.num_users)).numpy()
    return users, model.items(state, tf.range(model.num_items)).numpy()


def tables(model: Any) -> list[np.ndarray]:
    """Layer 0 of users and of items."""
    return [model.user_table.numpy(), model.item_table.numpy()]


def variables(model: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.parametrize("kind", MODELS)
class TestContract:
    def test_sizes(self, kind: str) -> None:
        model = toy_model(kind)
        assert (model.num_users, model.num_items, model.dim) == (NUM_USERS, NUM_ITEMS, DIMS[kind])

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 5), (0,), (0, 4)])
    def test_ids_of_any_rank_are_rows(self, kind: str, shape: tuple[int, ...]) -> None:
        model = toy_model(kind)
        all_users, all_items = representations(model)
        state = model.propagate()
        users, items = ids(*shape, below=NUM_USERS), ids(*shape, below=NUM_ITEMS)
        for found, rows, chosen in (
            (model.users(state, users), all_users, users),
            (model.items(state, items), all_items, items),
        ):
            assert found.shape == (*shape, model.dim)
            np.testing.assert_allclose(found, rows[chosen.numpy()], atol=1e-6)

    def test_score_broadcasts(self, kind: str) -> None:
        model, state = toy_model(kind), toy_model(kind).propagate()
        users = model.users(state, ids(3, below=NUM_USERS))
        one = model.score(users, model.items(state, ids(3, below=NUM_ITEMS)))
        many = model.score(users[:, None, :], model.items(state, ids(3, 5, below=NUM_ITEMS)))
        assert (one.shape, many.shape) == ((3,), (3, 5))

    def test_score_and_score_all_agree(self, kind: str) -> None:
        model = toy_model(kind)
        users, items = map(tf.constant, representations(model))
        pairwise = model.score(users[:, None, :], items[None, :, :])
        np.testing.assert_allclose(model.score_all(users, items), pairwise, atol=1e-5)

    def test_a_call_scores_pairs(self, kind: str) -> None:
        model = toy_model(kind)
        users, items = ids(5, below=NUM_USERS), ids(5, below=NUM_ITEMS)
        rows = representations(model)
        expected = model.score(rows[0][users.numpy()], rows[1][items.numpy()])
        np.testing.assert_allclose(model((users, items)), expected, atol=1e-6)

    def test_penalties_are_half_the_squared_norms_of_layer_0(self, kind: str) -> None:
        model, state = toy_model(kind), toy_model(kind).propagate()
        users, items = ids(5, below=NUM_USERS), ids(5, 3, below=NUM_ITEMS, seed=2)
        of_users, of_items = ((table**2).sum(1) / 2 for table in tables(model))
        penalty = model.user_penalty(users, model.users(state, users))
        np.testing.assert_allclose(penalty, of_users[users], rtol=1e-5)
        penalty = model.item_penalty(items, model.items(state, items))
        np.testing.assert_allclose(penalty, of_items[items], rtol=1e-5)

    def test_blocks_of_users_have_items_of_their_own(self, kind: str) -> None:
        model = toy_model(kind)
        rng = np.random.default_rng(0)
        users, items = (tf.constant(rng.normal(size=(3, n, model.dim)), tf.float32) for n in (2, 5))
        scores = model.score_all(users, items)
        for block in range(3):
            expected = model.score_all(users[block], items[block])
            np.testing.assert_allclose(scores[block], expected, atol=1e-6)

    def test_every_variable_has_a_gradient(self, kind: str) -> None:
        model = toy_model(kind)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model((ids(5, below=NUM_USERS), ids(5, below=NUM_ITEMS))))
        gradients = tape.gradient(value, model.trainable_variables)
        assert all(np.abs(tf.convert_to_tensor(g).numpy()).max() > 0 for g in gradients)

    def test_equal_seeds_begin_equal(self, kind: str) -> None:
        for one, other in zip(variables(toy_model(kind)), variables(toy_model(kind)), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_other_seeds_begin_otherwise(self, kind: str) -> None:
        one, other = toy_model(kind, seed=0), toy_model(kind, seed=1)
        pairs = zip(variables(one), variables(other), strict=True)
        assert all((a != b).any() for a, b in pairs if a.any())  # biases begin at 0

    def test_users_and_items_do_not_begin_alike(self, kind: str) -> None:
        user_table, item_table = tables(toy_model(kind))
        assert (user_table != item_table[:NUM_USERS]).any()

    def test_entries_begin_normal_with_the_scale_given(self, kind: str) -> None:
        train = from_dense(np.eye(300, 400, dtype=bool))
        model = build_model(kind, train, dim=16)
        for table in tables(model):
            # of 4,800 normal entries: 5 standard errors of the mean and of the deviation
            assert abs(table.mean()) < 5 * model.init_scale / np.sqrt(table.size)
            assert table.std() == pytest.approx(model.init_scale, rel=5 / np.sqrt(2 * table.size))

    def test_the_config_builds_the_model_again(self, kind: str) -> None:
        model = toy_model(kind)
        config = json.loads(json.dumps(model.get_config()))  # as a file would hold it
        again = type(model).from_config(config)
        assert again.get_config() == model.get_config()
        for one, other in zip(representations(model), representations(again), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("name", ["weights", "model.weights.h5"])
    def test_saved_weights_load(self, kind: str, name: str, tmp_path: Path) -> None:
        model, other = toy_model(kind), toy_model(kind, seed=1)
        model.save_weights(tmp_path / name)
        other.load_weights(tmp_path / name)
        for one, two in zip(representations(model), representations(other), strict=True):
            np.testing.assert_array_equal(one, two)

    def test_a_graph_computes_what_python_computes(self, kind: str) -> None:
        model = toy_model(kind)
        pair = ids(5, below=NUM_USERS), ids(5, below=NUM_ITEMS)
        np.testing.assert_allclose(tf.function(model.call)(pair), model(pair), atol=1e-6)

    def test_it_is_built_by_name(self, kind: str) -> None:
        built = build_model(kind, toy_train(), dim=DIM, layers=2, seed=7)
        assert type(built) is type(toy_model(kind))
        assert (built.dim, built.seed, built.num_items) == (DIMS[kind], 7, NUM_ITEMS)
        assert getattr(built, "num_layers", 2) == 2

    def test_whether_its_score_is_a_dot_product_is_known_by_its_class(self, kind: str) -> None:
        assert is_dot_product(type(toy_model(kind))) == (kind != "neumf")

    def test_what_is_propagated_without_draws_is_always_the_same(self, kind: str) -> None:
        model = build_model(kind, toy_train(), dim=DIM, layers=2)  # ngcf with its dropout
        for one, two in zip(representations(model), representations(model), strict=True):
            np.testing.assert_array_equal(one, two)

    def test_no_negative_is_a_train_positive(self, kind: str) -> None:
        autosample = trained_under(toy_model(kind), small_specs())
        batch = make_batch([0, 1, 2, ALL_BUT_ONE, WHOLE_CATALOGUE], [1, 2, 3, 4, 5])
        liked = to_dense(toy_train())
        for answer in autosample.sample(batch).negatives:
            used = answer.weights.numpy() > 0
            users = np.broadcast_to(batch["user"].numpy()[:, None], used.shape)
            assert not liked[users[used], answer.items.numpy()[used]].any()
            assert not used[batch["user"].numpy() == WHOLE_CATALOGUE].any()

    def test_a_drop_retraces_the_step_without_the_sampler(self, kind: str) -> None:
        autosample = trained_under(toy_model(kind), ["rns", "dns:pool=6"])
        batches = training_batches(toy_train(), 8, seed=0)
        before = autosample.fit(batches, steps_per_epoch=2, verbose=0).history
        autosample.drop(["rns"])
        after = autosample.fit(batches, steps_per_epoch=2, verbose=0).history
        assert {"loss/rns", "loss/dns:pool=6"} <= set(before)
        assert "loss/rns" not in after
        assert np.isfinite(after["loss/dns:pool=6"]).all()

    def test_training_goes_on_from_saved_weights_as_it_would_have(
        self, kind: str, tmp_path: Path
    ) -> None:
        """Two steps of SGD, or one, the weights saved and loaded, and the other."""
        batches = list(training_batches(toy_train(), 8, seed=0).take(2))
        whole = trained_under(toy_model(kind), ["rns"])
        for batch in batches:
            whole.train_step(batch)
        first = trained_under(toy_model(kind), ["rns"])
        first.train_step(batches[0])
        first.model.save_weights(tmp_path / "weights")
        again = toy_model(kind, seed=1)
        again.load_weights(tmp_path / "weights")
        trained_under(again, ["rns"]).train_step(batches[1])
        for one, other in zip(variables(whole.model), variables(again), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def trained_under(model: Any, specs: list[str]) -> AutoSample:
    autosample = AutoSample(
        model, toy_train(), samplers=specs, objective="uniform", given=toy_feedback().given
    )
    autosample.compile(tf.keras.optimizers.SGD(0.1, jit_compile=False))
    return autosample


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown model 'gcn'\. Known: lightgcn, mf, neumf, ngcf"):
        build_model("gcn", toy_train())


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_a_score_of_tables_is_their_dot_product(kind: str) -> None:
    users, items = representations(toy_model(kind))
    scores = toy_model(kind).score_all(tf.constant(users), tf.constant(items))
    np.testing.assert_allclose(scores, users.astype(float) @ items.astype(float).T, atol=1e-6)


def test_mf_is_its_tables() -> None:
    model = toy_model("mf")
    for found, table in zip(representations(model), tables(model), strict=True):
        np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_lightgcn_is_the_mean_of_its_layers(layers: int) -> None:
    """1/(L+1) sum_l A^l E, A = D^-1/2 [[0, R], [R^T, 0]] D^-1/2, all dense."""
    train = toy_train()
    model = LightGCN(train, layers=layers, dim=DIM, init_scale=1.0)
    expected = powers_of_adjacency(train, layers).mean(axis=0) @ np.concatenate(
        tables(model)
    ).astype(float)
    np.testing.assert_allclose(np.concatenate(representations(model)), expected, atol=1e-6)


def test_one_layer_by_hand() -> None:
    """User 0 has items 0 and 1, user 1 item 1: degrees 2, 1 and 1, 2."""
    model = LightGCN(from_dense(np.array([[True, True], [False, True]])), layers=1, dim=1)
    model.user_table.assign([[1.0], [10.0]])
    model.item_table.assign([[100.0], [1000.0]])
    users, items = representations(model)
    root = np.sqrt(2)
    np.testing.assert_allclose(
        users[:, 0], [(1 + 100 / root + 1000 / 2) / 2, (10 + 1000 / root) / 2], rtol=1e-6
    )
    np.testing.assert_allclose(
        items[:, 0], [(100 + 1 / root) / 2, (1000 + 1 / 2 + 10 / root) / 2], rtol=1e-6
    )


@pytest.mark.parametrize("layers", [1, 3])
def test_a_node_without_a_pair_keeps_its_share_of_layer_0(layers: int) -> None:
    liked = to_dense(toy_train())
    liked[:, 13] = False
    model = LightGCN(from_dense(liked), layers=layers, dim=DIM)
    users, items = representations(model)
    user_table, item_table = tables(model)
    np.testing.assert_allclose(users[NEWCOMER], user_table[NEWCOMER] / (layers + 1), rtol=1e-6)
    np.testing.assert_allclose(items[13], item_table[13] / (layers + 1), rtol=1e-6)


def test_the_gradient_of_lightgcn_is_its_own_transpose() -> None:
    """d/dE <G, M E> = M^T G, and M is symmetric."""
    train, model = toy_train(), LightGCN(toy_train(), layers=3, dim=DIM)
    upstream = np.random.default_rng(0).normal(size=(NUM_USERS + NUM_ITEMS, DIM))
    with tf.GradientTape() as tape:
        state = model.propagate()
        everybody = tf.range(NUM_USERS), tf.range(NUM_ITEMS)
        both = model.users(state, everybody[0]), model.items(state, everybody[1])
        rows = tf.concat(both, axis=0)
        value = tf.reduce_sum(rows * tf.constant(upstream, tf.float32))
    gradient = np.concatenate(tape.gradient(value, model.trainable_variables))
    np.testing.assert_allclose(
        gradient, powers_of_adjacency(train, 3).mean(axis=0).T @ upstream, atol=1e-5
    )


def test_lightgcn_without_layers_is_refused() -> None:
    with pytest.raises(InputError, match="at least one layer"):
        LightGCN(toy_train(), layers=0)


def test_the_config_of_lightgcn_keeps_its_graph_and_depth() -> None:
    model = LightGCN(toy_train(), layers=3, dim=2, init_scale=0.5, seed=9)
    again = LightGCN.from_config(model.get_config())
    assert (again.num_layers, again.dim, again.init_scale, again.seed) == (3, 2, 0.5, 9)
    for one, other in zip(representations(model), representations(again), strict=True):
        np.testing.assert_array_equal(one, other)
