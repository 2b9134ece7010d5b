"""Hold-outs, seeded or by time: which pairs are kept back for validation or test.

Every pair gets a 64-bit key hashed from (seed, user, item), the last two as places in the
catalogue, and a user's pairs with the smallest keys are held out. There is no generator and so no
state: the choice is the same on every machine and NumPy version, in whatever order the pairs were
read, and one user's choice does not depend on the pairs of others in the same catalogue. By time,
a user's last pairs are held out, and the keys part those of one moment; or all pairs are parted at
one moment.

The hash is SplitMix64's output function (Steele, Lea and Flood, "Fast Splittable
Pseudorandom Number Generators", OOPSLA 2014), applied once per field. We use it as a hash
of the fields, not as the sequential generator that the paper describes.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from autosample_tf.errors import expected
from autosample_tf.interactions import Dataset, Interactions

# Below this many pairs a user keeps all of them: one to hold out would leave one to learn from.
FEWEST_PAIRS = 3

# Pairs by split, `train` and `test` and maybe `valid`, over the same users and items.
Splits = dict[str, Interactions]


def hold_out(
    interactions: Interactions, fraction: float, *, seed: int, first_user: int = 0
) -> tuple[Interactions, Interactions]:
    """Parts each user's pairs into those kept and those held out.

    A user with n pairs has n * fraction of them held out, rounded half up, but at least one
    and at most n - 1; a user with fewer than three pairs keeps them all.

    Args:
      interactions: the pairs to part.
      fraction: the share to hold out, in (0, 1).
      seed: chooses the pairs; any integer, taken modulo 2**64.
      first_user: whose pairs the first row has, where the rows are some of all users'.

    Returns:
      The pairs kept and the pairs held out, over the same users and items.

    Raises:
      InputError: if the fraction is out of range or no user has three pairs.
    """
    counts = _held_out_counts(interactions.degrees, fraction)
    if not counts.any():
        raise expected(
            f"a user with at least {FEWEST_PAIRS} pairs to hold some out from",
            received=f"{interactions.num_pairs} pairs of {interactions.num_users} users, "
            "none with as many",
            remedy="Give more pairs per user, or a split made elsewhere.",
        )
    held = _is_held(interactions, counts, None, seed=seed, first_user=first_user)
    return interactions.select(~held), interactions.select(held)


def leave_one_out(interactions: Interactions, *, seed: int, first_user: int = 0) -> Splits:
    """Holds one random pair of each user out for the test, and another one for validation.

    A user with fewer than three pairs keeps them all.

    Args:
      interactions: the pairs to part.
      seed: chooses the pairs.
      first_user: as of `hold_out`.

    Raises:
      InputError: if no user has three pairs.
    """
    return _leave(interactions, None, 1, seed=seed, first_user=first_user)


def leave_last(
    interactions: Interactions, times: np.ndarray, n: int, *, seed: int, first_user: int = 0
) -> Splits:
    """Holds each user's last n pairs out for the test, and the n before for validation.

    A user with fewer than 2 n + 1 pairs keeps them all.

    Args:
      interactions: the pairs to part.
      times: [num_pairs], larger is later; pairs of one time are in an order by the seed.
      n: how many of each, at least 1.
      seed: chooses among pairs of one time.
      first_user: as of `hold_out`.

    Raises:
      InputError: if n is out of range or no user has that many pairs.
    """
    if n < 1:
        raise expected("at least 1 pair a user to leave out", received=n, remedy="Raise n.")
    return _leave(interactions, times, n, seed=seed, first_user=first_user)


def split_by_time(
    interactions: Interactions, times: np.ndarray, fraction: float, valid_fraction: float
) -> Splits:
    """Tests on the last share of all pairs, whoever's they are.

    Pairs of one time are never parted: those of the time at the boundary are tested on.

    Args:
      interactions: the pairs to part.
      times: [num_pairs], larger is later.
      fraction: the share to test on, in (0, 1).
      valid_fraction: the share of the pairs before those that is for validation, in (0, 1).

    Raises:
      InputError: if a share is out of range or a split has no pair.
    """
    return split_at(interactions, times, _boundary(times, fraction), valid_fraction)


def split_at(
    interactions: Interactions, times: np.ndarray, since: float, valid_fraction: float
) -> Splits:
    """Tests on the pairs from a moment on; `split_by_time` says the rest."""
    before = times < since
    if before.all() or not before.any():
        side = "before" if before.all() else "from"
        raise expected(
            f"pairs on both sides of the moment that parts train and test, {since:.0f}",
            received=f"{len(times)} pairs, all {side} then on",
            remedy="Choose another moment or share, or a split that does not go by time.",
        )
    is_train = times < _boundary(times[before], valid_fraction)
    if not is_train.any():
        raise expected(
            "pairs of several times before the test's, to part validation from train",
            received="pairs of one time",
            remedy="Choose a later moment, or a split that does not go by time.",
        )
    return {
        "train": interactions.select(is_train),
        "valid": interactions.select(before & ~is_train),
        "test": interactions.select(~before),
    }


def without_seen(splits: Splits) -> Splits:
    """The splits without the pairs that an earlier one has."""
    unseen: Splits = {}
    for split, pairs in splits.items():
        seen = np.zeros(pairs.num_pairs, bool)
        for earlier in unseen.values():
            seen |= earlier.contains(pairs.users, pairs.items)
        unseen[split] = pairs.select(~seen) if seen.any() else pairs
    return unseen


def with_validation(dataset: Dataset, fraction: float, *, seed: int) -> Dataset:
    """The dataset with a validation split, carved from train where it has none.

    Args:
      dataset: returned unchanged if it has a validation split.
      fraction: the share of each user's train pairs to hold out, as in `hold_out`.
      seed: chooses the pairs.

    Raises:
      InputError: as `hold_out` does.
    """
    if dataset.valid is not None:
        return dataset
    train, valid = hold_out(dataset.train, fraction, seed=seed)
    return dataclasses.replace(dataset, train=train, valid=valid)


def _leave(
    interactions: Interactions, times: np.ndarray | None, n: int, *, seed: int, first_user: int
) -> Splits:
    """Each user's first n pairs in the order of `_is_held` for the test, n for validation."""
    fewest = 2 * n + 1
    counts = np.where(interactions.degrees < fewest, 0, n)
    if not counts.any():
        raise expected(
            f"a user with at least {fewest} pairs to leave {n} of them for validation and for "
            "the test",
            received=f"{interactions.num_pairs} pairs of {interactions.num_users} users, "
            "none with as many",
            remedy="Give more pairs per user, or another split.",
        )
    is_test = _is_held(interactions, counts, times, seed=seed, first_user=first_user)
    is_held = _is_held(interactions, 2 * counts, times, seed=seed, first_user=first_user)
    return {
        "train": interactions.select(~is_held),
        "valid": interactions.select(is_held & ~is_test),
        "test": interactions.select(is_test),
    }


def _is_held(
    interactions: Interactions,
    counts: np.ndarray,
    times: np.ndarray | None,
    *,
    seed: int,
    first_user: int,
) -> np.ndarray:
    """[num_pairs] bool: whether each pair is among those of its user to hold out.

    Args:
      interactions: the pairs to part.
      counts: [num_users], how many pairs each user gives up.
      times: [num_pairs], of which the last are held out, or None: the keys alone decide.
      seed: makes the keys.
      first_user: as of `hold_out`.
    """
    users = _user_keys(first_user, interactions.num_users, seed)
    return np.concatenate(
        [
            _is_held_of(interactions, slice(*block), users[slice(*block)], counts[slice(*block)],
                        times)
            for block in interactions.blocks()
        ]
    )  # fmt: skip


def _boundary(times: np.ndarray, fraction: float) -> float:
    """The time of the first of the last share of all times."""
    rank = len(times) - max(1, int(_rounded_share(len(times), fraction)))
    return float(np.partition(times, rank)[rank])


def _held_out_counts(degrees: np.ndarray, fraction: float) -> np.ndarray:
    """[num_users] int64: how many pairs each user gives up."""
    rounded = _rounded_share(degrees, fraction)
    return np.where(degrees < FEWEST_PAIRS, 0, np.clip(rounded, 1, degrees - 1))


def _rounded_share(counts: np.ndarray | int, fraction: float) -> np.ndarray | int:
    """The share of each count, rounded half up."""
    if not 0 < fraction < 1:
        raise expected(
            "a fraction to hold out between 0 and 1, both excluded",
            received=fraction,
            remedy="Give a share such as 0.1.",
        )
    # In floats 50 * 0.29 is 14.499…; as the fraction that was meant it rounds up, to 15.
    share = Fraction(float(fraction)).limit_denominator(10**6)
    return (counts * 2 * share.numerator + share.denominator) // (2 * share.denominator)


def _user_keys(first_user: int, num_users: int, seed: int) -> np.ndarray:
    """[num_users] uint64: a hash of (seed, user), from the first user on."""
    seeds = _splitmix64(np.array([seed % 2**64], np.uint64))
    return _splitmix64(seeds ^ np.arange(first_user, first_user + num_users, dtype=np.uint64))


def _is_held_of(
    interactions: Interactions,
    block: slice,
    keys: np.ndarray,
    counts: np.ndarray,
    times: np.ndarray | None,
) -> np.ndarray:
    """What `_is_held` tells, for the pairs of some users.

    Args:
      interactions: the pairs to part.
      block: the users whose pairs these are.
      keys: [block] uint64, `_user_keys` of them.
      counts: [block], how many pairs each of them gives up.
      times: [num_pairs] of all users, or None.
    """
    degrees = interactions.degrees[block]
    offsets = interactions.offsets[block.start : block.stop + 1]
    items = interactions.items[offsets[0] : offsets[-1]]
    users = np.repeat(np.arange(len(degrees)), degrees)
    pair_keys = _splitmix64(keys[users] ^ items.astype(np.uint64))
    # The pairs are sorted by user already, so sorting them by (user, …) moves each one
    # within its own row, and a place's distance from the row's beginning is the pair's rank.
    if times is None:
        order = np.lexsort((pair_keys, users))
    else:
        order = np.lexsort((pair_keys, -times[offsets[0] : offsets[-1]], users))
    ranks = np.arange(len(users)) - (offsets[:-1] - offsets[0])[users]
    held = np.zeros(len(users), bool)
    held[order] = ranks < counts[users]
    return held


def _splitmix64(states: np.ndarray) -> np.ndarray:
    """SplitMix64's output for each uint64 state; products wrap around at 2**64."""
    mixed = states + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
