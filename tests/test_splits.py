"""Hold-outs against a slow oracle in plain Python, and stored hashes."""

from __future__ import annotations

import dataclasses
import hashlib
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest

from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.splits import hold_out, with_validation


def users_with(*degrees, num_items=400):
    """Users with so many items each, spread over the catalogue."""
    pairs = [
        (user, (user * 31 + place * 7) % num_items)
        for user, degree in enumerate(degrees)
        for place in range(degree)
    ]
    users, items = zip(*pairs, strict=True)
    return Interactions.from_pairs(users, items, num_users=len(degrees), num_items=num_items)


def splitmix64(state):
    mask = 2**64 - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def oracle(interactions, fraction, seed):
    """The held-out pairs, a user at a time."""
    held = set()
    for user in range(interactions.num_users):
        row = interactions.row(user).tolist()
        exact = Decimal(str(fraction)) * len(row)
        count = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
        count = 0 if len(row) < 3 else min(max(count, 1), len(row) - 1)
        user_key = splitmix64(splitmix64(seed % 2**64) ^ user)
        row.sort(key=lambda item, key=user_key: splitmix64(key ^ item))
        held |= {(user, item) for item in row[:count]}
    return held


def as_set(interactions):
    return set(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def digest(interactions):
    return hashlib.sha256(interactions.keys.astype("<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("seed", [0, 1, 2023, 2**64 - 1, -5])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.29, 1 / 3, 0.5, 0.999])
def test_agrees_with_the_oracle(fraction, seed):
    pairs = users_with(*range(60), 200, 350)
    kept, held = hold_out(pairs, fraction, seed=seed)
    assert as_set(held) == oracle(pairs, fraction, seed)
    assert as_set(kept) == as_set(pairs) - as_set(held)


def test_blocks_of_users_are_parted_as_all_together(monkeypatch):
    pairs = users_with(*range(60), 200, 350)
    whole = hold_out(pairs, 0.2, seed=1)
    monkeypatch.setattr(Interactions.blocks, "__defaults__", (100,))
    assert [as_set(part) for part in hold_out(pairs, 0.2, seed=1)] == [as_set(p) for p in whole]


def test_the_oracle_is_splitmix64():
    # The first outputs of the published generator seeded with 1234567.
    gamma = 0x9E3779B97F4A7C15
    assert splitmix64(1234567) == 6457827717110365317
    assert splitmix64((1234567 + gamma) % 2**64) == 3203168211198807973


@pytest.mark.parametrize(
    ("degree", "fraction", "held"),
    [
        (0, 0.5, 0),
        (1, 0.5, 0),
        (2, 0.9, 0),  # below three: none
        (3, 0.1, 1),  # 0.3, but at least one
        (3, 0.99, 2),  # never all
        (14, 0.1, 1),  # 1.4
        (15, 0.1, 2),  # 1.5 rounds up
        (25, 0.1, 3),  # 2.5 rounds up, not to even
        (50, 0.29, 15),  # 14.5, though 50 * 0.29 is 14.499… in floats
        (300, 1e-9, 1),
        (300, 1 - 1e-9, 299),
    ],
)
def test_how_many_are_held_out(degree, fraction, held):
    # The second user makes sure that somebody has three pairs.
    kept, out = hold_out(users_with(degree, 3), fraction, seed=0)
    assert out.degrees[0] == held
    assert kept.degrees[0] == degree - held


def test_the_choice_is_the_same_on_every_machine():
    kept, held = hold_out(users_with(*range(100)), 0.2, seed=2023)
    assert (kept.num_pairs, held.num_pairs) == (3960, 990)
    assert (digest(kept), digest(held)) == ("94e57f2b382465ee", "70ac5f8d07f02901")


def test_another_seed_makes_another_choice():
    pairs = users_with(*[20] * 50)
    first, second = (as_set(hold_out(pairs, 0.2, seed=seed)[1]) for seed in (0, 1))
    # By chance a fifth of 200 pairs are in both.
    assert 10 < len(first & second) < 90


def test_every_item_has_the_same_chance():
    pairs = users_with(*[10] * 4000, num_items=40)
    held = hold_out(pairs, 0.2, seed=3)[1]
    shares = held.popularity / pairs.popularity
    # About 1000 users an item: the share's standard deviation is √(.2 · .8 / 1000) = 0.013.
    assert np.abs(shares - 0.2).max() < 5 * 0.013


def test_a_users_choice_does_not_depend_on_the_others():
    alone = hold_out(users_with(30), 0.2, seed=4)[1]
    among = hold_out(users_with(30, 40, 50), 0.2, seed=4)[1]
    assert alone.row(0).tolist() == among.row(0).tolist()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match="between 0 and 1, both excluded; received"):
        hold_out(users_with(5), fraction, seed=0)


def test_nobody_with_three_pairs_is_refused():
    with pytest.raises(InputError, match="at least 3 pairs .*received 4 pairs of 3 users"):
        hold_out(users_with(2, 2, 0), 0.5, seed=0)


def make_dataset(valid=None):
    train, test = hold_out(users_with(*range(20)), 0.2, seed=0)
    ids = {"user_ids": np.arange(20).astype(str), "item_ids": np.arange(400).astype(str)}
    return Dataset("tiny", train, test, valid=valid, **ids)


def test_validation_is_carved_from_train():
    dataset = make_dataset()
    carved = with_validation(dataset, 0.1, seed=5)
    assert as_set(carved.valid) == oracle(dataset.train, 0.1, 5)
    assert as_set(carved.train) == as_set(dataset.train) - as_set(carved.valid)
    assert carved.test is dataset.test


def test_given_negatives_stay_when_validation_is_carved():
    dataset = dataclasses.replace(make_dataset(), given=users_with(*[3] * 20))
    assert with_validation(dataset, 0.1, seed=5).given is dataset.given


def test_a_validation_split_that_is_there_stays():
    dataset = make_dataset(valid=users_with(*range(20)))
    assert with_validation(dataset, 0.1, seed=5) is dataset
