"""Seeded hold-outs: which of a user's pairs are kept back for validation or test.

Every pair gets a 64-bit key hashed from (seed, user, item), and a user's pairs with the
smallest keys are held out. There is no generator and so no state: the choice is the same on
every machine and NumPy version, in whatever order the pairs were read, and one user's
choice does not depend on the other users.

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


def hold_out(
    interactions: Interactions, fraction: float, *, seed: int
) -> tuple[Interactions, Interactions]:
    """Parts each user's pairs into those kept and those held out.

    A user with n pairs has n * fraction of them held out, rounded half up, but at least one
    and at most n - 1; a user with fewer than three pairs keeps them all.

    Args:
      interactions: the pairs to part.
      fraction: the share to hold out, in (0, 1).
      seed: chooses the pairs; any integer, taken modulo 2**64.

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
    users = _user_keys(interactions.num_users, seed)
    held = np.concatenate(
        [
            _is_held(interactions, slice(*block), users[slice(*block)], counts[slice(*block)])
            for block in interactions.blocks()
        ]
    )
    return interactions.select(~held), interactions.select(held)


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


def _held_out_counts(degrees: np.ndarray, fraction: float) -> np.ndarray:
    """[num_users] int64: how many pairs each user gives up."""
    if not 0 < fraction < 1:
        raise expected(
            "a fraction to hold out between 0 and 1, both excluded",
            received=fraction,
            remedy="Give a share such as 0.1.",
        )
    # In floats 50 * 0.29 is 14.499…; as the fraction that was meant it rounds up, to 15.
    share = Fraction(float(fraction)).limit_denominator(10**6)
    halves = 2 * share.denominator
    rounded = (degrees * 2 * share.numerator + share.denominator) // halves
    return np.where(degrees < FEWEST_PAIRS, 0, np.clip(rounded, 1, degrees - 1))


def _user_keys(num_users: int, seed: int) -> np.ndarray:
    """[num_users] uint64: a hash of (seed, user)."""
    seeds = _splitmix64(np.array([seed % 2**64], np.uint64))
    return _splitmix64(seeds ^ np.arange(num_users, dtype=np.uint64))


def _is_held(
    interactions: Interactions, block: slice, keys: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """[pairs of the block] bool: whether each pair is among those of its user to hold out.

    Args:
      interactions: the pairs to part.
      block: the users whose pairs these are.
      keys: [block] uint64, `_user_keys` of them.
      counts: [block], how many pairs each of them gives up.
    """
    degrees = interactions.degrees[block]
    offsets = interactions.offsets[block.start : block.stop + 1]
    items = interactions.items[offsets[0] : offsets[-1]]
    users = np.repeat(np.arange(len(degrees)), degrees)
    pair_keys = _splitmix64(keys[users] ^ items.astype(np.uint64))
    # The pairs are sorted by user already, so sorting them by (user, key) moves each one
    # within its own row, and a place's distance from the row's beginning is the pair's rank.
    order = np.lexsort((pair_keys, users))
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
