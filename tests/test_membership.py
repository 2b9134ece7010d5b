"""PairSet answers as a Python set of pairs does, in eager mode, graphs and XLA."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.ops.membership import _TABLES, SIDES, HashTables, PairSet, build_hash_tables

Pairs = list[tuple[int, int]]

TOY_SETS: dict[str, tuple[Pairs, int, int]] = {
    "no pairs": ([], 3, 4),
    "one pair": ([(2, 3)], 4, 5),
    "the pair of key 0": ([(0, 0)], 4, 5),
    "one user, one item": ([(0, 0)], 1, 1),
    "full rows among empty ones": ([(user, item) for user in (1, 4) for item in range(9)], 6, 9),
    "a full column": ([(user, 2) for user in range(11)], 11, 5),
    "all pairs": ([(user, item) for user in range(13) for item in range(17)], 13, 17),
    "a checkerboard": ([(u, i) for u in range(20) for i in range(20) if (u + i) % 2], 20, 20),
}


def build(pairs: Pairs, num_users: int, num_items: int) -> Interactions:
    users, items = [user for user, _ in pairs], [item for _, item in pairs]
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


def eager(pairs: PairSet) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return pairs.contains


def graph(pairs: PairSet) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return tf.function(pairs.contains)


def xla(pairs: PairSet) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    return tf.function(pairs.contains, jit_compile=True)


@pytest.mark.parametrize("mode", [eager, graph, xla])
@pytest.mark.parametrize("name", TOY_SETS)
def test_every_pair_of_a_toy_world_is_answered_exactly(name: str, mode: Callable) -> None:
    pairs, num_users, num_items = TOY_SETS[name]
    users = tf.range(num_users)
    items = tf.tile(tf.range(num_items)[None], [num_users, 1])
    answers = mode(PairSet(build(pairs, num_users, num_items)))(users, items)
    expected = [[(u, i) in set(pairs) for i in range(num_items)] for u in range(num_users)]
    assert answers.dtype == tf.bool
    assert answers.numpy().tolist() == expected


@pytest.mark.parametrize("density", [0.02, 0.5, 0.98])
def test_every_pair_of_random_worlds_is_answered_exactly(density: float) -> None:
    for seed in range(20):
        has = np.random.default_rng(seed).random((23, 31)) < density
        pairs = PairSet(build(np.argwhere(has).tolist(), 23, 31))
        answers = pairs.contains(tf.range(23), tf.tile(tf.range(31)[None], [23, 1]))
        np.testing.assert_array_equal(answers, has)


@pytest.mark.parametrize("mode", [eager, xla])
def test_a_large_set_answers_as_a_binary_search(mode: Callable) -> None:
    rng = np.random.default_rng(0)
    num_users, num_items = 5_000, 7_000
    interactions = Interactions.from_pairs(
        rng.integers(0, num_users, 200_000),
        rng.integers(0, num_items, 200_000) // rng.integers(1, 50, 200_000),  # some popular
        num_users=num_users,
        num_items=num_items,
    )
    contains = mode(PairSet(interactions))
    known = contains(tf.constant(interactions.users), tf.constant(interactions.items[:, None]))
    assert known.numpy().all()
    users = rng.integers(0, num_users, 4096).astype(np.int32)
    items = (rng.integers(0, num_items, (4096, 32)) // rng.integers(1, 50, 32)).astype(np.int32)
    expected = interactions.contains(users[:, None], items)
    assert 0.01 < expected.mean() < 0.99
    np.testing.assert_array_equal(contains(tf.constant(users), tf.constant(items)), expected)


@pytest.mark.parametrize("mode", [eager, xla])
def test_keys_beyond_32_bits_are_told_apart(mode: Callable) -> None:
    # 10^5 users times 10^6 items: keys up to 10^11, far more than 2^32.
    num_users, num_items = 100_000, 1_000_000
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, num_users, 3000), rng.integers(0, num_items, 3000)
    interactions = Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)
    assert interactions.keys.max() > 2**36
    contains = mode(PairSet(interactions))
    known = contains(tf.constant(users, tf.int32), tf.constant(items[:, None], tf.int32))
    assert known.numpy().all()
    # Not in the set, though equal to a key of it in the low 32 bits, or next to one.
    keys = interactions.keys
    others = np.concatenate([keys + 2**32, keys - 2**32, keys + 2**31, keys + 1, keys - 1])
    others = others[(others >= 0) & (others < num_users * num_items)]
    users, items = np.divmod(others, num_items)
    answers = contains(tf.constant(users, tf.int32), tf.constant(items[:, None], tf.int32))
    np.testing.assert_array_equal(answers[:, 0], np.isin(others, keys))
    assert len(others) > 10_000


def test_rows_are_asked_with_their_own_user() -> None:
    pairs = PairSet(build([(0, 1), (1, 2), (2, 0)], 3, 3))
    users, items = tf.constant([2, 0, 2]), tf.constant([[0, 1], [0, 1], [1, 0]])
    assert pairs.contains(users, items).numpy().tolist() == [
        [True, False],
        [False, True],
        [False, True],
    ]


def test_the_shape_is_static_in_a_graph_and_the_batch_may_be_open() -> None:
    pairs = PairSet(build([(0, 1)], 3, 3))
    function = tf.function(pairs.contains)
    specs = [tf.TensorSpec([4], tf.int32), tf.TensorSpec([4, 7], tf.int32)]
    assert function.get_concrete_function(*specs).outputs[0].shape == (4, 7)
    specs = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 7], tf.int32)]
    assert function.get_concrete_function(*specs).outputs[0].shape.as_list() == [None, 7]


def of_one_user(items: np.ndarray, num_items: int) -> Interactions:
    return Interactions.from_pairs(np.zeros_like(items), items, num_users=1, num_items=num_items)


ROWS = {
    "none": (np.arange(0), 7),
    "one": (np.arange(1), 1),
    "all there are": (np.arange(5000), 5000),
    "as many as a table carries": (np.arange(0, 838_860 * 3, 3), 2**22),
    "hashes alike in their lowest bits": (np.arange(2000) << 20, 2**31 - 1),
    "the largest": (np.array([0, 2**30, 2**31 - 2]), 2**31 - 1),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_table_holds_each_item_once_where_it_is_looked_for(name: str) -> None:
    items, num_items = ROWS[name]
    train = of_one_user(items, num_items)
    tables = build_hash_tables(train)
    held = np.flatnonzero(tables.slots >= 0)
    assert sorted(tables.slots[held]) == items.tolist()
    assert len(items) <= 0.8 * len(tables.slots)
    users, sides = np.zeros(len(held), np.int64), range(len(SIDES))
    places = [tables.places(users, tables.slots[held], np.full(len(held), side)) for side in sides]
    assert np.any([place == held for place in places], axis=0).all()


def test_a_users_places_are_in_a_table_of_their_own() -> None:
    rng = np.random.default_rng(3)
    users, items = rng.zipf(1.5, 4000) % 97, rng.integers(0, 500, 4000)
    train = Interactions.from_pairs(users, items, num_users=97, num_items=500)
    tables = build_hash_tables(train)
    ends = np.append(tables.firsts[1:], len(tables.slots))
    np.testing.assert_array_equal(ends - tables.firsts, 2 ** (32 - tables.shifts))
    side, item = (grid.ravel() for grid in np.indices((len(SIDES), 500), np.int32))
    for user in range(97):
        places = tables.places(np.full(len(item), user), item, side)
        assert tables.firsts[user] <= places.min()
        assert places.max() < ends[user]
        own = tables.slots[tables.firsts[user] : ends[user]]
        assert sorted(own[own >= 0]) == train.row(user).tolist()


def test_equal_pairs_have_equal_tables() -> None:
    train = of_one_user(np.arange(0, 999, 3), 999)
    first, second = build_hash_tables(train), build_hash_tables(train)
    np.testing.assert_array_equal(first.slots, second.slots)
    np.testing.assert_array_equal(first.multipliers, second.multipliers)


def test_items_that_do_not_fit_are_placed_by_another_multiplier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = build([(user, item) for user in range(9) for item in range(user)], 9, 9)
    placed, once = HashTables._without_a_place, iter([np.array([4, 7])])

    def fails_at_first(tables, users, items, rng):
        return np.union1d(placed(tables, users, items, rng), next(once, np.arange(0)))

    monkeypatch.setattr(HashTables, "_without_a_place", fails_at_first)
    tables = build_hash_tables(train)
    monkeypatch.undo()
    first = build_hash_tables(train)
    assert np.flatnonzero(tables.multipliers != first.multipliers).tolist() == [4, 7]
    assert sorted(tables.slots[tables.slots >= 0]) == sorted(train.items)


@pytest.mark.parametrize("num_users", [0, 3])
def test_no_pairs_need_no_more_than_empty_tables(num_users: int) -> None:
    tables = build_hash_tables(build([], num_users, 4))
    assert len(tables.slots) == max(1, 2 * num_users)
    assert (tables.slots < 0).all()


def test_dense_real_pairs_are_answered_exactly(data_root) -> None:
    from autosample_tf.catalog import load

    if not (data_root / "ml-1m-m1").is_dir():
        pytest.skip("no ml-1m-m1 in the real data")
    train = load("ml-1m-m1", data_dir=data_root).train
    users = np.arange(0, train.num_users, 50, dtype=np.int32)
    items = np.tile(np.arange(train.num_items, dtype=np.int32), (len(users), 1))
    answers = PairSet(train).contains(users, items).numpy()
    np.testing.assert_array_equal(answers, train.contains(users[:, None], items))


def test_sets_of_the_same_pairs_share_tables_as_long_as_the_pairs_are_there() -> None:
    interactions = build([(0, 1), (2, 0)], 3, 3)
    first, second = PairSet(interactions), PairSet(interactions)
    assert first._tables is second._tables
    assert PairSet(build([(0, 1), (2, 0)], 3, 3))._tables is not first._tables
    tables = len(_TABLES)
    del interactions
    gc.collect()
    assert len(_TABLES) < tables
