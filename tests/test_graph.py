"""The sparse adjacency and its product against dense NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.models.graph import SymmetricProduct, normalized_adjacency

NUM_USERS, NUM_ITEMS = 6, 9
SIZE = NUM_USERS + NUM_ITEMS


def toy_interactions(seed: int = 0) -> Interactions:
    """Random pairs in which user 4 and items 0 and 7 have none."""
    has = np.random.default_rng(seed).random((NUM_USERS, NUM_ITEMS)) < 0.4
    has[4], has[:, [0, 7]] = False, False
    users, items = np.nonzero(has)
    return Interactions.from_pairs(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS)


def dense_adjacency(interactions: Interactions) -> np.ndarray:
    """D^-1/2 [[0, R], [R^T, 0]] D^-1/2, by the definition, in float64."""
    num_users, num_items = interactions.num_users, interactions.num_items
    matrix = np.zeros((num_users + num_items, num_users + num_items))
    for user, item in zip(interactions.users, interactions.items, strict=True):
        matrix[user, num_users + item] = matrix[num_users + item, user] = 1.0
    degrees = matrix.sum(axis=1)
    roots = np.array([degree**-0.5 if degree else 0.0 for degree in degrees])
    return roots[:, None] * matrix * roots[None, :]


def build_product(interactions: Interactions) -> SymmetricProduct:
    size = interactions.num_users + interactions.num_items
    return SymmetricProduct(*normalized_adjacency(interactions), size)


def some_dense(dim: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SIZE, dim)).astype(np.float32)


def test_the_non_zeros_are_those_of_the_dense_matrix() -> None:
    for seed in range(5):
        interactions = toy_interactions(seed)
        indices, values = normalized_adjacency(interactions)
        assert indices.shape == (2 * interactions.num_pairs, 2)
        assert (indices.dtype, values.dtype) == (np.int64, np.float32)
        matrix = np.zeros((SIZE, SIZE))
        np.add.at(matrix, tuple(indices.T), values)  # an entry given twice would add up
        np.testing.assert_allclose(matrix, dense_adjacency(interactions), rtol=1e-6)


def test_a_value_is_one_over_the_root_of_the_degrees() -> None:
    # User 0 has items 0 and 1, user 1 has item 0: degrees 2 and 1, and 2 and 1.
    pairs = Interactions.from_pairs([0, 0, 1], [0, 1, 0], num_users=2, num_items=2)
    indices, values = normalized_adjacency(pairs)
    by_place = dict(zip(map(tuple, indices.tolist()), values.tolist(), strict=True))
    user_item = {(0, 2): 1 / 2, (0, 3): 2**-0.5, (1, 2): 2**-0.5}  # (2·2, 2·1, 1·2)^-1/2
    both = user_item | {(column, row): value for (row, column), value in user_item.items()}
    assert by_place == pytest.approx(both)


def test_indices_ascend_by_row_then_column() -> None:
    for seed in range(5):
        indices, _ = normalized_adjacency(toy_interactions(seed))
        keys = indices[:, 0] * SIZE + indices[:, 1]
        assert (np.diff(keys) > 0).all()


def test_the_matrix_is_symmetric_to_the_last_bit() -> None:
    """The product's gradient relies on it."""
    indices, values = normalized_adjacency(toy_interactions())
    by_place = dict(zip(map(tuple, indices.tolist()), values.tolist(), strict=True))
    assert all(by_place[column, row] == value for (row, column), value in by_place.items())


def test_users_and_items_without_pairs_have_no_non_zeros() -> None:
    indices, values = normalized_adjacency(toy_interactions())
    isolated = [4, NUM_USERS + 0, NUM_USERS + 7]
    assert not np.isin(indices, isolated).any()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("in_graph", [False, True])
def test_the_product_is_that_of_the_dense_matrix(in_graph: bool) -> None:
    interactions, dense = toy_interactions(), some_dense()
    product = build_product(interactions)

    def multiply(x: tf.Tensor) -> tf.Tensor:
        return product(product.handle(), x)

    result = (tf.function(multiply) if in_graph else multiply)(tf.constant(dense))
    np.testing.assert_allclose(result, dense_adjacency(interactions) @ dense, atol=1e-6)


def test_the_rows_of_isolated_users_and_items_are_zero() -> None:
    product = build_product(toy_interactions())
    result = product(product.handle(), tf.constant(some_dense())).numpy()
    assert (result[[4, NUM_USERS + 0, NUM_USERS + 7]] == 0).all()


@pytest.mark.parametrize("in_graph", [False, True])
def test_the_gradient_is_the_transpose_times_the_upstream_gradient(in_graph: bool) -> None:
    interactions, upstream = toy_interactions(), some_dense(seed=2)
    product = build_product(interactions)

    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(product(product.handle(), x) * upstream)
        return tape.gradient(loss, x)

    result = (tf.function(gradient) if in_graph else gradient)(tf.constant(some_dense()))
    np.testing.assert_allclose(result, dense_adjacency(interactions).T @ upstream, atol=1e-6)


def test_the_gradient_passes_through_layers_that_share_a_handle() -> None:
    # L = sum(w * (x + Ax + AAx)^2 / 2): dL/dx = (I + A + AA)^T (w * (x + Ax + AAx)).
    interactions, dense, w = toy_interactions(), some_dense(), some_dense(seed=3)
    product = build_product(interactions)
    x = tf.Variable(dense)
    with tf.GradientTape() as tape:
        handle = product.handle()
        first = product(handle, x)
        total = x + first + product(handle, first)
        loss = tf.reduce_sum(w * tf.square(total)) / 2
    adjacency = dense_adjacency(interactions)
    layers = np.eye(SIZE) + adjacency + adjacency @ adjacency
    np.testing.assert_allclose(total, layers @ dense, atol=1e-5)
    expected = layers.T @ (w * (layers @ dense))
    np.testing.assert_allclose(tape.gradient(loss, x), expected, atol=1e-5)


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_while_it_is_shared_a_graph_makes_the_matrix_once(in_a_loop: bool) -> None:
    product, x = build_product(toy_interactions()), tf.constant(some_dense())

    @tf.function(autograph=False)
    def third_power() -> tf.Tensor:
        def once_more(done: int, x: tf.Tensor) -> tuple[int, tf.Tensor]:
            return done + 1, product(product.handle(), x)

        with product.shared():
            if in_a_loop:
                return tf.while_loop(lambda done, _: done < 3, once_more, [0, x])[1]
            return once_more(0, once_more(0, once_more(0, x)[1])[1])[1]

    made = [op for op in every_operation(third_power) if op.type == "SparseTensorToCSRSparseMatrix"]
    assert len(made) == 1
    dense = dense_adjacency(toy_interactions())
    np.testing.assert_allclose(third_power(), dense @ dense @ dense @ x, atol=1e-5)
    assert product.handle() is not made[0].outputs[0]  # later ones make their own again


def every_operation(function: tf.types.experimental.PolymorphicFunction) -> list[tf.Operation]:
    """Those of its graph, and of the graphs of its loops."""
    graph = function.get_concrete_function().graph
    loops = [op for op in graph.get_operations() if "While" in op.type]
    bodies = [graph._get_function(op.get_attr("body").name).graph for op in loops]
    return [op for each in (graph, *bodies) for op in each.get_operations()]


def test_any_symmetric_matrix_will_do() -> None:
    matrix = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 3.0], [-1.0, 3.0, 0.5]], np.float32)
    indices = np.argwhere(matrix)
    product = SymmetricProduct(indices, matrix[tuple(indices.T)], 3)
    dense = np.float32([[1, 2], [3, 4], [5, 6]])
    result = product(product.handle(), tf.constant(dense))
    np.testing.assert_allclose(result, matrix @ dense)


def test_the_static_shape_survives() -> None:
    product = build_product(toy_interactions())
    function = tf.function(lambda x: product(product.handle(), x))
    graph = function.get_concrete_function(tf.TensorSpec([SIZE, 5], tf.float32))
    assert graph.outputs[0].shape == (SIZE, 5)


def test_a_graph_without_pairs_multiplies_to_zero() -> None:
    empty = Interactions.from_pairs([], [], num_users=2, num_items=3)
    product = build_product(empty)
    result = product(product.handle(), tf.ones([5, 2]))
    np.testing.assert_array_equal(result, np.zeros((5, 2)))
