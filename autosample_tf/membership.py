"""Which (user, item) pairs are known positives, asked in the graph, exactly.

Every draw of every sampler is checked, tens of thousands a step, so the question has to
be cheap: a cuckoo hash table (Pagh & Rodler 2004, "Cuckoo Hashing") keeps each pair in
one of two slots, and a look-up is two gathers whatever a user's degree. What costs is
memory that is not in a cache, so a slot holds no key but a tag: the hash is a bijection, its
slot and its tag together are the key (quotienting; Knuth, The Art of Computer Programming,
volume 3, exercise 6.4-13), and four bytes do. Measured on 65,536 look-ups in 810,128 pairs
on two cores: slots of whole keys took a sixth of the time of a binary search of the sorted
pairs, slots of tags take less than half of theirs.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions

NO_ITEM = np.iinfo(np.int32).max  # fills rows of items up, and sorts behind them
_MAX_ROUNDS = 500
_TRIES_OF_A_SIZE = 4


class PairSet:
    """An immutable set of (user, item) pairs with an exact, static-shape `contains`.

    Sets of the same `Interactions` share their table: what is trained on is also what
    rankings leave out.
    """

    def __init__(self, interactions: Interactions):
        self._num_items = interactions.num_items
        self._table = _table_of(interactions)

    def contains(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Whether each pair is in the set.

        Args:
          users: [batch] int32.
          items: [batch, n] int32.

        Returns:
          [batch, n] bool.
        """
        dtype = self._table.multipliers.dtype
        keys = tf.cast(users, dtype)[:, None] * self._num_items + tf.cast(items, dtype)
        first, second = (self._is_in_its_slot(keys, side) for side in range(2))
        return first | second

    def _is_in_its_slot(self, keys: tf.Tensor, side: int) -> tf.Tensor:
        table = self._table
        hashes = keys * table.multipliers[side]
        shift, mask = (hashes.dtype.as_numpy_dtype(n) for n in (table.tag_bits, table.slots - 1))
        slots = tf.bitwise.bitwise_and(tf.bitwise.right_shift(hashes, shift), mask)
        tags = tf.gather(table.tags[side], slots)
        return tags == tf.cast(hashes, tags.dtype)


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


@dataclasses.dataclass(frozen=True, eq=False)
class _TableInGraph:
    """A `CuckooTable` whose tags are tensors, [slots] of each side."""

    tags: list[tf.Tensor]
    multipliers: np.ndarray
    tag_bits: int
    slots: int


_TABLES: weakref.WeakKeyDictionary[Interactions, _TableInGraph] = weakref.WeakKeyDictionary()


def _table_of(interactions: Interactions) -> _TableInGraph:
    """The table of these pairs, built when it is first asked for."""
    if interactions not in _TABLES:
        table = build_cuckoo_table(
            lambda: (interactions.keys_of(*block) for block in interactions.blocks()),
            interactions.num_pairs,
            interactions.num_users * interactions.num_items,
        )
        tags = [tf.constant(side) for side in table.tags]
        _TABLES[interactions] = _TableInGraph(tags, table.multipliers, table.tag_bits, table.slots)
    return _TABLES[interactions]


@dataclasses.dataclass(frozen=True, eq=False)
class CuckooTable:
    """Keys below 2^(slot bits + tag bits), each in its slot of one of two sides.

    A side's hash is the key times its multiplier, of which `tag_bits` and, above them, the
    bits of the slot count: as the multiplier is odd, no other key has both in common.

    Attributes:
      tags: [2, slots] int32 or int64: the lowest bits of the hash of the key in each
        slot. They reach at least one bit into the slot's, which is wrong where a slot is empty.
      multipliers: [2] int32 or int64, wide enough for the keys.
      tag_bits: where a hash's slot begins.
    """

    tags: np.ndarray
    multipliers: np.ndarray
    tag_bits: int

    @property
    def slots(self) -> int:
        """Of a side, a power of 2."""
        return self.tags.shape[1]

    def place(self, keys: np.ndarray) -> bool:
        """Puts keys [n] int64, distinct and none of them in it yet, into the table.

        Returns:
          Whether there was a slot for each. If not, some are in none.
        """
        pending, side = keys.astype(self.multipliers.dtype), 0
        for _ in range(_MAX_ROUNDS):
            if not len(pending):
                return True
            pending = self._place_where_they_may(pending, side)
            side = 1 - side
        return False

    def _place_where_they_may(self, keys: np.ndarray, side: int) -> np.ndarray:
        """Puts each key into its slot of one side; the keys that have none then.

        Those are the keys that were there, and of several for one slot all but the last.
        """
        hashes = keys * self.multipliers[side]
        slots = (hashes >> self.tag_bits) & (self.slots - 1)
        tags, own = self.tags[side], hashes.astype(self.tags.dtype)
        before = tags[slots]
        tags[slots] = own
        stays = tags[slots] == own
        evicted = stays & (((before >> self.tag_bits) ^ slots) & 1 == 0)
        return np.concatenate([keys[~stays], self._keys_in(slots[evicted], before[evicted], side)])

    def _keys_in(self, slots: np.ndarray, tags: np.ndarray, side: int) -> np.ndarray:
        """The keys whose tags these were, by the inverse of the multiplier."""
        bits = 8 * self.multipliers.itemsize
        inverse = np.array(pow(int(self.multipliers[side]), -1, 2**bits), f"uint{bits}")
        low = tags.astype(slots.dtype) & (2**self.tag_bits - 1)
        hashes = (slots << self.tag_bits) | low
        keys = hashes * inverse.astype(slots.dtype)
        return keys & (self.slots * 2**self.tag_bits - 1)


def build_cuckoo_table(
    blocks: Callable[[], Iterable[np.ndarray]], num_keys: int, most: int
) -> CuckooTable:
    """Places each key, at a load of at most 0.4, on dense pairs less.

    Nothing besides the table is as large as the keys: what a slot's key was is told from its
    tag when another one takes the slot.

    Args:
      blocks: gives the keys, [n] int64 at a time, distinct, in [0, most); called again in the
        rare case that they do not fit.
      num_keys: of all blocks.
      most: at most 2^63.
    """
    fewest_bits = max(2, int(np.ceil(np.log2(max(num_keys, 1) / 0.8))))
    rng = np.random.default_rng(0)  # any multipliers do: they never reach a result
    tried = 0
    while True:
        # Dense pairs (MovieLens-1M) may fit with no multipliers at a size that others fit: the
        # table then grows, at last to a slot for each possible key.
        slot_bits = fewest_bits + tried // _TRIES_OF_A_SIZE
        tag_bits = max(0, (most - 1).bit_length() - slot_bits)
        dtype = np.int32 if slot_bits + tag_bits < 32 else np.int64
        multipliers = rng.integers(-(2**63), 2**63 - 1, size=2, dtype=np.int64).astype(dtype) | 1
        table = CuckooTable(_empty_tags(2**slot_bits, tag_bits), multipliers, tag_bits)
        if all(table.place(keys) for keys in blocks()):
            return table
        tried += 1


def _empty_tags(num_slots: int, tag_bits: int) -> np.ndarray:
    """[2, num_slots]: in each slot a tag of another slot."""
    dtype = np.int32 if tag_bits < 32 else np.int64
    slots = np.arange(num_slots, dtype=np.int64) ^ 1
    slots <<= tag_bits
    return np.tile(slots.astype(dtype), (2, 1))
