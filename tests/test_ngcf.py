"""NGCF against NumPy: layers, dropout, one optimizer step of tables and matrices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from step_oracle import bi_interactions, parameters, powers_of_adjacency, side_by_side
from test_autosample import build, masked_and_padded_batch, oracle_of, sgd
from worlds import NUM_ITEMS, NUM_USERS, from_dense, make_batch, toy_model, toy_train

from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.fitting import build as build_of
from autosample_tf.models import NGCF
from autosample_tf.models.contract import Layered, layer_width
from autosample_tf.models.ngcf import dropout
from autosample_tf.randomness import Draws
from autosample_tf.settings import Settings

NODES = NUM_USERS + NUM_ITEMS


def draws_of(step: int = 0, seed: int = 0) -> Draws:
    return Draws(seed, tf.range(4 * step, 4 * step + 4, dtype=tf.int64), 4)


def kernels_of(model: NGCF) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = zip(model.sum_kernels, model.product_kernels, strict=True)
    return [tuple(kernel.numpy().astype(float) for kernel in pair) for pair in pairs]


@pytest.mark.parametrize("layers", [1, 3])
def test_ngcf_is_its_layers_side_by_side(layers: int) -> None:
    model = NGCF(toy_train(), layers=layers, dim=4, init_scale=0.7)
    by_hand = bi_interactions(toy_train(), kernels_of(model))(parameters(model))
    expected = side_by_side(by_hand.transpose(1, 0, 2))  # [nodes, (layers + 1) * 4]
    state = model.propagate()
    found = [model.users(state, tf.range(NUM_USERS)), model.items(state, tf.range(NUM_ITEMS))]
    assert found[0].shape == (NUM_USERS, model.dim)
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


def test_one_layer_by_hand() -> None:
    """One user with one item, vectors 1 and 2: A swaps them. The user's layer is
    (2 + 1) 0.5 + (2 * 1) 0.25 = 2, the item's 1.5 + 0.5; negated, a fifth of it is left."""
    model = NGCF(from_dense(np.array([[True]])), layers=1, dim=1)
    model.user_table.assign([[1.0]])
    model.item_table.assign([[2.0]])
    for sign, expected in ((1, 2.0), (-1, -0.4)):
        model.sum_kernels[0].assign([[sign * 0.5]])
        model.product_kernels[0].assign([[sign * 0.25]])
        np.testing.assert_allclose(model.propagate()[1], [[expected], [expected]], rtol=1e-6)


def test_layers_combine_to_representations_and_are_as_wide_as_their_width() -> None:
    model = toy_model("ngcf")
    state, items = model.propagate(), tf.constant([[0, 1, 2], [3, 4, 5]])
    layers = model.item_layers(state, items)
    assert isinstance(model, Layered)
    assert (layer_width(model), layers.shape) == (4, (2, 3, 3, 4))
    np.testing.assert_array_equal(model.combine(layers), model.items(state, items))
    np.testing.assert_array_equal(model.layer_queries(model.items(state, items)), layers)


# --- dropout


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    values = tf.ones([500, 40])
    kept = dropout(values, 0.3, draws_of(), "a stream").numpy()
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.7)}
    # of 20,000 entries: 5 standard errors of the share
    assert (kept == 0).mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 20_000))
    rows = dropout(values, 0.3, draws_of(), "a stream", whole_rows=True).numpy()
    assert (rows == rows[:, :1]).all()
    assert (rows[:, 0] == 0).mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 500))


def test_what_drops_out_is_a_function_of_seed_step_and_stream() -> None:
    def kept(draws: Draws, stream: str) -> np.ndarray:
        return dropout(tf.ones([50, 8]), 0.5, draws, stream).numpy()

    np.testing.assert_array_equal(kept(draws_of(), "a"), kept(draws_of(), "a"))
    for other in ((draws_of(1), "a"), (draws_of(seed=1), "a"), (draws_of(), "b")):
        assert (kept(draws_of(), "a") != kept(*other)).any()


def test_without_draws_or_share_nothing_drops_out() -> None:
    values = tf.random.stateless_normal([5, 3], seed=[0, 0])
    np.testing.assert_array_equal(dropout(values, 0.5, None, "a"), values)
    np.testing.assert_array_equal(dropout(values, 0.0, draws_of(), "a"), values)


def test_a_dropped_nodes_messages_are_left_out_and_its_own_vector_is_not() -> None:
    model = NGCF(
        toy_train(), layers=1, dim=4, node_dropout=0.5, message_dropout=0.0, init_scale=0.7
    )
    sent = dropout(tf.ones([NODES, 1]), 0.5, draws_of(), "ngcf-0-nodes", whole_rows=True)
    own = parameters(model)
    received = powers_of_adjacency(toy_train(), 1)[1] @ (sent.numpy() * own)
    ((of_sum, of_product),) = kernels_of(model)
    mixed = (received + own) @ of_sum + (received * own) @ of_product
    expected = np.where(mixed > 0, mixed, 0.2 * mixed)
    np.testing.assert_allclose(model.propagate(draws_of())[1], expected, atol=1e-6)


def test_a_step_trains_with_dropout_and_rankings_have_none() -> None:
    moved, model = [], NGCF(toy_train(), layers=2, dim=4, init_scale=0.7)
    for dropped in (0.0, 0.5):
        own = NGCF.from_config({**model.get_config(), "message_dropout": dropped})
        np.testing.assert_array_equal(own.propagate()[2], model.propagate()[2])
        autosample = AutoSample(own, toy_train(), samplers=["rns"], objective="uniform")
        autosample.compile(sgd())
        autosample.train_step(make_batch([0, 1, 2, 4], [3, 3, 1, 8]))
        moved.append(parameters(own))
    assert np.abs(moved[0] - moved[1]).max() > 1e-3


def test_dropouts_are_settings() -> None:
    settings = Settings(model="ngcf", layers=1, dim=4, node_dropout=0.3, message_dropout=0.0)
    model = build_of(settings, toy_train())
    assert (model.node_dropout, model.message_dropout) == (0.3, 0.0)


@pytest.mark.parametrize("options", [{"node_dropout": 1.0}, {"message_dropout": -0.1}])
def test_a_dropout_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(options))} in \[0, 1\)"):
        NGCF(toy_train(), **options)


# --- one step


def test_a_step_of_sgd_moves_the_matrices_as_by_hand() -> None:
    specs = ["rns", "dns:pool=6", "dns-mn:pool=6,top=5"]
    autosample = build("ngcf", specs)
    model, batch = autosample.model, masked_and_padded_batch()
    step, rows0, before = oracle_of(autosample, batch), parameters(model), kernels_of(model)

    def loss(kernels: list[tuple[np.ndarray, np.ndarray]]) -> float:
        moved = dataclasses.replace(step, propagate=bi_interactions(toy_train(), kernels))
        return moved.loss(rows0)

    autosample.compile(sgd(0.5))
    autosample.train_step(batch)
    for layer, after in enumerate(kernels_of(model)):
        for which in range(2):
            expected = before[layer][which].copy()
            for place in np.ndindex(4, 4):
                ends = []
                for h in (1e-5, -1e-5):
                    moved = [tuple(kernel.copy() for kernel in pair) for pair in before]
                    moved[layer][which][place] += h
                    ends.append(loss(moved))
                expected[place] -= 0.5 * (ends[0] - ends[1]) / 2e-5
            assert np.abs(expected - before[layer][which]).max() > 1e-3
            np.testing.assert_allclose(after[which], expected, atol=1e-5)
