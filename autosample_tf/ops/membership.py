"""Which (user, item) pairs are known positives, asked in the graph, exactly.

Every draw of every sampler is checked, tens of thousands a step, so the question has to
be cheap, and what costs is memory that is not in a cache. So each user has a hash table of
their own, some lines of a cache, in which a row's candidates are looked up one after another:
a cuckoo table (Pagh & Rodler 2004, "Cuckoo Hashing") with three places for an item (Fotakis et
al. 2003, "Space Efficient Hash Tables With Worst Case Constant Access Time"), which may be
nearly full. A look-up is three gathers whatever a user's degree. Hashes are multiplicative
(Dietzfelbinger et al. 1997, "A Reliable Randomized Algorithm for the Closest-Pair Problem").
`docs/performance.md` has what other ways took.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.ops.lookups import look_up, table

NO_ITEM = np.iinfo(np.int32).max  # fills rows of items up, and sorts behind them
_EMPTY = -1  # of a slot
_HASH_BITS = 32
# A hash's product with each of these odd numbers is another hash: an item's three places.
SIDES = np.array([0x00000001, 0x9E3779B1, 0x85EBCA6B], np.uint32).astype(np.int32)
_MOST_LOAD = 0.8  # three places carry .918; nearer to that they take long to find
_MAX_ROUNDS = 200


class PairSet:
    """An immutable set of (user, item) pairs with an exact, static-shape `contains`.

    Sets of the same `Interactions` share their tables: what is trained on is also what
    rankings leave out.
    """

    def __init__(self, interactions: Interactions):
        self._tables = _tables_of(interactions)

    def contains(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Whether each pair is in the set.

        Args:
          users: [batch] int32.
          items: [batch, n] int32, at least 0.

        Returns:
          [batch, n] bool.
        """
        tables = self._tables
        firsts = tf.gather(tables.firsts, users)[:, None]
        shifts = look_up(tables.shifts, users)[:, None]
        multipliers = look_up(tables.multipliers, users)[:, None]
        last_slot = tf.bitwise.left_shift(1, _HASH_BITS - shifts) - 1
        hashes = items * multipliers
        asked = tf.cast(items, tables.slots.dtype)

        def is_there(side: np.int32) -> tf.Tensor:
            slots = tf.bitwise.bitwise_and(tf.bitwise.right_shift(hashes * side, shifts), last_slot)
            found = tf.gather(tables.slots, firsts + tf.cast(slots, firsts.dtype))
            return found == asked

        return is_there(SIDES[0]) | is_there(SIDES[1]) | is_there(SIDES[2])

    def of_rows(self, rows: tf.Tensor) -> PairSet:
        """What knows the users of some rows of a batch [n]: this, which knows all."""
        return self


class BatchRows:
    """The positives that the rows of a batch bring along, asked as a `PairSet` is.

    A binary search of a row's own positives: as many look-ups as their number has bits.

    Args:
      rows: [batch, most] int32, ascending, filled up with `NO_ITEM`.
    """

    def __init__(self, rows: tf.Tensor):
        self._rows = rows

    def contains(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Whether each item is among its row's positives.

        Args:
          users: [batch] int32, the batch's own: the rows are theirs.
          items: [batch, n] int32.

        Returns:
          [batch, n] bool.
        """
        users.shape.assert_is_compatible_with(self._rows.shape[:1])
        places = tf.searchsorted(self._rows, items)
        last = self._rows.shape[1] - 1
        return tf.gather(self._rows, tf.minimum(places, last), batch_dims=1) == items

    def of_rows(self, rows: tf.Tensor) -> BatchRows:
        """What knows the users of some rows of the batch [n]."""
        return BatchRows(tf.gather(self._rows, rows))


TrainPairs = PairSet | BatchRows


class _InGraph(NamedTuple):
    """The arrays of `HashTables` as tensors."""

    slots: tf.Tensor
    firsts: tf.Tensor
    shifts: tf.Tensor
    multipliers: tf.Tensor


_TABLES: weakref.WeakKeyDictionary[Interactions, _InGraph] = weakref.WeakKeyDictionary()


def _tables_of(interactions: Interactions) -> _InGraph:
    """The tables of these pairs, built when they are first asked for."""
    if interactions not in _TABLES:
        tables = build_hash_tables(interactions)
        _TABLES[interactions] = _InGraph(
            slots=table(tables.slots),
            firsts=table(tables.firsts),
            shifts=table(tables.shifts),
            multipliers=table(tables.multipliers),
        )
    return _TABLES[interactions]


@dataclasses.dataclass(frozen=True, eq=False)
class HashTables:
    """Each user's items in a hash table of their own, the tables one after another.

    An item's hash is its product with the user's multiplier, modulo 2^32, and its places are
    the highest bits of that hash's products with `SIDES`.

    Attributes:
      slots: [num_slots] int32: an item, or -1.
      firsts: [num_users] int64: the first slot of each user, who has a power of 2 of them.
      shifts: [num_users] int32: 32 less the exponent of that power, in [1, 31].
      multipliers: [num_users] int32, odd.
    """

    slots: np.ndarray
    firsts: np.ndarray
    shifts: np.ndarray
    multipliers: np.ndarray

    def places(self, users: np.ndarray, items: np.ndarray, sides: np.ndarray) -> np.ndarray:
        """[n] int64: the slot of each user's item on each of the sides [n]."""
        hashes = items * self.multipliers[users] * SIDES[sides]
        shifts = self.shifts[users]
        return self.firsts[users] + (hashes.view(np.uint32) >> shifts.view(np.uint32))

    def fill(self, train: Interactions, users: np.ndarray, rng: np.random.Generator) -> None:
        """Puts all items of the users [n] in, with other multipliers where they do not fit."""
        while len(users):
            drawn = rng.integers(0, 2**_HASH_BITS, len(users), np.uint32) | np.uint32(1)
            self.multipliers[users] = drawn.view(np.int32)
            users = self._without_a_place(*_pairs_of(train, users), rng)
            for user in users:
                self.slots[self.firsts[user] :][: 2 ** (_HASH_BITS - self.shifts[user])] = _EMPTY

    def _without_a_place(
        self, users: np.ndarray, items: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Puts pairs [n] in, distinct and none of them in yet; the users of those that, after
        many moves, have none.

        Every pair goes to one of its places at random. What it finds there goes on, and of
        several that come to one place all but the last.
        """
        for _ in range(_MAX_ROUNDS):
            if not len(items):
                break
            places = self.places(users, items, rng.integers(0, len(SIDES), len(items)))
            before = self.slots[places]
            self.slots[places] = items
            stays = self.slots[places] == items
            evicts = stays & (before != _EMPTY)
            users = np.concatenate([users[~stays], users[evicts]])
            items = np.concatenate([items[~stays], before[evicts]])
        return np.unique(users)


def build_hash_tables(train: Interactions) -> HashTables:
    """Places each pair, its user's table being full to 0.8 at most.

    Nothing besides the tables is as large as the pairs, which are placed some users at a time.
    """
    fewest = np.maximum(train.degrees, 1) / _MOST_LOAD
    bits = np.maximum(1, np.ceil(np.log2(fewest)).astype(np.int32))
    ends = np.cumsum(2 ** bits.astype(np.int64))
    tables = HashTables(
        slots=np.full(ends[-1] if len(ends) else 1, _EMPTY, np.int32),
        firsts=np.append(np.int64(0), ends)[: len(bits)],
        shifts=_HASH_BITS - bits,
        multipliers=np.ones(len(bits), np.int32),
    )
    rng = np.random.default_rng(0)  # any multipliers do: they never reach a result
    for first, last in train.blocks():
        tables.fill(train, np.arange(first, last), rng)
    return tables


def _pairs_of(train: Interactions, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The users' pairs, users [n] int64 and items [n] int32."""
    degrees = train.degrees[users]
    before = np.cumsum(degrees) - degrees
    entries = np.arange(degrees.sum()) + np.repeat(train.offsets[users] - before, degrees)
    return np.repeat(users, degrees), train.items[entries]
