"""The order of a graph's nodes: what it is good for, and that nothing else depends on it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from worlds import NUM_ITEMS, NUM_USERS, toy_train

from autosample_tf.interactions import Interactions
from autosample_tf.models import NGCF, LightGCN
from autosample_tf.models import node_order as module
from autosample_tf.models.graph import Reordering, normalized_adjacency
from autosample_tf.models.node_order import node_order


@pytest.fixture
def for_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs as small as these are put in order too."""
    monkeypatch.setattr(module, "_IN_CACHE", 0)
    monkeypatch.setattr(module, "_FEW", 2)


def communities(count: int, size: int) -> tuple[Interactions, np.ndarray, np.ndarray]:
    """Users and items of some tastes, their ids in no order; each one's taste."""
    rng = np.random.default_rng(0)
    users, items = (rng.permutation(count * size) % count for _ in range(2))
    liked = (users[:, None] == items) & (rng.random((len(users), len(items))) < 0.3)
    pairs = Interactions.from_pairs(*np.nonzero(liked), num_users=len(users), num_items=len(items))
    return pairs, users, items


def order_of(pairs: Interactions) -> np.ndarray:
    order = node_order(*normalized_adjacency(pairs), (pairs.num_users, pairs.num_items))
    assert order is not None
    return order


@pytest.mark.usefixtures("for_any_size")
def test_users_of_a_taste_stand_together_and_so_do_items() -> None:
    pairs, users, items = communities(8, 64)
    order = order_of(pairs)
    for taste, nodes in ((users, order[: len(users)]), (items, order[len(users) :] - len(users))):
        changes = int((np.diff(taste[nodes]) != 0).sum())
        assert changes <= 40  # of 511; 7 at best, 447 expected of a random order


@pytest.mark.usefixtures("for_any_size")
def test_it_is_a_permutation_of_users_then_of_items_and_always_the_same() -> None:
    pairs = toy_train()
    order = order_of(pairs)
    np.testing.assert_array_equal(np.sort(order[:NUM_USERS]), np.arange(NUM_USERS))
    np.testing.assert_array_equal(
        np.sort(order[NUM_USERS:]), np.arange(NUM_USERS, NUM_USERS + NUM_ITEMS)
    )
    np.testing.assert_array_equal(order_of(pairs), order)


def test_what_fits_a_cache_is_left_as_it_is() -> None:
    pairs = toy_train()
    assert node_order(*normalized_adjacency(pairs), (NUM_USERS, NUM_ITEMS)) is None


def test_a_matrix_in_another_order_is_the_permuted_matrix() -> None:
    indices, values = normalized_adjacency(toy_train())
    size = NUM_USERS + NUM_ITEMS
    order = np.random.default_rng(1).permutation(size)
    dense = np.zeros((size, size))
    dense[tuple(indices.T)] = values
    moved, own = Reordering(order).matrix(indices, values)
    found = np.zeros((size, size))
    found[tuple(moved.T)] = own
    np.testing.assert_array_equal(found, dense[np.ix_(order, order)])
    keys = moved[:, 0] * size + moved[:, 1]
    assert (np.diff(keys) > 0).all()


def test_the_gradient_of_an_order_is_that_of_a_gather() -> None:
    rng = np.random.default_rng(2)
    order, rows = rng.permutation(7), tf.constant(rng.normal(size=(7, 3)))
    reordering, weights = Reordering(order), tf.constant(rng.normal(size=(7, 3)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(rows)
        ours = tf.reduce_sum(weights * reordering.apply(rows))
        theirs = tf.reduce_sum(weights * tf.gather(rows, order))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        tape.gradient(ours, rows), tf.convert_to_tensor(tape.gradient(theirs, rows))
    )
    np.testing.assert_array_equal(
        tf.gather(reordering.apply(rows), reordering.places(tf.range(7))), rows
    )


@pytest.mark.parametrize("model", [LightGCN, NGCF])
def test_a_model_gives_the_same_in_any_order(
    model: type[LightGCN | NGCF], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_they_are = seen_of(model(toy_train(), dim=4, init_scale=0.7))
    monkeypatch.setattr(module, "_IN_CACHE", 0)
    monkeypatch.setattr(module, "_FEW", 2)
    in_order = model(toy_train(), dim=4, init_scale=0.7)
    assert in_order._reordering._order is not None
    for one, other in zip(as_they_are, seen_of(in_order), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def seen_of(model: LightGCN | NGCF) -> list[tf.Tensor]:
    """All representations, layer by layer too, and the gradients of some scores."""
    users, items = tf.range(NUM_USERS), tf.range(NUM_ITEMS)
    with tf.GradientTape() as tape:
        state = model.propagate()
        vectors = model.users(state, users), model.items(state, items)
        scores = tf.reduce_sum(tf.square(model.score_all(*vectors)))
    gradients = tape.gradient(scores, model.trainable_variables)
    layers = model.user_layers(state, users), model.item_layers(state, items)
    return [*vectors, *layers, *map(tf.convert_to_tensor, gradients)]
