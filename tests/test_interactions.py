"""Interactions and Dataset against sets of pairs in plain Python."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset, Interactions, distinct

NUM_USERS, NUM_ITEMS = 7, 11


def build(pairs, num_users=NUM_USERS, num_items=NUM_ITEMS):
    users, items = [user for user, _ in pairs], [item for _, item in pairs]
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


def as_set(interactions):
    return set(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def some_pairs(seed, count=30):
    draw = random.Random(seed)
    # User 3 and item 5 stay without a pair.
    users = [user for user in range(NUM_USERS) if user != 3]
    items = [item for item in range(NUM_ITEMS) if item != 5]
    return [(draw.choice(users), draw.choice(items)) for _ in range(count)]


def build_dataset(train, test, **fields):
    ids = {"user_ids": np.array(list("abcdefg")), "item_ids": np.array(list("ABCDEFGHIJK"))}
    return Dataset("tiny", build(train), build(test), **{**ids, **fields})


def test_rows_are_the_distinct_pairs_in_ascending_order():
    pairs = some_pairs(0)
    built = build(pairs)
    assert len(set(pairs)) < len(pairs)  # there are duplicates to merge
    assert built.num_pairs == len(set(pairs))
    for user in range(NUM_USERS):
        assert built.row(user).tolist() == sorted({item for u, item in pairs if u == user})


def test_types_and_sizes():
    built = build(some_pairs(1))
    assert (built.num_users, built.num_items) == (NUM_USERS, NUM_ITEMS)
    assert built.offsets.dtype == np.int64
    assert built.items.dtype == np.int32
    assert built.users.dtype == np.int32


def test_degrees_and_popularity_count_users_and_items_without_pairs_too():
    pairs = set(some_pairs(2))
    built = build(list(pairs))
    users, items = [user for user, _ in pairs], [item for _, item in pairs]
    assert built.degrees.tolist() == [users.count(user) for user in range(NUM_USERS)]
    assert built.popularity.tolist() == [items.count(item) for item in range(NUM_ITEMS)]
    assert built.degrees[3] == 0
    assert built.popularity[5] == 0


def of_another_size():
    return Interactions.from_pairs([0], [1], num_users=2, num_items=2)


def test_indices_between_whole_numbers_are_refused():
    with pytest.raises(InputError, match="whole numbers as users and items; received float64"):
        Interactions.from_pairs([0.0, 1.5], [0, 1], num_users=2, num_items=2)
    assert Interactions.from_pairs([0.0], [1.0], num_users=2, num_items=2).contains(0, 1)


def test_contains_agrees_with_a_set_for_every_pair_there_can_be():
    pairs = set(some_pairs(3))
    users, items = np.arange(NUM_USERS)[:, None], np.arange(NUM_ITEMS)
    found = build(list(pairs)).contains(users, items)
    assert found.shape == (NUM_USERS, NUM_ITEMS)
    assert {(u, i) for u, i in np.argwhere(found).tolist()} == pairs


def test_contains_no_item_beyond_the_catalogue():
    whole = build([(u, i) for u in range(NUM_USERS) for i in range(NUM_ITEMS)])
    beyond = np.array([-NUM_ITEMS, -1, NUM_ITEMS, 2 * NUM_ITEMS])
    assert not whole.contains(np.ones(4, int), beyond).any()


def test_contains_nothing_when_there_are_no_pairs():
    assert not build([]).contains(np.arange(3), np.arange(3)).any()


def test_select_keeps_the_masked_pairs_and_the_shape():
    built = build(some_pairs(4))
    mask = built.items % 2 == 0
    chosen = built.select(mask)
    assert as_set(chosen) == {(u, i) for u, i in as_set(built) if i % 2 == 0}
    assert (chosen.num_users, chosen.num_items) == (NUM_USERS, NUM_ITEMS)


def test_union_merges_pairs_of_both():
    left, right = build(some_pairs(5)), build(some_pairs(6))
    assert as_set(left) & as_set(right)  # there is something to merge
    assert as_set(left.union(right)) == as_set(left) | as_set(right)


def test_no_users_at_all():
    empty = build([], num_users=0, num_items=0)
    assert (empty.num_users, empty.num_items, empty.num_pairs) == (0, 0, 0)


def test_keys_beyond_32_bits_do_not_wrap():
    large = build([(99_999, 99_999), (99_999, 0)], num_users=100_000, num_items=100_000)
    assert as_set(large) == {(99_999, 99_999), (99_999, 0)}
    assert large.keys.tolist() == [9_999_900_000, 9_999_999_999]
    users, items = np.array([99_999, 0], np.int32), np.array([99_999, 99_999], np.int32)
    assert large.contains(users, items).tolist() == [True, False]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(7, 0)], r"user indices in \[0, 7\); received 7"),
        ([(0, 11)], r"item indices in \[0, 11\); received 11"),
        ([(-1, 0)], r"user indices in \[0, 7\); received -1"),
        ([(0, -1)], r"item indices in \[0, 11\); received -1"),
    ],
)
def test_an_index_out_of_range_is_refused(pairs, message):
    with pytest.raises(InputError, match=message):
        build(pairs)


def test_vectors_of_two_lengths_are_refused():
    with pytest.raises(InputError, match=r"\(2,\) and \(1,\)"):
        Interactions.from_pairs([0, 1], [0], num_users=2, num_items=1)


def test_distinct_is_the_sorted_set():
    values = [random.Random(7).randrange(20) for _ in range(50)]
    assert distinct(np.array(values)).tolist() == sorted(set(values))
    assert distinct(np.array([], np.int64)).tolist() == []


def test_a_dataset_without_train_pairs_is_refused():
    with pytest.raises(InputError, match="Expected train pairs"):
        build_dataset([], [(0, 0)])


def test_a_dataset_without_test_pairs_is_refused():
    with pytest.raises(InputError, match="Expected held-out test pairs"):
        build_dataset([(0, 0)], [])


def test_splits_are_those_there_in_order():
    dataset = build_dataset([(0, 0)], [(0, 1)])
    assert list(dataset.splits) == ["train", "test"]
    with_valid = dataclasses.replace(dataset, valid=build([(0, 2)]))
    assert list(with_valid.splits) == ["train", "valid", "test"]


def test_counts_name_what_is_peculiar_and_only_that():
    plain = build_dataset([(user, 0) for user in range(NUM_USERS)], [(0, 0)])
    assert plain.counts() == {"users": 7, "items": 11, "train": 7, "test": 1}
    train = [(0, item) for item in range(NUM_ITEMS - 1)] + [(1, item) for item in range(NUM_ITEMS)]
    odd = build_dataset(train, [(0, 10), (2, 3)], notes={"duplicate_pairs": 2, "others": 0})
    assert odd.counts() == {
        "users": 7,
        "items": 11,
        "train": 21,
        "test": 2,
        "users_without_train_pairs": 5,
        "users_with_whole_catalogue": 1,
        "duplicate_pairs": 2,
    }


def test_carving_validation_changes_no_count_but_the_pairs():
    train = [(1, item) for item in range(NUM_ITEMS)] + [(0, 3), (0, 4), (0, 5)]
    whole = build_dataset(train, [(0, 10), (2, 3)])
    rows = whole.train.users, whole.train.items
    valid = (rows[0] == 1) & (rows[1] > 8)  # item 10 is in train no more
    carved = dataclasses.replace(
        whole, train=whole.train.select(~valid), valid=whole.train.select(valid)
    )
    assert carved.counts() == {**whole.counts(), "train": 12, "valid": 2}


def test_counts_name_test_items_that_train_never_has():
    dataset = build_dataset([(0, 0)], [(0, 1), (1, 1), (1, 2), (2, 0)])
    assert dataset.counts()["test_items_never_in_train"] == 2


def test_given_negatives_are_counted_and_are_no_split():
    train = [(user, 0) for user in range(NUM_USERS)]
    plain = build_dataset(train, [(0, 0)])
    given = dataclasses.replace(plain, given=build([(0, 3), (1, 4)]))
    assert given.counts() == {**plain.counts(), "given_negatives": 2}
    assert list(given.splits) == ["train", "test"]
    assert as_set(given.seen) == set(train)
    assert dataclasses.replace(plain, given=build([])).counts() == plain.counts()


def test_the_checksum_is_of_given_negatives_too_where_there_are_any():
    train, test = some_pairs(8), some_pairs(9)
    plain, none, one, other, valid = (
        build_dataset(train, test, **fields).checksum()
        for fields in (
            {},
            {"given": build([])},
            {"given": build([(3, 5)])},
            {"given": build([(3, 6)])},
            {"valid": build([(3, 5)])},
        )
    )
    assert plain == none
    assert len({plain, one, other, valid}) == 4


def test_the_checksum_is_of_the_ids_and_the_pairs_alone():
    train, test = some_pairs(8), some_pairs(9)
    first = build_dataset(train, test)
    assert build_dataset(train[::-1], test, notes={"x": 1}).checksum() == first.checksum()
    renamed = np.array(list("abcdefG"))
    others = [
        build_dataset(test, train),
        build_dataset([*train, (3, 5)], test),
        build_dataset(train, test, user_ids=renamed),
        build_dataset(train, test, valid=build([(3, 5)])),
    ]
    assert len({first.checksum(), *(other.checksum() for other in others)}) == 5


def test_the_checksum_is_the_same_on_every_machine():
    dataset = build_dataset([(0, 0), (6, 10)], [(1, 2)])
    assert dataset.checksum() == "667dc241677105930fdb5a0c31556adbfc6c0041399c6e388be2579459321910"


@pytest.mark.parametrize("num_pairs", [1, 4, 10**6])
def test_blocks_of_users_follow_one_another_and_have_no_more_pairs_than_asked(num_pairs):
    built = build(some_pairs(5))
    blocks = list(built.blocks(num_pairs))
    assert [first for first, _ in blocks] == [0, *(last for _, last in blocks[:-1])]
    assert blocks[-1][1] == built.num_users
    for first, last in blocks:
        assert last - first == 1 or built.degrees[first:last].sum() <= num_pairs
    keys = np.concatenate([built.keys_of(*block) for block in blocks])
    np.testing.assert_array_equal(keys, built.keys)


def test_data_is_shown_by_its_counts() -> None:
    pairs = Interactions.from_pairs([0, 1, 1], [2, 0, 2], num_users=2, num_items=1_000)
    assert repr(pairs) == "<Interactions: 2 users, 1,000 items, 3 pairs>"
    data = Dataset("mine", pairs, pairs, np.array(["a", "b"]), np.arange(1_000).astype(str))
    assert repr(data) == "<Dataset 'mine': 2 users, 1,000 items, 3 train, 3 test>"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"valid": build([])}, "or None to carve them from train; received none"),
        ({"test": of_another_size()}, "test pairs of train's .* received 2 users and 2 items"),
        ({"given": of_another_size()}, "given pairs of train's"),
        ({"user_ids": np.array(["one"])}, "an id of each of .* received 1 and"),
    ],
)
def test_a_dataset_whose_parts_do_not_fit_is_refused(changes, told):
    whole = {
        "name": "toy",
        "train": build([(0, 0)]),
        "test": build([(0, 1)]),
        "user_ids": np.arange(NUM_USERS).astype(str),
        "item_ids": np.arange(NUM_ITEMS).astype(str),
    }
    Dataset(**whole)
    with pytest.raises(InputError, match=told):
        Dataset(**{**whole, **changes})
