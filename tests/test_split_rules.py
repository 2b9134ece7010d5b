"""Splits by rule against slow oracles in plain Python, and stored hashes."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import pytest

from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.reading.split_rules import RULES, parse_rule
from autosample_tf.splits import hold_out


def world(num_users=60, num_items=50):
    """User u has u % 12 pairs, at times that tie often and depend on nothing random."""
    pairs = [
        (user, (user * 7 + place * 11) % num_items)
        for user in range(num_users)
        for place in range(user % 12)
    ]
    users, items = map(np.array, zip(*pairs, strict=True))
    rows = Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)
    times = (rows.users * 5 + rows.items * 3) % 23 + 1.6e9
    return rows, times


def split(spec, seed=0):
    rows, times = world()
    return parse_rule(spec).split(rows, times, seed=seed)


def as_set(rows):
    return set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))


def digests(splits):
    return {
        name: hashlib.sha256(rows.keys.astype("<i8").tobytes()).hexdigest()[:12]
        for name, rows in splits.items()
    }


# Stored: these are the splits on every machine, or results of old runs mean something else.
HASHES = {
    "random": {"train": "9a065f0c1a56", "test": "a3f465901a9b"},
    "leave-one-out": {"train": "b1d62f3ab358", "valid": "d2ee70e3bfa2", "test": "8e22530c20c0"},
    "leave-last": {"train": "eda3e3cc00f2", "valid": "e9011213c591", "test": "6ba642329622"},
    "leave-last:n=2": {"train": "76deb2efe195", "valid": "474f2c04c95e", "test": "e13df0c8618b"},
    "time": {"train": "c931e3a38e01", "valid": "2cec1e953920", "test": "0c9185727589"},
    "time:fraction=0.3,valid=0.25": {
        "train": "c6648a59a1e7",
        "valid": "005f3a4f48d9",
        "test": "18f50ae58f3e",
    },
    "time:since=1600000010": {
        "train": "e90a86100331",
        "valid": "237420672f54",
        "test": "c084f905d8d5",
    },
}


@pytest.mark.parametrize("spec", HASHES)
def test_the_splits_are_the_same_on_every_machine(spec):
    assert digests(split(spec, seed=2023)) == HASHES[spec]


@pytest.mark.parametrize("spec", HASHES)
def test_every_pair_is_in_one_split(spec):
    rows, splits = world()[0], split(spec)
    assert sum(part.num_pairs for part in splits.values()) == rows.num_pairs
    assert set.union(*map(as_set, splits.values())) == as_set(rows)
    assert list(splits) == (["train", "test"] if spec == "random" else ["train", "valid", "test"])


def test_random_is_hold_out():
    train, test = hold_out(world()[0], 0.2, seed=7)
    splits = split("random:fraction=0.2", seed=7)
    assert (as_set(splits["train"]), as_set(splits["test"])) == (as_set(train), as_set(test))
    assert digests(split(None, seed=7)) == digests(splits)


def test_leave_one_out_takes_two_of_each_user_with_three():
    rows, splits = world()[0], split("leave-one-out")
    wanted = np.where(rows.degrees >= 3, 1, 0)
    assert splits["test"].degrees.tolist() == wanted.tolist()
    assert splits["valid"].degrees.tolist() == wanted.tolist()


def test_leave_one_out_is_random():
    chosen = [as_set(split("leave-one-out", seed=seed)["test"]) for seed in range(2)]
    # A user with n pairs, 3 to 11, has the same chosen again with probability 1 / n: of 45
    # users 5 (1/3 + … + 1/11) = 7.6 are expected, with a standard deviation of 2.4.
    assert 0 < len(chosen[0] & chosen[1]) < 7.6 + 5 * 2.4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_leave_last_agrees_with_the_oracle(n):
    (rows, times), splits = world(), split(f"leave-last:n={n}")
    of_user = defaultdict(list)
    for user, item, time in zip(rows.users, rows.items, times, strict=True):
        of_user[user].append((time, item))
    for user, own in of_user.items():
        moments = sorted((time for time, _ in own), reverse=True)
        is_at = {item: time for time, item in own}
        tested = sorted((is_at[item] for item in splits["test"].row(user)), reverse=True)
        valid = sorted((is_at[item] for item in splits["valid"].row(user)), reverse=True)
        enough = len(own) > 2 * n
        assert tested == (moments[:n] if enough else [])
        assert valid == (moments[n : 2 * n] if enough else [])


def test_ties_in_time_are_parted_by_the_seed():
    rows, _ = world()
    never = np.zeros(rows.num_pairs)
    first, second = (parse_rule("leave-last").split(rows, never, seed=seed) for seed in (0, 1))
    assert digests(first) != digests(second)
    assert digests(first) == digests(parse_rule("leave-one-out").split(rows, None, seed=0))


@pytest.mark.parametrize(("fraction", "valid"), [(0.2, 0.1), (0.01, 0.5), (0.6, 0.3)])
def test_time_agrees_with_the_oracle(fraction, valid):
    (rows, times), splits = world(), split(f"time:fraction={fraction},valid={valid}")
    ordered = sorted(times)
    since = ordered[len(ordered) - max(1, int(len(ordered) * fraction + 0.5))]
    before = [time for time in ordered if time < since]
    validated = before[len(before) - max(1, int(len(before) * valid + 0.5))]
    for user, item, time in zip(rows.users, rows.items, times, strict=True):
        name = "test" if time >= since else "valid" if time >= validated else "train"
        assert (user, item) in as_set(splits[name])


def test_nothing_of_train_is_later_than_what_is_held_out():
    rows, times = world()
    for spec in ("time", "time:since=2020-09-13T12:26:50Z"):
        splits = parse_rule(spec).split(rows, times, seed=0)
        at = {name: times[np.isin(rows.keys, part.keys)] for name, part in splits.items()}
        assert at["train"].max() < at["valid"].min()
        assert at["valid"].max() < at["test"].min()


def test_since_is_the_first_moment_tested_on():
    _, times = world()
    splits = split("time:since=2020-09-13T12:26:50Z")
    assert splits["test"].num_pairs == np.sum(times >= 1_600_000_010)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("newest", "Unknown rule of a split 'newest'. Known: leave-last, leave-one-out, random"),
        ("random:share=0.1", "Unknown option of split 'random' 'share'. Known: fraction."),
        ("leave-last:n=1.5", "n of split 'leave-last:n=1.5' as int; received '1.5'"),
        (
            "random:fraction=some",
            "fraction of split 'random:fraction=some' as float; received 'some'",
        ),
        ("time:fraction=0.2,since=", "since or fraction, .* received both in"),
        ("random:fraction=1", "between 0 and 1, both excluded; received 1.0"),
        ("time:valid=0", "between 0 and 1, both excluded; received 0.0"),
        ("leave-last:n=0", "at least 1 pair a user to leave out; received 0"),
        ("leave-last:n=6", "a user with at least 13 pairs to leave 6 of them"),
        ("time:since=2030-01-01", "pairs on both sides of the moment .* all before then on"),
        ("time:since=2010-01-01", "all from then on"),
        ("time:since=1600000001", "pairs of several times before the test's"),
        ("time:since=soon", "a date in ISO 8601 or Unix time as since; received 'soon'"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        split(spec)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_its_defaults(name):
    assert parse_rule(name) == RULES[name]()
    assert RULES[name].__doc__
