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
from autosample_tf.models import NGCF
from autosample_tf.models.contract import Layered, layer_width
from autosample_tf.models.ngcf import left_out, without
from autosample_tf.ops.randomness import Draws
from autosample_tf.settings import Settings
from autosample_tf.stages.fitting import build as build_of

NODES = NUM_USERS + NUM_ITEMS


def draws_of(step: int = 0, seed: int = 0) -> Draws:
    return Draws(seed, tf.range(4 * step, 4 * step + 4, dtype=tf.int64), 4)


def kernels_of(model: NGCF) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = zip(model.sum_kernels, model.product_kernels, strict=True)
    return [tuple(kernel.numpy().astype(float) for kernel in pair) for pair in pairs]


def representations(model: NGCF, draws: Draws | None = None) -> np.ndarray:
    """Of users, then items: [nodes, dim]."""
    state = model.propagate(draws)
    users, items = tf.range(NUM_USERS), tf.range(NUM_ITEMS)
    return np.concatenate([model.users(state, users), model.items(state, items)])


@pytest.mark.parametrize("layers", [1, 3])
def test_ngcf_is_its_layers_side_by_side(layers: int) -> None:
    model = NGCF(toy_train(), layers=layers, dim=4, init_scale=0.7)
    by_hand = bi_interactions(toy_train(), kernels_of(model))(parameters(model))
    expected = side_by_side(by_hand.transpose(1, 0, 2))  # [nodes, (layers + 1) * 4]
    assert expected.shape == (NODES, model.dim)
    np.testing.assert_allclose(representations(model), expected, atol=1e-6)


def test_one_layer_by_hand() -> None:
    """One user with one item, vectors (1, 0) and (2, 0): A swaps them. With W_1 = (1.5, -5; 0, 0)
    and W_2 = (0, -2.5; 0, 0) the layer of both is (3 * 1.5, 3 * -5 + 2 * -2.5) = (4.5, -20); of
    what is below 0 a fifth is left, -4; and (4.5, -4) is scaled to length 1."""
    model = NGCF(from_dense(np.array([[True]])), layers=1, dim=2)
    model.user_table.assign([[1.0, 0.0]])
    model.item_table.assign([[2.0, 0.0]])
    model.sum_kernels[0].assign([[1.5, -5.0], [0.0, 0.0]])
    model.product_kernels[0].assign([[0.0, -2.5], [0.0, 0.0]])
    state, one = model.propagate(), tf.constant([0])
    layer = np.array([4.5, -4.0]) / np.hypot(4.5, 4.0)
    np.testing.assert_allclose(model.users(state, one), [[1.0, 0.0, *layer]], rtol=1e-6)
    np.testing.assert_allclose(model.items(state, one), [[2.0, 0.0, *layer]], rtol=1e-6)


def test_layers_combine_to_representations_and_are_as_wide_as_their_width() -> None:
    model = toy_model("ngcf")
    state, items = model.propagate(), tf.constant([[0, 1, 2], [3, 4, 5]])
    layers = model.item_layers(state, items)
    assert isinstance(model, Layered)
    assert (layer_width(model), layers.shape) == (4, (2, 3, 3, 4))
    np.testing.assert_array_equal(model.combine(layers), model.items(state, items))
    np.testing.assert_array_equal(model.layer_queries(model.items(state, items)), layers)


# --- dropout


def kept(
    shape: list[int], share: float, draws: Draws | None, stream: str = "a", width: int = 40
) -> np.ndarray:
    """What is left of ones."""
    ones = tf.ones([shape[0], width])
    return without(left_out(shape, share, draws, stream), ones, share).numpy()


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    entries = kept([500, 40], 0.3, draws_of())
    assert set(np.unique(entries)) == {np.float32(0), np.float32(1 / 0.7)}
    # of 20,000 entries: 5 standard errors of the share
    assert (entries == 0).mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 20_000))
    rows = kept([500, 1], 0.3, draws_of())
    assert (rows == rows[:, :1]).all()
    assert (rows[:, 0] == 0).mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 500))


def test_what_drops_out_is_a_function_of_seed_step_and_stream() -> None:
    def of(draws: Draws, stream: str) -> np.ndarray:
        return kept([50, 40], 0.5, draws, stream)

    np.testing.assert_array_equal(of(draws_of(), "a"), of(draws_of(), "a"))
    for other in ((draws_of(1), "a"), (draws_of(seed=1), "a"), (draws_of(), "b")):
        assert (of(draws_of(), "a") != of(*other)).any()


@pytest.mark.parametrize(("share", "draws"), [(0.5, None), (0.0, draws_of())])
def test_without_draws_or_share_nothing_drops_out(share: float, draws: Draws | None) -> None:
    assert left_out([5, 3], share, draws, "a") == ()
    assert (kept([5, 40], share, draws) == 1).all()


def test_a_dropped_nodes_messages_are_left_out_and_its_own_vector_is_not() -> None:
    model = NGCF(
        toy_train(), layers=1, dim=4, node_dropout=0.5, message_dropout=0.0, init_scale=0.7
    )
    sent = kept([NODES, 1], 0.5, draws_of(), "ngcf-0-nodes")[:, :1]
    own = parameters(model)
    received = powers_of_adjacency(toy_train(), 1)[1] @ (sent * own)
    ((of_sum, of_product),) = kernels_of(model)
    mixed = (received + own) @ of_sum + (received * own) @ of_product
    layer = np.where(mixed > 0, mixed, 0.2 * mixed)
    layer /= np.linalg.norm(layer, axis=1, keepdims=True)
    found = representations(model, draws_of())
    np.testing.assert_allclose(found, np.concatenate([own, layer], axis=1), atol=1e-5)


def test_entries_of_a_message_drop_out_of_every_layer_for_all_who_read_it() -> None:
    model = NGCF(toy_train(), layers=2, dim=8, node_dropout=0.0, init_scale=0.7)
    again = NGCF.from_config({**model.get_config(), "message_dropout": 0.4})
    rows = representations(again, draws_of())
    for layer in (1, 2):
        left = kept([NODES, 8], 0.4, draws_of(), f"ngcf-{layer - 1}-messages", width=8) > 0
        np.testing.assert_array_equal(rows[:, 8 * layer : 8 * (layer + 1)] != 0, left)
    state = again.propagate(draws_of())
    twice = again.users(state, tf.constant([[3, 1], [3, 3]])).numpy()
    np.testing.assert_array_equal(twice, rows[[[3, 1], [3, 3]]])


def test_a_step_trains_with_dropout_and_rankings_have_none() -> None:
    moved, model = [], NGCF(toy_train(), layers=2, dim=4, init_scale=0.7)
    for dropped in (0.0, 0.5):
        own = NGCF.from_config({**model.get_config(), "message_dropout": dropped})
        np.testing.assert_array_equal(representations(own), representations(model))
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
